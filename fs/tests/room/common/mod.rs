//! A volume in memory and mounts of it, for the tests of this room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use blockstore::{
    Durability, Error as DiskError, Fence, Offset, Space, SpaceAsk, Traffic, VirtualDisk,
    memory::MemoryDisk,
};
use bytes::Bytes;
use fs::{Caller, Config, Entry, Error, Fs, InodeNo, KernelCache, Lookup, Node, Recovery, mkfs};
use lockservice::{Clerk, Locks, local::LocalLocks};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use world::World;

pub(crate) const ROOT: InodeNo = InodeNo::ROOT;
pub(crate) const ME: Caller = Caller { uid: 1000, gid: 100, umask: 0 };

/// A volume and its lock service.
pub(crate) struct Volume {
    pub world: World,
    pub disk: MemoryDisk,
    pub locks: LocalLocks,
}

/// A volume and two mounts of it.
pub(crate) async fn two() -> (Volume, Mount, Mount) {
    let volume = Volume::new().await;
    let (a, b) = (volume.mount().await, volume.mount().await);
    (volume, a, b)
}

/// The end of both, after which the volume is in order.
pub(crate) async fn close(volume: Volume, a: Mount, b: Mount) {
    a.fs.close().await.unwrap();
    b.fs.close().await.unwrap();
    volume.check().await;
}

/// A mount.
pub(crate) struct Mount {
    pub fs: Arc<Fs>,
    pub clerk: Arc<Clerk>,
    pub disk: Arc<dyn VirtualDisk>,
}

impl Volume {
    pub(crate) async fn new() -> Self {
        Self::on(MemoryDisk::new()).await
    }

    /// On a disk that may be formatted already; the lock service is a new one.
    pub(crate) async fn on(disk: MemoryDisk) -> Self {
        let world = World::real();
        let root = mkfs::Root { uid: 0, gid: 0, mode: 0o755 };
        let format: Arc<dyn VirtualDisk> = disk.open(Fence(u64::MAX));
        mkfs::format(&world, &format, root).await.unwrap();
        let locks = LocalLocks::new(world.clone());
        Self { world, disk, locks }
    }

    pub(crate) async fn mount(&self) -> Mount {
        self.mount_with(patient()).await
    }

    pub(crate) async fn mount_with(&self, config: Config) -> Mount {
        let clerk = self.locks.open("test").await.unwrap();
        let disk = self.disk.open(Fence(clerk.session().0));
        self.start(clerk, disk, config).await
    }

    /// On a disk that lets `discards` go on and says nothing of `reserve` bytes that it has.
    pub(crate) async fn mount_odd(&self, reserve: u64, discards: usize) -> (Mount, Arc<Odd>) {
        let clerk = self.locks.open("odd").await.unwrap();
        let odd = self.odd(&clerk, reserve, discards);
        let disk = Arc::clone(&odd);
        (self.start(clerk, disk, patient()).await, odd)
    }

    pub(crate) fn odd(&self, clerk: &Clerk, reserve: u64, discards: usize) -> Arc<Odd> {
        Arc::new(Odd {
            disk: self.disk.open(Fence(clerk.session().0)),
            begun: watch::Sender::new(0),
            go: Semaphore::new(discards),
            reads: Semaphore::new(Semaphore::MAX_PERMITS),
            reserve,
            refuses: false.into(),
        })
    }

    async fn start(&self, clerk: Arc<Clerk>, disk: Arc<dyn VirtualDisk>, config: Config) -> Mount {
        let fs = Fs::new(self.world.clone(), Arc::clone(&disk), Arc::clone(&clerk) as _, config);
        let recovery = Recovery::new(self.world.clone(), Arc::clone(&disk));
        clerk.attach(Arc::clone(&fs) as _, Some(recovery));
        fs.start().await.unwrap();
        Mount { fs, clerk, disk }
    }

    /// What fsck finds wrong.
    pub(crate) async fn check(&self) {
        let disk: Arc<dyn VirtualDisk> = self.disk.open(Fence(u64::MAX));
        let report = fs::check::check(disk, None).await.unwrap();
        assert!(report.findings.is_empty(), "{report:#?}");
    }
}

impl Mount {
    pub(crate) async fn find(&self, parent: InodeNo, name: &str) -> Option<Entry> {
        match self.fs.lookup(parent, name.as_bytes()).await.unwrap() {
            Lookup::Found(entry) => Some(entry),
            Lookup::Absent { .. } => None,
        }
    }

    pub(crate) async fn dir(&self, parent: InodeNo, name: &str) -> InodeNo {
        let node = Node::directory(0o755);
        self.fs.make(parent, name.as_bytes(), node, ME).await.unwrap().attributes.ino
    }

    /// A file with this content, closed.
    pub(crate) async fn file(&self, parent: InodeNo, name: &str, content: &[u8]) -> InodeNo {
        let entry = self.fs.create(parent, name.as_bytes(), 0o644, ME).await.unwrap();
        let ino = entry.attributes.ino;
        self.fs.write(ino, 0, Bytes::copy_from_slice(content)).await.unwrap();
        self.fs.release(ino);
        ino
    }

    pub(crate) async fn content(&self, ino: InodeNo) -> Vec<u8> {
        fs::path::read_range(&self.fs, ino, 0, u64::MAX).await.unwrap()
    }

    pub(crate) async fn names(&self, dir: InodeNo) -> Vec<String> {
        let mut names = Vec::new();
        let mut cookie = 0;
        loop {
            let some = self.fs.readdir(dir, cookie, 100, false).await.unwrap();
            let Some(last) = some.last() else { break };
            cookie = last.cookie;
            names.extend(some.iter().map(|e| String::from_utf8(e.name.to_vec()).unwrap()));
        }
        names.sort();
        names.retain(|name| name != "." && name != "..");
        names
    }
}

/// A disk that is difficult on purpose.
pub(crate) struct Odd {
    disk: Arc<dyn VirtualDisk>,
    /// Discards that have begun.
    pub begun: watch::Sender<u32>,
    /// Discards that may go on.
    pub go: Semaphore,
    /// Reads that may go on.
    pub reads: Semaphore,
    /// Free space that it does not tell of: what servers keep back for logs and metadata.
    reserve: u64,
    /// Refuses all data of files for good.
    pub refuses: AtomicBool,
}

#[async_trait]
impl VirtualDisk for Odd {
    async fn read(&self, at: Offset, length: u64) -> Result<Bytes, DiskError> {
        self.reads.acquire().await.unwrap().forget();
        self.disk.read(at, length).await
    }
    async fn write(&self, at: Offset, data: Vec<Bytes>, when: Durability) -> Result<(), DiskError> {
        if self.refuses.load(Ordering::SeqCst) && (32..64).contains(&(at.0 >> 57)) {
            return Err(DiskError::NoSpace);
        }
        self.disk.write(at, data, when).await
    }
    async fn discard(&self, at: Offset, length: u64) -> Result<(), DiskError> {
        self.begun.send_modify(|begun| *begun += 1);
        self.go.acquire().await.unwrap().forget();
        self.disk.discard(at, length).await
    }
    async fn flush(&self) -> Result<(), DiskError> {
        self.disk.flush().await
    }
    async fn fence(&self, dead: Fence) -> Result<(), DiskError> {
        self.disk.fence(dead).await
    }
    async fn space(&self) -> Result<Space, DiskError> {
        let space = self.disk.space().await?;
        Ok(Space { free: space.free.saturating_sub(self.reserve), ..space })
    }
    async fn reserve(&self, ask: SpaceAsk) -> Result<u64, DiskError> {
        let [holds, least, most] = [ask.holds, ask.least, ask.most].map(|x| x + self.reserve);
        let granted = self.disk.reserve(SpaceAsk { holds, least, most, ..ask }).await?;
        Ok(granted.saturating_sub(self.reserve))
    }
    fn traffic(&self) -> Traffic {
        self.disk.traffic()
    }
}

/// A kernel that only notes what it was told to forget.
#[derive(Default)]
pub(crate) struct Kernel(pub Mutex<Vec<(InodeNo, &'static str)>>);

#[async_trait]
impl KernelCache for Kernel {
    async fn drop_pages(&self, ino: InodeNo, _size: Option<u64>) {
        self.0.lock().push((ino, "pages"));
    }
    async fn drop_names(&self, directory: InodeNo) {
        self.0.lock().push((directory, "names"));
    }
    async fn drop_all(&self) {}
}

fn patient() -> Config {
    Config { patience: Duration::from_secs(10), ..Config::default() }
}

pub(crate) fn errno<T: std::fmt::Debug>(result: Result<T, Error>) -> i32 {
    result.unwrap_err().errno()
}
