//! Write-out: from memory to the disk, in the background and on demand, in large batches.
//!
//! The order is always: data of files, flushed; then the log; then metadata in place. Whoever
//! wants something durable asks for it and waits; the work itself is done by tasks of the mount,
//! so that an impatient caller interrupts nothing. The mutex is held only to take what is to be
//! written and to note that it was.

mod data;
mod metadata;
mod reap;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::future::{Either, select};
use tokio::sync::Notify;

use crate::{error::Error, fs::Fs, layout::geometry::InodeNo, log::RING};

/// How often the background work looks whether something became due.
const BEAT: Duration = Duration::from_secs(1);
/// How long orphans gather before they are freed together.
const GATHER: Duration = Duration::from_millis(50);
/// How long a failed request to the disk rests before it is made again.
pub(crate) const REST: Duration = Duration::from_millis(200);
/// Files and bytes of one write-back job.
const JOB_FILES: usize = 4096;
const JOB_BYTES: u64 = 32 << 20;

/// What the background tasks wait for, and what others wait for of them.
#[derive(Default)]
pub(crate) struct Signals {
    /// Push the log.
    pub push: Notify,
    /// Write data back.
    pub data: Notify,
    /// Write metadata in place.
    pub home: Notify,
    /// Free orphans.
    pub reap: Notify,
    /// Something settled: a push, a write-back, a revocation.
    pub settled: Notify,
}

/// Which signal a task waits for.
type Which = fn(&Signals) -> &Notify;

impl Fs {
    /// Starts the background tasks. They end with the mount.
    pub(crate) fn start_write_out(self: &Arc<Self>) {
        self.spawn_loop("log push", |s| &s.push, |fs| fs.config.log_push_after, push_due);
        self.spawn_loop("data write-back", |s| &s.data, |_| BEAT, data_due);
        self.spawn_loop("metadata write-out", |s| &s.home, |_| BEAT, home_due);
        self.spawn_loop("orphan reaper", |s| &s.reap, |_| BEAT, reap_due);
    }

    /// A task that does `work` whenever its signal comes or `pause` has passed.
    fn spawn_loop<F>(
        self: &Arc<Self>,
        name: &'static str,
        which: Which,
        pause: fn(&Self) -> Duration,
        work: fn(Arc<Self>, bool) -> F,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        let weak: Weak<Self> = Arc::downgrade(self);
        let signals = Arc::clone(&self.signals);
        let world = self.world.clone();
        let pause = pause(self);
        self.world.spawn(name, async move {
            loop {
                let called = {
                    let notified = which(&signals).notified();
                    futures_util::pin_mut!(notified);
                    match select(notified, world.clock.sleep(pause)).await {
                        Either::Left(_) => true,
                        Either::Right(_) => false,
                    }
                };
                let Some(fs) = weak.upgrade() else { return };
                if fs.state.lock().dead.is_some() {
                    return;
                }
                work(fs, called).await;
            }
        });
    }

    /// Pushes the log: on return everything that was changed before the call is in it, durably.
    /// [`Error::NoSpace`] if the disk has no room for it at present; it stays to be pushed.
    pub(crate) async fn push(&self) -> Result<(), Error> {
        let want = {
            let state = self.state.lock();
            if state.pushed >= state.serial {
                return state.dead.clone().map_or(Ok(()), Err);
            }
            state.serial
        };
        self.signals.push.notify_one();
        let mut full = false;
        self.settled(|state| {
            full = state.full && state.pushed < want;
            full || state.pushed >= want
        })
        .await?;
        if full { Err(Error::NoSpace) } else { Ok(()) }
    }

    /// The disk has no room for metadata. Nothing is lost: whoever waits for it is told, write-out goes on
    /// trying, and what is deleted meanwhile makes room.
    pub(crate) fn note_full(&self) {
        let was = std::mem::replace(&mut self.state.lock().full, true);
        if !was {
            tracing::warn!("the disk is full: metadata waits for space; delete something");
        }
        self.signals.settled.notify_waiters();
    }

    /// Writes everything in the log in place: on return nothing that was in the log before the
    /// call is still missing there.
    pub(crate) async fn write_home(&self) -> Result<(), Error> {
        let fs = self.me.upgrade().ok_or(Error::Closed)?;
        let (done, wait) = tokio::sync::oneshot::channel();
        self.world.spawn("metadata write-out", async move {
            let _ = done.send(fs.home_once().await);
        });
        wait.await.unwrap_or(Err(Error::Closed))
    }

    /// Asks the disk until it answers or the mount is dead: what is written back has no caller who
    /// could try again.
    pub(crate) async fn insist<T, F>(&self, ask: impl FnMut() -> F + Send) -> Result<T, Error>
    where
        F: Future<Output = Result<T, blockstore::Error>> + Send,
    {
        self.ask_again(false, ask).await
    }

    /// As [`Fs::insist`], and waits for space, too: for metadata, of which the log is full otherwise.
    async fn insist_on_space<T, F>(&self, ask: impl FnMut() -> F + Send) -> Result<T, Error>
    where
        F: Future<Output = Result<T, blockstore::Error>> + Send,
    {
        self.ask_again(true, ask).await
    }

    async fn ask_again<T, F>(
        &self,
        for_good: bool,
        mut ask: impl FnMut() -> F + Send,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, blockstore::Error>> + Send,
    {
        loop {
            let error = match ask().await {
                Ok(answer) => {
                    if for_good {
                        self.state.lock().full = false;
                    }
                    return Ok(answer);
                }
                Err(error) => error,
            };
            match error {
                blockstore::Error::Stalled { .. } | blockstore::Error::Unreachable => {
                    tracing::warn!(%error, "the disk does not answer; write-out tries again");
                }
                blockstore::Error::NoSpace if for_good => self.note_full(),
                blockstore::Error::Fenced(_) => {
                    self.fail(Error::Expired);
                    return Err(Error::Expired);
                }
                error => return Err(error.into()),
            }
            if let Some(error) = &self.state.lock().dead {
                return Err(error.clone());
            }
            self.world.clock.sleep(REST).await;
        }
    }

    /// The files whose data is due, oldest first, as much as makes a job.
    fn due_data(&self, called: bool) -> Vec<InodeNo> {
        let now = self.world.clock.now();
        let state = self.state.lock();
        let pressure = state.dirty_bytes > self.config.cache_bytes / 4;
        let mut bytes = 0;
        let mut due = Vec::new();
        for (ino, since) in state.dirty.values() {
            let old = now.since(*since) >= self.config.data_push_after;
            if !(old || called && pressure) || due.len() == JOB_FILES || bytes > JOB_BYTES {
                break;
            }
            let Some(slot) = state.inodes.get(ino) else { continue };
            if !slot.writing && slot.failed.is_none() {
                bytes += slot.data.dirty();
                due.push(*ino);
            }
        }
        due
    }
}

async fn push_due(fs: Arc<Fs>, _called: bool) {
    if let Err(error) = fs.push_once().await {
        fs.fail(error);
    }
}

async fn data_due(fs: Arc<Fs>, called: bool) {
    {
        let mut guard = fs.state.lock();
        let state = &mut *guard;
        let locks = &fs.locks;
        if !state.gates.is_empty() {
            let held = locks.all_held();
            state.gates.sweep(|span, least| {
                held.iter().any(|held| held.span.overlaps(span) && held.mode >= least)
            });
        }
    }
    while fs.state.lock().sweep_clock() {}
    fs.settle_space();
    loop {
        let due = fs.due_data(called);
        if due.is_empty() {
            break;
        }
        // A file that failed keeps its error for its owner and is left alone until it is told.
        if fs.write_back(due).await.is_err() {
            break;
        }
    }
    fs.signals.settled.notify_waiters();
}

async fn home_due(fs: Arc<Fs>, called: bool) {
    let used = fs.log().map_or(0, |log| log.used());
    let due = {
        let mut state = fs.state.lock();
        state.home_beats += 1;
        let old = state.home_beats >= fs.config.data_push_after.as_secs().max(1);
        let some = !state.home.is_empty();
        let due = some && (called || old) || used > RING / 4;
        if due || !some {
            state.home_beats = 0;
        }
        due
    };
    if due && let Err(error) = fs.home_once().await {
        fs.fail(error);
    }
}

async fn reap_due(fs: Arc<Fs>, called: bool) {
    if called {
        fs.world.clock.sleep(GATHER).await;
    }
    let idle = {
        let mut state = fs.state.lock();
        let now = fs.world.clock.now();
        let again: Vec<InodeNo> =
            state.elsewhere.extract_if(.., |_, due| *due <= now).map(|(ino, _)| ino).collect();
        state.orphans.extend(again);
        state.orphans.is_empty() && state.trims.is_empty()
    };
    if !idle && let Err(error) = fs.reap_once().await {
        tracing::warn!(%error, "orphans were not freed; trying again");
    }
}
