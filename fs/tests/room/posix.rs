//! What POSIX and Linux promise beyond names and bytes: extended attributes, access lists, holes,
//! open files without a name, what becomes of errors and of a full disk.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use crate::common::{Kernel, ME, ROOT, Volume, close, errno, two};
use blockstore::{Fence, memory::MemoryDisk};
use bytes::Bytes;
use fs::{Allocate, Caller, Node, SetAttributes, XattrMode};
use lockservice::Locks;
use tokio::sync::Semaphore;

const PAGE: u64 = 4096;

/// Until it is so, for at most so many seconds.
async fn eventually(seconds: u32, mut so: impl FnMut() -> bool) {
    for _ in 0..seconds * 50 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not so after {seconds} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn extended_attributes_are_set_and_seen_by_the_other_mount() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", b"x").await;
    assert_eq!(errno(b.fs.getxattr(ino, b"user.one").await), 61);
    a.fs.setxattr(ino, b"user.one", b"1", XattrMode::Set, ME).await.unwrap();
    a.fs.setxattr(ino, b"user.two", &[2; 1000], XattrMode::Create, ME).await.unwrap();
    assert_eq!(b.fs.getxattr(ino, b"user.one").await.unwrap(), "1");
    assert_eq!(b.fs.listxattr(ino).await.unwrap(), [b"user.one".to_vec(), b"user.two".to_vec()]);
    assert_eq!(errno(b.fs.setxattr(ino, b"user.one", b"", XattrMode::Create, ME).await), 17);
    assert_eq!(errno(b.fs.setxattr(ino, b"user.no", b"", XattrMode::Replace, ME).await), 61);
    b.fs.setxattr(ino, b"user.one", b"uno", XattrMode::Replace, ME).await.unwrap();
    assert_eq!(a.fs.getxattr(ino, b"user.one").await.unwrap(), "uno");
    a.fs.removexattr(ino, b"user.one").await.unwrap();
    assert_eq!(errno(b.fs.removexattr(ino, b"user.one").await), 61);
    assert_eq!(errno(b.fs.setxattr(ino, b"user.3", &[0; 4000], XattrMode::Set, ME).await), 28);
    assert_eq!(errno(b.fs.setxattr(ino, b"user.3", &[0; 70_000], XattrMode::Set, ME).await), 7);
    assert_eq!(b.fs.getxattr(ino, b"user.two").await.unwrap(), vec![2; 1000]);
    b.fs.unlink(ROOT, b"f").await.unwrap();
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_log_has_of_attributes_and_long_links_survives_the_mount() {
    let volume = Volume::new().await;
    let a = volume.mount().await;
    let target = Bytes::from(vec![b't'; 4095]);
    let ino = a.file(ROOT, "f", b"x").await;
    a.fs.setxattr(ino, b"user.k", b"value", XattrMode::Set, ME).await.unwrap();
    a.fs.fsync(ino).await.unwrap();
    // The log is pushed with the name; nothing asks for the target's bytes.
    a.fs.make(ROOT, b"link", Node::symlink(target.clone()), ME).await.unwrap();
    a.fs.fsync(ino).await.unwrap();
    volume.disk.fence(Fence(a.clerk.session().0));
    volume.disk.crash_to_flushed();
    volume.locks.kill(a.clerk.session()).await.unwrap();
    drop(a);
    let b = volume.mount().await;
    assert_eq!(b.fs.getxattr(ino, b"user.k").await.unwrap(), "value");
    let link = b.find(ROOT, "link").await.unwrap().attributes;
    assert_eq!((link.size, b.fs.readlink(link.ino).await.unwrap()), (4095, target));
    b.fs.unlink(ROOT, b"link").await.unwrap();
    b.fs.close().await.unwrap();
    volume.check().await;
}

fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&permissions.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

const NOBODY: u32 = u32::MAX;
const ACCESS: &[u8] = b"system.posix_acl_access";
const DEFAULT: &[u8] = b"system.posix_acl_default";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_lists_and_modes_follow_each_other_and_are_inherited() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let masked = [(1, 7, NOBODY), (2, 6, 7), (4, 5, NOBODY), (0x10, 6, NOBODY), (0x20, 0, NOBODY)];
    let dir = m.dir(ROOT, "d").await;
    m.fs.setxattr(dir, ACCESS, &list(&masked), XattrMode::Set, ME).await.unwrap();
    assert_eq!(m.fs.getattr(dir).await.unwrap().attributes.mode, 0o760);
    let set = SetAttributes { mode: Some(0o741), ..SetAttributes::default() };
    m.fs.setattr(dir, set).await.unwrap();
    let mut changed = masked;
    (changed[3].1, changed[4].1) = (4, 1);
    assert_eq!(m.fs.getxattr(dir, ACCESS).await.unwrap(), list(&changed));

    m.fs.setxattr(dir, DEFAULT, &list(&masked), XattrMode::Set, ME).await.unwrap();
    let umask = Caller { umask: 0o077, ..ME };
    let made = m.fs.make(dir, b"f", Node::file(0o664), umask).await.unwrap().attributes;
    assert_eq!(made.mode, 0o660, "the default list counts, and not the umask");
    let mut inherited = masked;
    inherited[0].1 = 6;
    assert_eq!(m.fs.getxattr(made.ino, ACCESS).await.unwrap(), list(&inherited));
    assert_eq!(errno(m.fs.getxattr(made.ino, DEFAULT).await), 61);
    let sub = m.fs.make(dir, b"s", Node::directory(0o777), umask).await.unwrap().attributes.ino;
    assert_eq!(m.fs.getxattr(sub, DEFAULT).await.unwrap(), list(&masked));

    let plain = m.fs.make(ROOT, b"g", Node::file(0o666), umask).await.unwrap().attributes;
    assert_eq!(plain.mode, 0o600);
    let three = list(&[(1, 6, NOBODY), (4, 4, NOBODY), (0x20, 4, NOBODY)]);
    m.fs.setxattr(plain.ino, ACCESS, &three, XattrMode::Set, ME).await.unwrap();
    assert_eq!(m.fs.getattr(plain.ino).await.unwrap().attributes.mode, 0o644);
    assert_eq!(errno(m.fs.getxattr(plain.ino, ACCESS).await), 61, "the mode says it all");
    assert_eq!(errno(m.fs.setxattr(plain.ino, ACCESS, b"noise", XattrMode::Set, ME).await), 22);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_a_program_over_or_writes_to_it_takes_its_rights_away() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", b"x").await;
    let mode = |mode| SetAttributes { mode: Some(mode), ..SetAttributes::default() };
    m.fs.setattr(ino, mode(0o6755)).await.unwrap();
    m.fs.setxattr(ino, b"security.capability", b"all", XattrMode::Set, ME).await.unwrap();
    let owner = SetAttributes { uid: Some(5), ..SetAttributes::default() };
    assert_eq!(m.fs.setattr(ino, owner).await.unwrap().attributes.mode, 0o755);
    assert_eq!(errno(m.fs.getxattr(ino, b"security.capability").await), 61);
    m.fs.setattr(ino, mode(0o6745)).await.unwrap();
    m.fs.strip(ino).await.unwrap();
    assert_eq!(m.fs.getattr(ino).await.unwrap().attributes.mode, 0o2745, "no program of a group");
    let dir = m.dir(ROOT, "d").await;
    m.fs.setattr(dir, mode(0o2755)).await.unwrap();
    assert_eq!(m.fs.setattr(dir, owner).await.unwrap().attributes.mode, 0o2755);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_punched_range_reads_as_zeros_and_gives_its_space_back() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", &vec![7; 100 * PAGE as usize]).await;
    a.fs.fsync(ino).await.unwrap();
    let before = volume.disk.used();
    let blocks = a.fs.getattr(ino).await.unwrap().attributes.blocks;
    a.fs.allocate(ino, 100, 50 * PAGE, Allocate::Punch).await.unwrap();
    assert_eq!(before - volume.disk.used(), 49 * PAGE);
    let after = a.fs.getattr(ino).await.unwrap().attributes;
    assert_eq!((after.size, blocks - after.blocks), (100 * PAGE, 49 * 8));
    let mut expected = vec![7; 100 * PAGE as usize];
    expected[100..100 + 50 * PAGE as usize].fill(0);
    assert!(a.content(ino).await == expected);
    assert!(b.content(ino).await == expected);
    b.fs.write(ino, 10 * PAGE, Bytes::from_static(b"again")).await.unwrap();
    expected[10 * PAGE as usize..][..5].copy_from_slice(b"again");
    assert!(a.content(ino).await == expected);
    // What was never on the disk needs nothing of it.
    let young = a.file(ROOT, "g", &[9; 10_000]).await;
    a.fs.allocate(young, 0, 9_000, Allocate::Zero { keep_size: true }).await.unwrap();
    assert_eq!(a.content(young).await, [vec![0; 9_000], vec![9; 1_000]].concat());
    a.fs.allocate(young, 9_500, 10_500, Allocate::Zero { keep_size: false }).await.unwrap();
    let all = [vec![0; 9_000], vec![9; 500], vec![0; 10_500]].concat();
    assert!(b.content(young).await == all);
    a.fs.allocate(young, 0, 30_000, Allocate::Reserve { keep_size: false }).await.unwrap();
    assert_eq!(b.fs.getattr(young).await.unwrap().attributes.size, 30_000);
    a.fs.allocate(young, 0, 90_000, Allocate::Reserve { keep_size: true }).await.unwrap();
    assert_eq!(b.fs.getattr(young).await.unwrap().attributes.size, 30_000);
    assert_eq!(errno(a.fs.allocate(ROOT, 0, 1, Allocate::Punch).await), 21);
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_and_holes_of_a_sparse_file_are_found_before_and_after_it_is_written_back() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", b"").await;
    a.fs.write(ino, 10 * PAGE, Bytes::from(vec![1; 2 * PAGE as usize])).await.unwrap();
    a.fs.write(ino, 1 << 30, Bytes::from_static(b"far")).await.unwrap();
    let end = (1 << 30) + 3;
    assert_eq!(a.fs.seek(ino, 0, false).await.unwrap(), 10 * PAGE);
    assert_eq!(a.fs.seek(ino, 11 * PAGE + 5, false).await.unwrap(), 11 * PAGE + 5);
    assert_eq!(a.fs.seek(ino, 10 * PAGE, true).await.unwrap(), 12 * PAGE);
    assert_eq!(a.fs.seek(ino, 12 * PAGE, false).await.unwrap(), 1 << 30);
    assert_eq!(a.fs.seek(ino, 1 << 30, true).await.unwrap(), end);
    assert_eq!(errno(a.fs.seek(ino, end, false).await), 6);
    a.fs.fsync(ino).await.unwrap();
    // Now by runs: never less than the data, and every byte of it is within.
    let hole = b.fs.seek(ino, 10 * PAGE, true).await.unwrap();
    assert!((12 * PAGE..1 << 30).contains(&hole), "a hole at {hole}");
    let data = b.fs.seek(ino, hole, false).await.unwrap();
    assert!((hole..=1 << 30).contains(&data), "data at {data}");
    assert_eq!(b.fs.seek(ino, 1 << 30, true).await.unwrap(), end);
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_another_mount_unlinks_stays_for_who_has_it_open_and_goes_with_the_last_close()
{
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", &[1; 400_000]).await;
    a.fs.fsync(ino).await.unwrap();
    a.fs.open(ino, false).await.unwrap();
    let used = volume.disk.used();
    b.fs.unlink(ROOT, b"f").await.unwrap();
    b.fs.sync().await.unwrap();
    // Longer than orphans gather.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(a.content(ino).await, [1; 400_000]);
    a.fs.write(ino, 0, Bytes::from_static(b"still here")).await.unwrap();
    assert_eq!(a.fs.getattr(ino).await.unwrap().attributes.nlink, 0);
    b.fs.open(ino, false).await.unwrap();
    assert_eq!(&b.content(ino).await[..10], b"still here");
    a.fs.release(ino);
    assert_eq!(&b.content(ino).await[..10], b"still here");
    b.fs.release(ino);
    eventually(15, || volume.disk.used() <= used - 300_000).await;
    assert_eq!(errno(a.fs.getattr(ino).await), 116);
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_file_whose_mount_dies_is_freed_by_who_unlinked_it() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", &[1; 40_000]).await;
    a.fs.open(ino, false).await.unwrap();
    b.fs.unlink(ROOT, b"f").await.unwrap();
    b.fs.sync().await.unwrap();
    let used = volume.disk.used();
    volume.disk.fence(Fence(a.clerk.session().0));
    volume.locks.kill(a.clerk.session()).await.unwrap();
    drop(a);
    eventually(15, || volume.disk.used() <= used - 40_000).await;
    b.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_at_write() {
    let volume = Volume::on(MemoryDisk::with_capacity(64 << 20)).await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", b"").await;
    let mut written = 0;
    let told = loop {
        match m.fs.write(ino, written, Bytes::from(vec![1; 1 << 20])).await {
            Ok(()) => written += 1 << 20,
            Err(error) => break error.errno(),
        }
        assert!(written <= 64 << 20, "more was taken than there is");
    };
    assert_eq!(told, 28);
    assert!(written > 48 << 20, "refused after {written} bytes");
    m.fs.fsync(ino).await.expect("what was taken can be written");
    // Over what it has, a full file can be written to; and space that comes back counts.
    m.fs.write(ino, 0, Bytes::from(vec![2; 1 << 20])).await.unwrap();
    m.fs.fsync(ino).await.unwrap();
    let cut = SetAttributes { size: Some(1 << 20), ..SetAttributes::default() };
    m.fs.setattr(ino, cut).await.unwrap();
    eventually(10, || volume.disk.used() < 16 << 20).await;
    m.fs.write(ino, 1 << 20, Bytes::from(vec![3; 8 << 20])).await.unwrap();
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_write_back_is_told_once_also_when_the_lock_has_gone_meanwhile() {
    let volume = Volume::new().await;
    let (a, disk) = volume.mount_odd(0, Semaphore::MAX_PERMITS).await;
    let b = volume.mount().await;
    let ino = a.file(ROOT, "f", b"first").await;
    a.fs.open(ino, false).await.unwrap();
    a.fs.fsync(ino).await.unwrap();
    disk.refuses.store(true, Ordering::SeqCst);
    a.fs.write(ino, 0, Bytes::from_static(b"second")).await.unwrap();
    assert_eq!(errno(a.fs.fsync(ino).await), 28);
    a.fs.told(ino).expect("it was told");
    a.fs.write(ino, 0, Bytes::from_static(b"third!")).await.unwrap();
    assert_eq!(b.content(ino).await, b"first", "what could not be written is lost, not late");
    disk.refuses.store(false, Ordering::SeqCst);
    assert_eq!(errno(a.fs.write(ino, 0, Bytes::from_static(b"fourth")).await), 28);
    a.fs.write(ino, 0, Bytes::from_static(b"fifth")).await.unwrap();
    assert_eq!(b.content(ino).await, b"fifth");
    a.fs.release(ino);
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_mapped_for_writing_does_not_stay_in_the_kernel_under_a_shared_lock() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", b"one").await;
    let kernel = Arc::new(Kernel::default());
    a.fs.attach_kernel(Arc::clone(&kernel) as _);
    a.fs.open_mapped(ino).await.unwrap();
    assert_eq!(b.content(ino).await, b"one");
    assert_eq!(
        *kernel.0.lock(),
        [(ino, "pages")],
        "a reader elsewhere: the mapping must fault again"
    );
    kernel.0.lock().clear();
    // The fault reads under the exclusive lock, so that what follows it is not missed.
    a.content(ino).await;
    assert!(a.clerk.held(ino.lock(), lockservice::Mode::Exclusive).is_some());
    kernel.0.lock().clear();
    a.fs.unmap(ino);
    a.fs.release(ino);
    assert_eq!(b.content(ino).await, b"one");
    assert!(kernel.0.lock().is_empty(), "nobody can map it: its pages may stay");
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_read_after_a_change_is_noted_and_the_next_is_not() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", b"x").await;
    let made = m.fs.getattr(ino).await.unwrap().attributes;
    assert!(made.atime <= made.mtime);
    m.content(ino).await;
    let read = m.fs.getattr(ino).await.unwrap().attributes;
    assert!(read.atime > made.mtime && read.ctime == made.ctime);
    m.content(ino).await;
    assert_eq!(m.fs.getattr(ino).await.unwrap().attributes.atime, read.atime);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_of_a_directory_that_went_is_taken_again_under_the_lock_of_the_next() {
    let (volume, a, b) = two().await;
    // The smallest runs of a segment, once around.
    for number in 0..fs::layout::geometry::BITS + 10 {
        let dir = a.dir(ROOT, "d").await;
        a.file(dir, "f", b"").await;
        if number % 2000 == 0 {
            // The pages of directories that went may not stay in memory.
            assert_eq!(b.names(dir).await, ["f"], "after {number} directories");
        }
        a.fs.unlink(dir, b"f").await.unwrap();
        a.fs.rmdir(ROOT, b"d").await.unwrap();
    }
    let dir = a.dir(ROOT, "last").await;
    a.file(dir, "seen", b"").await;
    assert_eq!(b.names(dir).await, ["seen"]);
    close(volume, a, b).await;
}
