//! The storage engine of a block server: RocksDB keeps the index (one row per 64 KiB block, with
//! sixteen page checksums), the allocation bitmaps and small writes; extent files keep the blocks.
//! Changes wait in memory until a commit; one committer thread brings them to the disk, never over
//! live data. Chains, leases and clients are not known here.

use std::time::Duration;
use std::{path::PathBuf, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::{Condvar, Mutex, RwLock};
use rocksdb::DB;
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
mod rows;
mod slots;
#[cfg(test)]
mod tests;

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
}

impl EngineConfig {
    /// With the usual limits.
    #[must_use]
    pub fn new(dir: PathBuf, cluster: u128, server: ServerId) -> Self {
        Self { dir, cluster, server, dirty_limit: 48 << 20 }
    }
}

/// How long a drop waits for others to let the engine go, in milliseconds.
const LINGER: u32 = 2000;

/// The storage engine. Dropping it stops it without a commit, as a crash would.
pub struct Engine(Arc<Inner>);

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
    db: DB,
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
    pub fn open(world: &World, config: EngineConfig) -> Result<Self, StoreError> {
        let dir = dir::Dir::open(world, &config.dir, config.cluster, config.server)?;
        let db = index::open(&config.dir.join("index"))?;
        let files = Files::open(world, &config.dir.join("extents")).map_err(|error| {
            StoreError::Unusable(format!("cannot use {}: {error}", config.dir.display()))
        })?;
        world.disk.sync_dir(&config.dir).map_err(|error| {
            StoreError::Unusable(format!("cannot use {}: {error}", config.dir.display()))
        })?;
        let (slots, patches) = index::scan(&db)?;
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
            db,
            files,
            gate: RwLock::new(()),
            state: Mutex::new(state),
            queue: Mutex::default(),
            wake: Condvar::new(),
            dirty: watch::channel(0).0,
        });
        let committer = commit::Committer::new(Arc::clone(&inner), slots, patches);
        world.tasks.thread("block-commit", Box::new(move || committer.run()));
        Ok(Self(inner))
    }

    /// How many commits were completed that found something to do.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.0.state.lock().commits
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.0.state.lock().stopped.get_or_insert_with(|| "it was dropped".to_owned());
        let mut queue = self.0.queue.lock();
        queue.end.get_or_insert(End::Abrupt);
        self.0.wake.notify_all();
        // The committer and readers let go soon; then the index is closed here and not by a thread that
        // the end of the process may overtake, which RocksDB answers with an abort.
        for _ in 0..LINGER {
            if Arc::strong_count(&self.0) == 1 {
                break;
            }
            self.0.wake.wait_for(&mut queue, Duration::from_millis(1));
        }
    }
}

impl Inner {
    fn stopped(&self) -> StoreError {
        let state = self.state.lock();
        StoreError::Stopped(state.stopped.clone().unwrap_or_else(|| "it was closed".to_owned()))
    }

    /// Changes the current layer, and sees to it that it does not grow without end.
    fn change(&self, change: impl FnOnce(&mut Layer)) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        if let Some(reason) = &state.stopped {
            return Err(StoreError::Stopped(reason.clone()));
        }
        change(&mut state.current);
        let current = state.current.bytes;
        let dirty = current + state.committing.bytes;
        drop(state);
        self.dirty.send_replace(dirty);
        if current > self.config.dirty_limit {
            let mut queue = self.queue.lock();
            if !queue.kick {
                queue.kick = true;
                self.wake.notify_one();
            }
        }
        Ok(())
    }
}

impl Store for Engine {
    fn apply(
        &self,
        group: Hashes,
        change: &Change,
        version: BlockVersion,
    ) -> Result<(), StoreError> {
        self.0.change(|layer| layer.apply(group, change, version))
    }

    fn try_read(&self, volume: Volume, offset: u64, length: u32) -> Option<Found> {
        self.0.try_read(volume, offset, length)
    }

    fn read(&self, volume: Volume, offset: u64, length: u32) -> Result<Found, StoreError> {
        self.0.read(volume, offset, length)
    }

    fn commit(&self, scope: Vec<Hashes>) -> Committing {
        let (sender, receiver) = oneshot::channel();
        let inner = Arc::clone(&self.0);
        {
            let mut queue = inner.queue.lock();
            if queue.end.is_some() {
                drop(queue);
                return futures_util::future::ready(Err(inner.stopped())).boxed();
            }
            queue.waiting.push((scope, sender));
            inner.wake.notify_one();
        }
        async move { receiver.await.unwrap_or_else(|_| Err(inner.stopped())) }.boxed()
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        let limit = self.0.config.dirty_limit * 4;
        if *self.0.dirty.borrow() <= limit {
            return futures_util::future::ready(()).boxed();
        }
        let mut dirty = self.0.dirty.subscribe();
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
        self.0.list(group, after, limit)
    }

    fn version(&self, block: BlockId) -> Result<BlockVersion, StoreError> {
        self.0.version(Key::of(block))
    }

    fn fetch(&self, block: BlockId) -> Result<BlockContent, StoreError> {
        self.0.fetch(block)
    }

    fn install(&self, block: BlockId, content: &BlockContent) -> Result<(), StoreError> {
        self.0.change(|layer| layer.install(Key::of(block), content))
    }

    fn usage(&self) -> Usage {
        let (used, count) = self.0.state.lock().slots;
        let disk = self.0.world.disk.space(&self.0.config.dir).unwrap_or_default();
        // Slots that exist and are free are as good as free space of the disk.
        let spare = (count - used) * crate::disk::BLOCK;
        Usage {
            space: Space { total: disk.total, free: disk.free + spare },
            slots: used,
            dirty: *self.0.dirty.borrow(),
        }
    }

    fn was_clean(&self) -> bool {
        self.0.dir.was_clean
    }

    fn directory(&self) -> u128 {
        self.0.dir.directory
    }

    fn close(&self, clean: bool) -> Result<(), StoreError> {
        let (sender, receiver) = oneshot::channel();
        {
            let mut queue = self.0.queue.lock();
            if queue.end.is_some() {
                drop(queue);
                return Err(self.0.stopped());
            }
            queue.end = Some(End::Orderly(clean, sender));
            self.0.wake.notify_one();
        }
        receiver.blocking_recv().unwrap_or_else(|_| Err(self.0.stopped()))
    }

    fn failure(&self) -> Option<String> {
        let state = self.0.state.lock();
        if state.failed { state.stopped.clone() } else { None }
    }
}
