//! A disk whose syncs fail on demand.
#![allow(unreachable_pub, reason = "a module of tests")]

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use world::{Disk, File, OpenMode, World, disk::Space};

#[derive(Default)]
pub struct Fault {
    failing: AtomicBool,
    syncs: AtomicU64,
}

impl Fault {
    /// From now on every sync fails.
    pub fn fail_syncs(&self) {
        self.failing.store(true, Ordering::SeqCst);
    }

    /// Syncs tried so far.
    pub fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::SeqCst)
    }
}

/// Puts a faulty disk over the world's.
pub fn install(world: &mut World) -> Arc<Fault> {
    let fault = Arc::new(Fault::default());
    world.disk = Arc::new(FaultyDisk { disk: world.disk.clone(), fault: fault.clone() });
    fault
}

struct FaultyDisk {
    disk: Arc<dyn Disk>,
    fault: Arc<Fault>,
}

struct FaultyFile {
    file: Arc<dyn File>,
    fault: Arc<Fault>,
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        Ok(Arc::new(FaultyFile { file, fault: self.fault.clone() }))
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
    fn exists(&self, path: &Path) -> bool {
        self.disk.exists(path)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        self.disk.space(path)
    }
}

impl File for FaultyFile {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }
    fn sync(&self) -> io::Result<()> {
        self.fault.syncs.fetch_add(1, Ordering::SeqCst);
        if self.fault.failing.load(Ordering::SeqCst) {
            return Err(io::Error::other("injected"));
        }
        self.file.sync()
    }
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }
    fn set_size(&self, size: u64) -> io::Result<()> {
        self.file.set_size(size)
    }
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.allocate(offset, length)
    }
    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.file.punch(offset, length)
    }
    fn lock(&self) -> io::Result<()> {
        self.file.lock()
    }
}
