//! The network and the disk of a machine that has neither: whoever asks for them is refused.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use world::{Address, Disk, File, Listener, Net, OpenMode, Stream, disk::Space};

/// Neither a network nor a disk.
pub(super) struct Nowhere;

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

#[async_trait]
impl Net for Nowhere {
    async fn listen(&self, _: &Address) -> io::Result<Box<dyn Listener>> {
        refused()
    }

    async fn connect(&self, _: &Address) -> io::Result<Box<dyn Stream>> {
        refused()
    }
}

impl Disk for Nowhere {
    fn open(&self, _: &Path, _: OpenMode) -> io::Result<Arc<dyn File>> {
        refused()
    }

    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn list(&self, _: &Path) -> io::Result<Vec<PathBuf>> {
        refused()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    fn exists(&self, _: &Path) -> bool {
        false
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        refused()
    }
}
