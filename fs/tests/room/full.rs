//! Full disks: told at write, survived, and over as soon as something is deleted.

use std::time::Duration;

use crate::common::{ME, Mount, ROOT, Volume, errno};
use blockstore::{Durability, Fence, Offset, VirtualDisk, memory::MemoryDisk};
use bytes::Bytes;
use fs::{Error, InodeNo};
use tokio::sync::Semaphore;

const MIB: usize = 1 << 20;
const ENOSPC: i32 = 28;

/// A file of 1 MiB, if there is space for it.
async fn fill(m: &Mount, number: u32) -> Result<InodeNo, Error> {
    let name = format!("f{number}");
    let entry = m.fs.create(ROOT, name.as_bytes(), 0o644, ME).await.unwrap();
    let ino = entry.attributes.ino;
    let written = m.fs.write(ino, 0, Bytes::from(vec![number as u8; MIB])).await;
    m.fs.release(ino);
    written.map(|()| ino)
}

/// Tries until it succeeds; freeing takes a moment.
async fn soon<T, F: Future<Output = Result<T, Error>>>(mut attempt: impl FnMut() -> F) -> T {
    for _ in 0..500 {
        match attempt().await {
            Ok(done) => return done,
            Err(error) => assert_eq!(error.errno(), ENOSPC, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("there is still no space");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_at_write_and_never_later_and_deleting_makes_room() {
    let volume = Volume::on(MemoryDisk::with_capacity(40 << 20)).await;
    let (m, _) = volume.mount_odd(8 << 20, Semaphore::MAX_PERMITS).await;
    let mut files = Vec::new();
    let full = loop {
        match fill(&m, files.len() as u32).await {
            Ok(ino) => files.push(ino),
            Err(error) => break error,
        }
        // Some are written back as they come, some wait.
        if files.len().is_multiple_of(3) {
            m.fs.fsync(files[files.len() - 1]).await.unwrap();
        }
        assert!(files.len() < 40, "more than the disk holds");
    };
    assert_eq!(full.errno(), ENOSPC);
    assert!(files.len() > 25, "only {} MiB of 31 were taken", files.len());
    // What was taken is taken for good, also what had not been written back yet.
    m.fs.sync().await.unwrap();
    for (number, ino) in files.iter().enumerate() {
        m.fs.fsync(*ino).await.unwrap();
        assert!(m.content(*ino).await == vec![number as u8; MIB], "file {number}");
    }
    let dir = m.dir(ROOT, "names need little").await;
    m.fs.fsyncdir(dir).await.unwrap();
    for number in 0..files.len() - 2 {
        m.fs.unlink(ROOT, format!("f{number}").as_bytes()).await.unwrap();
    }
    m.fs.unlink(ROOT, format!("f{}", files.len()).as_bytes()).await.unwrap();
    let ino = m.file(ROOT, "after", b"").await;
    soon(|| m.fs.write(ino, 0, Bytes::from(vec![7; 10 * MIB]))).await;
    m.fs.fsync(ino).await.unwrap();
    assert!(m.content(ino).await == vec![7; 10 * MIB]);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_others_filled_to_the_last_page_ends_no_mount() {
    let volume = Volume::on(MemoryDisk::with_capacity(16 << 20)).await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", b"before").await;
    m.fs.fsync(ino).await.unwrap();
    // Far behind everything that the file system uses.
    let (stranger, far) = (volume.disk.open(Fence(u64::MAX)), 1 << 62);
    let mut pages = 0;
    let junk = || vec![Bytes::from(vec![1; 4096])];
    while stranger.write(Offset(far + pages * 4096), junk(), Durability::Now).await.is_ok() {
        pages += 1;
    }
    let refused = m.fs.write(ino, 0, Bytes::from(vec![2; 3 * MIB])).await;
    // More than was asked for when there still was space.
    assert_eq!(errno(refused), ENOSPC);
    assert_eq!(m.content(ino).await, b"before");
    // More names than the rest of the log's last page takes.
    for number in 0..200 {
        let name = format!("a long name for a file, number {number}");
        let made = m.fs.create(ROOT, name.as_bytes(), 0o644, ME).await.unwrap();
        m.fs.release(made.attributes.ino);
    }
    assert_eq!(errno(m.fs.fsync(ino).await), ENOSPC);
    assert_eq!(m.names(ROOT).await.len(), 201);
    stranger.discard(Offset(far), pages * 4096).await.unwrap();
    stranger.flush().await.unwrap();
    soon(|| m.fs.fsync(ino)).await;
    m.fs.write(ino, 0, Bytes::from_static(b"behind")).await.unwrap();
    let other = volume.mount().await;
    assert_eq!(other.content(ino).await, b"behind");
    assert_eq!(other.names(ROOT).await.len(), 201);
    other.fs.close().await.unwrap();
    m.fs.close().await.unwrap();
    volume.check().await;
}

/// What one mount would have taken in for both, the disk would have refused when it was written back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mounts_that_fill_a_disk_at_one_time_lose_nothing_that_either_took() {
    let volume = Volume::on(MemoryDisk::with_capacity(48 << 20)).await;
    // What is kept of so small a disk is not enough for the logs and the metadata of two.
    let (one, _) = volume.mount_odd(4 << 20, Semaphore::MAX_PERMITS).await;
    let (two, _) = volume.mount_odd(4 << 20, Semaphore::MAX_PERMITS).await;
    let mut files = [Vec::new(), Vec::new()];
    let mut full = [false, false];
    let dirs = [one.dir(ROOT, "one").await, two.dir(ROOT, "two").await];
    while full != [true, true] {
        for (who, m) in [&one, &two].into_iter().enumerate() {
            let number = files[who].len() as u8;
            let name = format!("f{number}");
            let made = m.fs.create(dirs[who], name.as_bytes(), 0o644, ME).await.unwrap();
            let ino = made.attributes.ino;
            match m.fs.write(ino, 0, Bytes::from(vec![number; MIB])).await {
                Ok(()) => files[who].push(ino),
                Err(error) => {
                    assert_eq!(error.errno(), ENOSPC, "{error}");
                    full[who] = true;
                }
            }
            m.fs.release(ino);
        }
        assert!(files[0].len() + files[1].len() <= 48, "more than the disk holds");
    }
    let taken = files[0].len() + files[1].len();
    assert!(taken > 30, "only {taken} of some 39 MiB were taken");
    for (m, files) in [(&one, &files[0]), (&two, &files[1])] {
        m.fs.sync().await.unwrap();
        for ino in files {
            m.fs.fsync(*ino).await.unwrap();
        }
    }
    for (m, files) in [(&two, &files[0]), (&one, &files[1])] {
        for (number, ino) in files.iter().enumerate() {
            assert!(m.content(*ino).await == vec![number as u8; MIB], "file {number}");
        }
    }
    one.fs.close().await.unwrap();
    two.fs.close().await.unwrap();
    volume.check().await;
}
