//! Hand-overs at an awkward moment: a lock goes while something under it is half done. Each test
//! holds the disk at that moment, so that the order is always the same.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests drive the real machine, and an error fails them"
)]

mod common;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use blockstore::{Durability, Error as DiskError, Fence, Offset, Space, Traffic, VirtualDisk};
use bytes::Bytes;
use common::{Mount, ROOT, Volume};
use fs::{Config, Fs, Recovery};
use lockservice::Locks;
use tokio::sync::{Semaphore, watch};

/// A disk whose discards wait until they are let go.
struct Held {
    disk: Arc<dyn VirtualDisk>,
    /// Discards that have begun.
    begun: watch::Sender<u32>,
    go: Semaphore,
}

#[async_trait]
impl VirtualDisk for Held {
    async fn read(&self, at: Offset, length: u64) -> Result<Bytes, DiskError> {
        self.disk.read(at, length).await
    }
    async fn write(&self, at: Offset, data: Vec<Bytes>, when: Durability) -> Result<(), DiskError> {
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
        self.disk.space().await
    }
    fn traffic(&self) -> Traffic {
        self.disk.traffic()
    }
}

async fn mount_held(volume: &Volume) -> (Mount, Arc<Held>) {
    let clerk = volume.locks.open("held").await.unwrap();
    let held = Arc::new(Held {
        disk: volume.disk.open(Fence(clerk.session().0)),
        begun: watch::Sender::new(0),
        go: Semaphore::new(0),
    });
    let disk: Arc<dyn VirtualDisk> = Arc::clone(&held) as _;
    let config = Config { patience: Duration::from_secs(10), ..Config::default() };
    let fs = Fs::new(volume.world.clone(), Arc::clone(&disk), Arc::clone(&clerk) as _, config);
    clerk.attach(Arc::clone(&fs) as _, Some(Recovery::new(volume.world.clone(), disk)));
    fs.start().await.unwrap();
    let disk: Arc<dyn VirtualDisk> = Arc::clone(&held) as _;
    (Mount { fs, clerk, disk }, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_closes_while_it_frees_a_file_of_another_does_not_wait_for_a_deadline() {
    let volume = Volume::new().await;
    let maker = volume.mount().await;
    let ino = maker.file(ROOT, "f", &[7; 20_000]).await;
    maker.fs.fsync(ino).await.unwrap();
    let (closer, held) = mount_held(&volume).await;
    closer.fs.unlink(ROOT, b"f").await.unwrap();
    held.begun.subscribe().wait_for(|begun| *begun > 0).await.unwrap();
    // The bitmap that says that the run is in use is the maker's: it goes there and back, so the
    // closer must read it again to free the run, and at that moment all its locks are going.
    let other = maker.file(ROOT, "g", &[8; 20_000]).await;
    maker.fs.fsync(other).await.unwrap();
    maker.fs.unlink(ROOT, b"g").await.unwrap();
    let fs = Arc::clone(&closer.fs);
    let mut closed = tokio::spawn(async move { fs.close().await });
    let early = tokio::time::timeout(Duration::from_millis(200), &mut closed).await;
    assert!(early.is_err(), "it closed with a file half freed");
    held.go.add_permits(1000);
    let closed = tokio::time::timeout(Duration::from_secs(5), closed).await;
    closed.expect("closing waits for itself").unwrap().unwrap();
    maker.fs.close().await.unwrap();
    volume.check().await;
}
