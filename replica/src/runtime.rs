//! What the groups of one process share: the log on disk with its writer thread, and one timer.
//!
//! The thread takes all persists that wait, of whichever groups, makes them durable with one write
//! and one sync, and reports the last of each group. Group commit comes of itself: what arrives
//! during a sync shares the next one. A failed write or sync stops all groups; nothing is tried
//! again. What the groups do is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use raft::{Checkpoint, HardState, Index, Persist, Position, Sequence};
use tokio::sync::{Notify, oneshot};
use wire::{ClusterId, NodeId};
use world::{Disk, File, OpenMode, Time, World};

use crate::{
    checkpoint::Files,
    config::GroupId,
    error::Error,
    line::Together,
    log::{Log, Owner, Recovered},
};

/// A group, as the thread and the timer see it.
pub(crate) trait Member: Send + Sync {
    /// Everything up to here is durable.
    fn persisted(&self, sequence: Sequence);
    /// This checkpoint was received whole, and is not what was announced.
    fn damaged(&self, checkpoint: Checkpoint);
    /// The disk failed.
    fn failed(&self, error: &Error);
    /// Its old entries hold up the others: a checkpoint is wanted.
    fn crowded(&self);
    /// The time that it asked for has come.
    fn wake(&self);
}

pub(crate) enum Work {
    Persist(Persist),
    /// The protocol needs no entries up to here any more.
    Trim(Index),
    /// A checkpoint stands for the entries up to here.
    Cover(Index),
    /// This node takes part from now on.
    Found(Vec<NodeId>, HardState, oneshot::Sender<Result<(), Error>>),
    /// The entries contradict the checkpoint, which counts.
    Reset(Position, oneshot::Sender<Result<(), Error>>),
}

/// A group's place in the runtime.
struct Place {
    member: Weak<dyn Member>,
    files: Files,
    due: Arc<AtomicU64>,
}

#[derive(Default)]
struct Jobs {
    waiting: Vec<(GroupId, Work)>,
    stop: bool,
}

/// The log and the timer of one process, for any number of groups. Cheap to clone; the thread ends
/// when the last clone and the last [`crate::Host`] on it are gone.
#[derive(Clone)]
pub struct Runtime(Arc<Handle>);

struct Handle(Arc<Inner>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct Inner {
    world: World,
    owner: Owner,
    dir: PathBuf,
    places: Mutex<BTreeMap<GroupId, Place>>,
    /// What the log held of groups that were not opened yet.
    recovered: Mutex<BTreeMap<GroupId, Recovered>>,
    opened: Mutex<BTreeSet<GroupId>>,
    /// Why the log could not be used, if it was set aside.
    damage: Option<String>,
    jobs: Mutex<Jobs>,
    more: Condvar,
    bytes: AtomicU64,
    /// When the timer will wake.
    armed: AtomicU64,
    sooner: Notify,
    ended: AtomicBool,
    closed: Notify,
}

impl Runtime {
    /// Opens the log in `dir`, made if missing, for node `me` and all groups that it will host. With
    /// `peers`, a log that is damaged is moved aside, and the node is rebuilt by the others.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::File`] name the file.
    pub async fn open(
        world: &World,
        cluster: ClusterId,
        me: NodeId,
        dir: &Path,
        peers: bool,
    ) -> Result<Self, Error> {
        let owner = Owner { cluster, node: me };
        let lock = lock(world, dir).await?;
        let (disk, place) = (world.disk.clone(), dir.to_owned());
        let opened = world.blocking(move || open(&disk, &place, owner, peers)).await?;
        let (log, recovered, damage) = opened;
        let inner = Arc::new(Inner {
            world: world.clone(),
            owner,
            dir: dir.to_owned(),
            places: Mutex::default(),
            recovered: Mutex::new(recovered),
            opened: Mutex::default(),
            damage,
            jobs: Mutex::default(),
            more: Condvar::new(),
            bytes: AtomicU64::new(log.bytes()),
            armed: AtomicU64::new(0),
            sooner: Notify::new(),
            ended: AtomicBool::new(false),
            closed: Notify::new(),
        });
        let thread = inner.clone();
        world.tasks.thread("raft log", Box::new(move || thread.run(log, lock)));
        let timer = inner.clone();
        world.spawn("raft timer", async move { timer.run_timer().await });
        Ok(Self(Arc::new(Handle(inner))))
    }

    /// Ends the thread and waits until the files are closed. The groups must have been stopped.
    pub async fn stop(&self) {
        let inner = &self.0.0;
        inner.stop();
        loop {
            let closed = inner.closed.notified();
            if inner.ended.load(Ordering::Acquire) {
                return;
            }
            // The thread may end between the look and the wait: look again soon.
            let soon = inner.world.clock.now() + Duration::from_millis(20);
            let _ = inner.world.until(soon, closed).await;
        }
    }

    /// Why the log was set aside at the start, if it was: every group must be rebuilt then.
    #[must_use]
    pub fn damage(&self) -> Option<&str> {
        self.0.0.damage.as_deref()
    }

    /// Bytes of log on disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.0.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.0.0.dir
    }

    pub(crate) fn owner(&self) -> Owner {
        self.0.0.owner
    }

    /// What the log held of a group.
    ///
    /// # Errors
    /// If the group was opened before.
    pub(crate) fn take(&self, group: GroupId) -> Result<Recovered, Error> {
        if !self.0.0.opened.lock().insert(group) {
            return Err(Error::Refused(format!(
                "group {group} was opened in this process before: open its directory anew"
            )));
        }
        Ok(self.0.0.recovered.lock().remove(&group).unwrap_or_default())
    }

    /// Has the thread do something for a group that is not attached yet.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) async fn prepare(
        &self,
        group: GroupId,
        work: impl FnOnce(oneshot::Sender<Result<(), Error>>) -> Work,
    ) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.push(group, work(reply));
        let ended = || Err(Error::Stopped("the log has ended".to_owned()));
        answer.await.unwrap_or_else(|_| ended())
    }

    /// Joins a group in; the number is the time at which it wants to be woken.
    pub(crate) fn attach(
        &self,
        group: GroupId,
        member: Weak<dyn Member>,
        files: Files,
    ) -> Arc<AtomicU64> {
        let due = Arc::new(AtomicU64::new(Time::NEVER.0));
        self.0.0.places.lock().insert(group, Place { member, files, due: due.clone() });
        due
    }

    /// A group takes no part any more. What waits of it is not written: it was not acknowledged, so
    /// this is no different from a crash.
    pub(crate) fn detach(&self, group: GroupId) {
        self.0.0.places.lock().remove(&group);
    }

    pub(crate) fn push(&self, group: GroupId, work: Work) {
        self.0.0.jobs.lock().waiting.push((group, work));
        self.0.0.more.notify_one();
    }

    /// A group wants to be woken at `due`, which it has noted.
    pub(crate) fn arm(&self, due: Time) {
        if due.0 < self.0.0.armed.load(Ordering::SeqCst) {
            self.0.0.sooner.notify_one();
        }
    }
}

impl Inner {
    fn stop(&self) {
        self.jobs.lock().stop = true;
        self.more.notify_one();
        self.sooner.notify_one();
    }

    /// What waits; `None` at the end.
    fn take(&self) -> Option<Vec<(GroupId, Work)>> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.stop {
                return None;
            }
            if !jobs.waiting.is_empty() {
                return Some(std::mem::take(&mut jobs.waiting));
            }
            self.more.wait(&mut jobs);
        }
    }

    /// The body of the thread.
    fn run(self: Arc<Self>, mut log: Log, lock: Arc<dyn File>) {
        while let Some(jobs) = self.take() {
            let written = self.write(&mut log, jobs);
            self.bytes.store(log.bytes(), Ordering::Relaxed);
            if let Err(error) = written {
                tracing::error!(%error, "the log cannot be written");
                let places = std::mem::take(&mut *self.places.lock());
                for member in places.values().filter_map(|place| place.member.upgrade()) {
                    member.failed(&error);
                }
                self.jobs.lock().stop = true;
            }
        }
        // Before the ending is said: then the directory can be opened again.
        drop((log, lock));
        self.jobs.lock().waiting.clear();
        self.ended.store(true, Ordering::Release);
        self.closed.notify_waiters();
        self.sooner.notify_one();
    }

    fn write(&self, log: &mut Log, jobs: Vec<(GroupId, Work)>) -> Result<(), Error> {
        let mut batch = Batch::default();
        let mut sweep = false;
        for (group, work) in jobs {
            match work {
                Work::Trim(index) => {
                    log.trim(group, index);
                    sweep = true;
                }
                Work::Cover(index) => {
                    log.cover(group, index);
                    sweep = true;
                }
                Work::Found(voters, hard, reply) => {
                    batch.flush(log)?;
                    // Nobody waits any more if the opening was given up.
                    let _ = reply.send(log.found(group, voters, hard));
                }
                Work::Reset(position, reply) => {
                    batch.flush(log)?;
                    let _ = reply.send(log.reset(group, position));
                }
                Work::Persist(persist) => self.persist(log, &mut batch, group, persist)?,
            }
        }
        batch.flush(log)?;
        for (group, sequence) in batch.done {
            if let Some(member) = self.member(group) {
                member.persisted(sequence);
            }
        }
        if sweep {
            for group in log.sweep()? {
                if let Some(member) = self.member(group) {
                    member.crowded();
                }
            }
        }
        Ok(())
    }

    /// Adds a persist to the batch; what belongs before it on disk is written first: term and vote,
    /// then pieces of a checkpoint, then the checkpoint, then the log that it empties.
    fn persist(
        &self,
        log: &mut Log,
        batch: &mut Batch,
        group: GroupId,
        mut persist: Persist,
    ) -> Result<(), Error> {
        let Some((member, files)) = self.place(group) else { return Ok(()) };
        if !persist.chunks.is_empty() || persist.checkpoint.is_some() {
            let hard = persist.hard.take();
            batch.waiting.push((group, Persist { hard, ..Persist::default() }));
            batch.flush(log)?;
            let chunks = std::mem::take(&mut persist.chunks);
            if !files.receive(&chunks)?
                && let Some(chunk) = chunks.last()
            {
                tracing::error!(%group, "a received checkpoint fails its checksum");
                member.damaged(chunk.checkpoint.clone());
            }
            if let Some(checkpoint) = &persist.checkpoint {
                files.install(checkpoint)?;
                log.cover(group, checkpoint.last.index);
            }
        }
        batch.done.insert(group, persist.sequence);
        batch.waiting.push((group, persist));
        Ok(())
    }

    fn place(&self, group: GroupId) -> Option<(Arc<dyn Member>, Files)> {
        let places = self.places.lock();
        let place = places.get(&group)?;
        Some((place.member.upgrade()?, place.files.clone()))
    }

    fn member(&self, group: GroupId) -> Option<Arc<dyn Member>> {
        self.place(group).map(|(member, _)| member)
    }

    /// Wakes the groups whose time has come, until the end: one timer for all of them.
    async fn run_timer(&self) {
        loop {
            if self.jobs.lock().stop {
                return;
            }
            self.armed.store(Time::NEVER.0, Ordering::SeqCst);
            let due = self.earliest();
            self.armed.store(due, Ordering::SeqCst);
            if self.earliest() < due {
                continue;
            }
            let sleep = self.world.clock.sleep_until(Time(due));
            let sooner = std::pin::pin!(self.sooner.notified());
            futures_util::future::select(sleep, sooner).await;
            let now = self.world.clock.now();
            let _beat = Together::begin();
            for member in self.due(now) {
                member.wake();
            }
        }
    }

    fn earliest(&self) -> u64 {
        let places = self.places.lock();
        let dues = places.values().map(|place| place.due.load(Ordering::SeqCst));
        dues.min().unwrap_or(Time::NEVER.0)
    }

    fn due(&self, now: Time) -> Vec<Arc<dyn Member>> {
        let places = self.places.lock();
        let due = places.values().filter(|place| place.due.load(Ordering::SeqCst) <= now.0);
        due.filter_map(|place| place.member.upgrade()).collect()
    }
}

/// Persists that share a write and a sync.
#[derive(Default)]
struct Batch {
    waiting: Vec<(GroupId, Persist)>,
    /// The last of each group.
    done: BTreeMap<GroupId, Sequence>,
}

impl Batch {
    fn flush(&mut self, log: &mut Log) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        log.append(self.waiting.iter().map(|(group, persist)| (*group, persist)))?;
        self.waiting.clear();
        Ok(())
    }
}

/// Takes the directory for this process; waits a little for the thread of a runtime that was just
/// dropped.
async fn lock(world: &World, dir: &Path) -> Result<Arc<dyn File>, Error> {
    let patience = world.clock.now() + Duration::from_secs(2);
    let (disk, made) = (world.disk.clone(), dir.to_owned());
    let made = world.blocking(move || disk.create_dir_all(&made)).await;
    made.map_err(|error| Error::file(dir, &error))?;
    let path = dir.join("lock");
    let lock = world.disk.open(&path, OpenMode::Create);
    let lock = lock.map_err(|error| Error::file(&path, &error))?;
    while let Err(error) = lock.lock() {
        if error.kind() != io::ErrorKind::WouldBlock || world.clock.now() > patience {
            let reason = format!("{error}: another process uses this directory; stop it first");
            return Err(Error::File { path: path.display().to_string(), reason });
        }
        world.clock.sleep(Duration::from_millis(10)).await;
    }
    Ok(lock)
}

type Opened = (Log, BTreeMap<GroupId, Recovered>, Option<String>);

fn open(disk: &Arc<dyn Disk>, dir: &Path, owner: Owner, peers: bool) -> Result<Opened, Error> {
    match Log::open(disk, dir, owner) {
        Ok((log, recovered)) => Ok((log, recovered, None)),
        Err(error @ Error::Damaged { .. }) if peers => {
            tracing::error!(%error, "the log is set aside; this node rebuilds itself from its peers");
            set_aside(disk.as_ref(), dir).map_err(|error| Error::file(dir, &error))?;
            let (log, recovered) = Log::open(disk, dir, owner)?;
            Ok((log, recovered, Some(error.to_string())))
        }
        Err(error) => Err(error),
    }
}

/// Moves all segments into a directory beside them, the newest first: until the oldest is moved, a
/// start finds the damage again.
fn set_aside(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let number = (0..).find(|number| !disk.exists(&dir.join(format!("damaged-{number}"))));
    let aside = dir.join(format!("damaged-{}", number.unwrap_or_default()));
    disk.create_dir_all(&aside)?;
    for path in disk.list(dir)?.iter().rev() {
        let name = path.file_name().unwrap_or_default();
        if name.to_string_lossy().starts_with("log-") {
            disk.rename(path, &aside.join(name))?;
        }
    }
    disk.sync_dir(&aside)?;
    disk.sync_dir(dir)
}
