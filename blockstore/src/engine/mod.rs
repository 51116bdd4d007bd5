//! The storage engine of a block server: an index (RocksDB) keeps one row per 64 KiB block, with
//! sixteen page checksums, the allocation bitmaps and small writes; extent files keep the blocks.
//! Changes wait in memory until a commit; one committer brings them to the disk, never over
//! live data. Files and index are reached through traits, so that a disk that loses power can stand
//! in. Chains, leases and clients are not known here.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{oneshot, watch};
use world::World;

use crate::{
    disk::Space,
    message::{BlockContent, Change},
    place::{BlockId, BlockVersion, ServerId, Volume},
    store::{
        Committing, Found, Hashes, Store, StoreError, Usage,
        overlay::{Key, Layer},
    },
};

mod commit;
mod dir;
mod index;
mod read;
#[cfg(feature = "engine")]
mod rocks;
mod rows;
mod slots;
#[cfg(feature = "engine")]
#[cfg(test)]
mod tests;

pub use index::{Batch, Index};
use slots::Files;

/// What an engine needs to know.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The data directory.
    pub dir: PathBuf,
    /// The cluster that it belongs to.
    pub cluster: u128,
    /// The server that it belongs to.
    pub server: ServerId,
    /// Bytes of uncommitted changes from which on commits start by themselves; at four times as
    /// many, writers wait.
    pub dirty_limit: u64,
    /// Small writes kept in the index from which on idle time is used to fold them into slots.
    pub fold: u64,
}

impl EngineConfig {
    /// With the usual limits.
    #[must_use]
    pub fn new(dir: PathBuf, cluster: u128, server: ServerId) -> Self {
        Self { dir, cluster, server, dirty_limit: 48 << 20, fold: 1024 }
    }
}

/// How long a drop waits for others to let the engine go, in milliseconds.
const LINGER: u32 = 2000;

/// The storage engine. Dropping it stops it without a commit, as a crash would.
pub struct Engine {
    inner: Arc<Inner>,
    /// The committer, where it has no thread of its own.
    stepped: Option<Arc<Mutex<commit::Committer>>>,
}

/// Who runs the committer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Drive {
    /// A thread of its own.
    Thread,
    /// Blocking work of the world, when there is something to do: a simulated world has no threads.
    /// There is then no idle work.
    Stepped,
}

struct State {
    current: Layer,
    committing: Arc<Layer>,
    /// Commits that were completed.
    commits: u64,
    /// Why nothing is taken any more.
    stopped: Option<String>,
    /// Whether it stopped for a failure of the disk.
    failed: bool,
    /// Slots that are taken, and all of them.
    slots: (u64, u64),
}

/// Who waits for a commit.
type Waiter = oneshot::Sender<Result<(), StoreError>>;

/// The end of the committer.
enum End {
    /// At once.
    Abrupt,
    /// After a commit of everything, with the mark of a clean stop if the flag says so.
    Orderly(bool, Waiter),
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Vec<Hashes>, Waiter)>,
    /// Too much is dirty: commit some of it.
    kick: bool,
    end: Option<End>,
}

struct Inner {
    world: World,
    config: EngineConfig,
    index: Arc<dyn Index>,
    files: Files,
    /// Read-locked by who looks at slots; the committer passes through it before slots are reused.
    gate: RwLock<()>,
    state: Mutex<State>,
    queue: Mutex<Queue>,
    wake: Condvar,
    /// Bytes that are dirty, for those who wait for room.
    dirty: watch::Sender<u64>,
    /// Last, because fields are dropped in order: the lock goes when the index is closed.
    dir: dir::Dir,
}

impl Engine {
    /// Opens the data directory, or makes it, and starts the committer. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], which says what to do.
    #[cfg(feature = "engine")]
    pub fn open(world: &World, config: EngineConfig) -> Result<Self, StoreError> {
        let rocks =
            |path: &Path| rocks::Rocks::open(path).map(|rocks| Arc::new(rocks) as Arc<dyn Index>);
        Self::over(world, config, rocks, Drive::Thread)
    }

    /// The same, over the index that `open_index` opens, or makes, at a path.
    ///
    /// # Errors
    /// [`StoreError::Unusable`], which says what to do.
    pub fn over(
        world: &World,
        config: EngineConfig,
        open_index: impl FnOnce(&Path) -> Result<Arc<dyn Index>, StoreError>,
        drive: Drive,
    ) -> Result<Self, StoreError> {
        let dir = dir::Dir::open(world, &config.dir, config.cluster, config.server)?;
        let index = open_index(&config.dir.join("index"))?;
        let unusable = |error: std::io::Error| {
            StoreError::Unusable(format!("cannot use {}: {error}", config.dir.display()))
        };
        let files = Files::open(world, &config.dir.join("extents")).map_err(unusable)?;
        world.disk.sync_dir(&config.dir).map_err(unusable)?;
        let (slots, patches) = index::scan(&*index)?;
        dir.begin(world)?;
        let state = State {
            current: Layer::default(),
            committing: Arc::default(),
            commits: 0,
            stopped: None,
            failed: false,
            slots: (slots.used(), slots.count()),
        };
        let inner = Arc::new(Inner {
            world: world.clone(),
            config,
            dir,
            index,
            files,
            gate: RwLock::new(()),
            state: Mutex::new(state),
            queue: Mutex::default(),
            wake: Condvar::new(),
            dirty: watch::channel(0).0,
        });
        let committer = commit::Committer::new(Arc::clone(&inner), slots, patches);
        let stepped = match drive {
            Drive::Thread => {
                world.tasks.thread("block-commit", Box::new(move || committer.run()));
                None
            }
            Drive::Stepped => Some(Arc::new(Mutex::new(committer))),
        };
        Ok(Self { inner, stepped })
    }

    /// Has the committer look at the queue.
    fn wake(&self) {
        match &self.stepped {
            None => {
                self.inner.wake.notify_one();
            }
            Some(committer) => {
                let committer = Arc::clone(committer);
                self.inner.world.tasks.blocking(Box::new(move || committer.lock().step()));
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut Layer)) -> Result<(), StoreError> {
        if self.inner.change(change)? {
            self.wake();
        }
        Ok(())
    }

    /// How many commits were completed that found something to do.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.inner.state.lock().commits
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let inner = &self.inner;
        inner.state.lock().stopped.get_or_insert_with(|| "it was dropped".to_owned());
        let mut queue = inner.queue.lock();
        queue.end.get_or_insert(End::Abrupt);
        if self.stepped.is_some() {
            return;
        }
        inner.wake.notify_all();
        // The committer and readers let go soon; then the index is closed here and not by a thread that
        // the end of the process may overtake, which RocksDB answers with an abort.
        for _ in 0..LINGER {
            if Arc::strong_count(inner) == 1 {
                break;
            }
            inner.wake.wait_for(&mut queue, Duration::from_millis(1));
        }
    }
}

impl Inner {
    fn stopped(&self) -> StoreError {
        let state = self.state.lock();
        StoreError::Stopped(state.stopped.clone().unwrap_or_else(|| "it was closed".to_owned()))
    }

    /// Changes the current layer; whether it has become so big that some of it must be committed.
    fn change(&self, change: impl FnOnce(&mut Layer)) -> Result<bool, StoreError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.stopped {
            return Err(StoreError::Stopped(reason.clone()));
        }
        change(&mut state.current);
        let current = state.current.bytes;
        let dirty = current + state.committing.bytes;
        drop(state);
        self.dirty.send_replace(dirty);
        if current <= self.config.dirty_limit {
            return Ok(false);
        }
        Ok(!std::mem::replace(&mut self.queue.lock().kick, true))
    }
}

impl Store for Engine {
    fn apply(
        &self,
        group: Hashes,
        change: &Change,
        version: BlockVersion,
    ) -> Result<(), StoreError> {
        self.change(|layer| layer.apply(group, change, version))
    }

    fn try_read(&self, volume: Volume, offset: u64, length: u32) -> Option<Found> {
        self.inner.try_read(volume, offset, length)
    }

    fn read(&self, volume: Volume, offset: u64, length: u32) -> Result<Found, StoreError> {
        self.inner.read(volume, offset, length)
    }

    fn commit(&self, scope: Vec<Hashes>) -> Committing {
        let (sender, receiver) = oneshot::channel();
        let inner = Arc::clone(&self.inner);
        {
            let mut queue = inner.queue.lock();
            if queue.end.is_some() {
                drop(queue);
                return futures_util::future::ready(Err(inner.stopped())).boxed();
            }
            queue.waiting.push((scope, sender));
        }
        self.wake();
        async move { receiver.await.unwrap_or_else(|_| Err(inner.stopped())) }.boxed()
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        let limit = self.inner.config.dirty_limit * 4;
        if *self.inner.dirty.borrow() <= limit {
            return futures_util::future::ready(()).boxed();
        }
        let mut dirty = self.inner.dirty.subscribe();
        async move {
            // An error means that the engine is gone; then the next call says so.
            let _ = dirty.wait_for(|dirty| *dirty <= limit).await;
        }
        .boxed()
    }

    fn list(
        &self,
        group: Hashes,
        after: Option<BlockId>,
        limit: usize,
    ) -> Result<(Vec<(BlockId, BlockVersion)>, bool), StoreError> {
        self.inner.list(group, after, limit)
    }

    fn version(&self, block: BlockId) -> Result<BlockVersion, StoreError> {
        self.inner.version(Key::of(block))
    }

    fn fetch(&self, block: BlockId) -> Result<BlockContent, StoreError> {
        self.inner.fetch(block)
    }

    fn install(&self, block: BlockId, content: &BlockContent) -> Result<(), StoreError> {
        self.change(|layer| layer.install(Key::of(block), content))
    }

    fn usage(&self) -> Usage {
        let (used, count) = self.inner.state.lock().slots;
        let disk = self.inner.world.disk.space(&self.inner.config.dir).unwrap_or_default();
        // Slots that exist and are free are as good as free space of the disk.
        let spare = (count - used) * crate::disk::BLOCK;
        Usage {
            space: Space { total: disk.total, free: disk.free + spare },
            slots: used,
            dirty: *self.inner.dirty.borrow(),
        }
    }

    fn was_clean(&self) -> bool {
        self.inner.dir.was_clean
    }

    fn directory(&self) -> u128 {
        self.inner.dir.directory
    }

    fn close(&self, clean: bool) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.inner.queue.lock();
            if queue.end.is_some() {
                drop(queue);
                return Err(self.inner.stopped());
            }
            queue.end = Some(End::Orderly(clean, sender));
        }
        match &self.stepped {
            // Here and now: nobody else would do it while this waits.
            Some(committer) => committer.lock().step(),
            None => self.wake(),
        }
        receiver.blocking_recv().unwrap_or_else(|_| Err(self.inner.stopped()))
    }

    fn failure(&self) -> Option<String> {
        let state = self.inner.state.lock();
        if state.failed { state.stopped.clone() } else { None }
    }
}
