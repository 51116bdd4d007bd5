//! The mount: what it is made of, how it starts and ends. The operations are in `op`.

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use blockstore::{SpaceAsk, VirtualDisk};
use lockservice::{Locks, Mode, Span};
use parking_lot::{Mutex, RwLock};
use world::World;

use crate::{
    config::{Config, Numbers},
    error::Error,
    kernel::KernelCache,
    layout::geometry::log_lock,
    log::Log,
    mkfs,
    state::State,
    writeout::Signals,
};

/// How long a mount that closes tries to give back the space that it was granted.
const RETURN: Duration = Duration::from_secs(1);

/// A mounted file system.
///
/// How to start one: [`Fs::new`], then give it to the clerk as its [`lockservice::Holder`] (and a
/// [`crate::Recovery`] as its recoverer), then [`Fs::start`].
pub struct Fs {
    pub(crate) world: World,
    pub(crate) disk: Arc<dyn VirtualDisk>,
    pub(crate) locks: Arc<dyn Locks>,
    pub(crate) config: Config,
    /// Never held across an await.
    pub(crate) state: Mutex<State>,
    pub(crate) signals: Arc<Signals>,
    pub(crate) kernel: RwLock<Option<Arc<dyn KernelCache>>>,
    /// Tasks of this mount keep it alive while they work, not while they wait.
    pub(crate) me: Weak<Self>,
    /// One segment is taken at a time.
    pub(crate) taking: tokio::sync::Mutex<()>,
    /// One asks for space at a time.
    pub(crate) asking: tokio::sync::Mutex<()>,
    /// Held by a push; and by who takes what was pushed, for a moment.
    pub(crate) log_turn: tokio::sync::Mutex<()>,
    /// Orphans are freed by one at a time.
    pub(crate) reaping: tokio::sync::Mutex<()>,
    /// One write-out of metadata at a time. Taken before `log_turn`.
    pub(crate) home_turn: tokio::sync::Mutex<()>,
    log: OnceLock<Arc<Log>>,
}

impl Fs {
    /// A file system that was not started yet; touches neither disk nor locks.
    #[must_use]
    pub fn new(
        world: World,
        disk: Arc<dyn VirtualDisk>,
        locks: Arc<dyn Locks>,
        config: Config,
    ) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            world,
            disk,
            locks,
            config,
            state: Mutex::new(State::new()),
            signals: Arc::default(),
            kernel: RwLock::new(None),
            me: Weak::clone(me),
            taking: tokio::sync::Mutex::default(),
            asking: tokio::sync::Mutex::default(),
            log_turn: tokio::sync::Mutex::default(),
            reaping: tokio::sync::Mutex::default(),
            home_turn: tokio::sync::Mutex::default(),
            log: OnceLock::new(),
        })
    }

    /// Reads the superblock, takes a log and starts the background work. The clerk must know this
    /// holder by now.
    ///
    /// # Errors
    /// If the volume has no file system of this format, all logs are taken, or disk or locks fail.
    pub async fn start(self: &Arc<Self>) -> Result<(), Error> {
        let superblock = mkfs::superblock(&self.disk).await?;
        self.state.lock().hash_key = superblock.hash_key;
        if !self.config.read_only {
            let log = self.take_log(superblock.log_slots).await?;
            // A second start would be a mistake of the caller; the first log stays.
            let _ = self.log.set(Arc::new(log));
        }
        self.start_write_out();
        Ok(())
    }

    /// Takes the first free log slot.
    async fn take_log(&self, slots: u32) -> Result<Log, Error> {
        for slot in 0..slots {
            let span = Span::one(log_lock(slot));
            if self.locks.try_acquire(span, Mode::Exclusive).await?.is_some() {
                let disk = Arc::clone(&self.disk);
                return Log::start(disk, self.locks.session(), slot).await;
            }
        }
        Err(Error::Format(format!("all {slots} logs are in use: unmount somewhere else first")))
    }

    pub(crate) fn log(&self) -> Option<Arc<Log>> {
        self.log.get().cloned()
    }

    /// Lets the file system tell the kernel what to forget. Without one nothing is told.
    pub fn attach_kernel(&self, kernel: Arc<dyn KernelCache>) {
        *self.kernel.write() = Some(kernel);
    }

    /// Writes everything out, stops the background work and gives the locks up, the session
    /// included. Operations called afterwards fail.
    ///
    /// # Errors
    /// If something could not be written.
    pub async fn close(&self) -> Result<(), Error> {
        {
            let mut state = self.state.lock();
            if let Some(error) = &state.dead {
                return if *error == Error::Closed { Ok(()) } else { Err(error.clone()) };
            }
            // Handles that are still open here end with the mount.
            let nameless = std::mem::take(&mut state.nameless);
            state.opens.clear();
            state.orphans.extend(nameless);
        }
        if let Err(error) = self.reap_once().await {
            tracing::warn!(%error, "orphans are left to the next mount");
        }
        {
            // What is being freed right now needs locks, and those that it lost it cannot have back
            // once all of them are on their way out.
            let _idle = self.reaping.lock().await;
            self.state.lock().closing = true;
        }
        let flushed = self.write_out_all().await;
        if flushed.is_ok() && self.state.lock().granted {
            // If nobody answers, the map takes it back from who does not ask again.
            let returned = self.disk.reserve(SpaceAsk::default());
            let _ = self.world.until(self.world.clock.now() + RETURN, returned).await;
        }
        let closed = self.locks.close().await;
        self.state.lock().dead.get_or_insert(Error::Closed);
        self.signals.settled.notify_waiters();
        flushed?;
        Ok(closed?)
    }

    async fn write_out_all(&self) -> Result<(), Error> {
        self.sync().await?;
        self.write_home().await
    }

    /// From now on every call fails with `error`: what is cached is dropped, here and in the
    /// kernel. Said once.
    pub(crate) fn fail(&self, error: Error) {
        {
            let mut state = self.state.lock();
            if state.dead.is_some() {
                return;
            }
            let lost = state.dirty_bytes + state.changed_bytes;
            tracing::error!(
                %error, lost_bytes = lost,
                "the file system fails from now on: unmount and mount again"
            );
            *state = State { dead: Some(error), ..State::new() };
        }
        self.signals.settled.notify_waiters();
        let kernel = self.kernel.read().clone();
        if let Some(kernel) = kernel {
            self.world.spawn("drop the kernel's cache", async move { kernel.drop_all().await });
        }
    }

    /// Numbers for status and tests.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        let state = self.state.lock();
        let home = state.home.values().chain(state.homing.values());
        Numbers {
            dirty_bytes: state.dirty_bytes,
            dirty_metadata: state.changed_bytes + home.map(|h| h.image.len() as u64).sum::<u64>(),
            cached_bytes: state.cached,
            operations: state.counters.operations,
            waits: state.counters.waits,
            pushes: state.counters.pushes,
            revocations: state.counters.revocations,
            lock_messages: self.locks.messages(),
        }
    }
}
