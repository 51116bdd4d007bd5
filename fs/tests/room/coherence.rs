//! Two mounts of one volume: each sees what the other completed, and what needs no message sends
//! none.

use std::{sync::Arc, time::Duration};

use crate::common::{Kernel, ME, ROOT, Volume, close, two};
use bytes::Bytes;
use fs::{Config, Node, RenameMode, SetAttributes, XattrMode};
use lockservice::Locks;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_sizes_data_and_attributes_are_seen_at_once() {
    let (volume, a, b) = two().await;
    assert!(b.find(ROOT, "f").await.is_none());
    let ino = a.file(ROOT, "f", b"first").await;
    assert_eq!(b.find(ROOT, "f").await.unwrap().attributes.size, 5);
    assert_eq!(b.content(ino).await, b"first");
    b.fs.write(ino, 2, Bytes::from_static(b"----longer")).await.unwrap();
    assert_eq!(a.content(ino).await, b"fi----longer");
    let set = SetAttributes { mode: Some(0o600), size: Some(3), ..SetAttributes::default() };
    a.fs.setattr(ino, set).await.unwrap();
    let seen = b.fs.getattr(ino).await.unwrap().attributes;
    assert_eq!((seen.mode, seen.size), (0o600, 3));
    assert_eq!(b.content(ino).await, b"fi-");
    b.fs.rename(ROOT, b"f", ROOT, b"g", RenameMode::Replace).await.unwrap();
    assert!(a.find(ROOT, "f").await.is_none());
    assert_eq!(a.names(ROOT).await, ["g"]);
    a.fs.unlink(ROOT, b"g").await.unwrap();
    assert!(b.names(ROOT).await.is_empty());
    // Nobody has it open: it is gone, or about to go.
    let gone = b.fs.getattr(ino).await;
    assert!(gone.as_ref().map_or(true, |entry| entry.attributes.nlink == 0), "{gone:?}");
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_make_and_remove_in_one_directory() {
    let (volume, a, b) = two().await;
    let dir = a.dir(ROOT, "d").await;
    for i in 0..100 {
        a.file(dir, &format!("a{i}"), b"from a").await;
        b.file(dir, &format!("b{i}"), b"from b").await;
    }
    assert_eq!(a.names(dir).await.len(), 200);
    assert_eq!(a.names(dir).await, b.names(dir).await);
    for i in 0..100 {
        a.fs.unlink(dir, format!("b{i}").as_bytes()).await.unwrap();
        let found = b.find(dir, &format!("a{i}")).await.unwrap().attributes.ino;
        assert_eq!(b.content(found).await, b"from a");
        b.fs.unlink(dir, format!("a{i}").as_bytes()).await.unwrap();
    }
    b.fs.rmdir(ROOT, b"d").await.unwrap();
    assert!(a.find(ROOT, "d").await.is_none());
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_of_two_mounts_never_overwrite_each_other() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "log", b"").await;
    let writer = |fs: Arc<fs::Fs>, line: &'static [u8]| async move {
        for _ in 0..100 {
            fs.append(ino, Bytes::from_static(line)).await.unwrap();
        }
    };
    let one = tokio::spawn(writer(Arc::clone(&a.fs), b"aaaaaaaaaaaaaaaa\n"));
    let two = tokio::spawn(writer(Arc::clone(&b.fs), b"bbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"));
    one.await.unwrap();
    two.await.unwrap();
    let all = a.content(ino).await;
    assert!(all == b.content(ino).await);
    let lines: Vec<&[u8]> = all.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 200);
    assert!(lines.iter().all(|line| line.iter().all(|c| *c == line[0] || *c == b'\n')));
    close(volume, a, b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_change_of_metadata_sends_a_message_where_a_mount_works_alone() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    m.file(ROOT, "warm", b"up").await;
    m.fs.sync().await.unwrap();
    let before = m.clerk.messages();
    let silent = |what: &str| assert_eq!(m.clerk.messages() - before, 0, "{what}");
    let dir = m.dir(ROOT, "d").await;
    let other = m.dir(ROOT, "e").await;
    silent("mkdir");
    for i in 0..1000 {
        m.file(dir, &format!("f{i}"), &[1; 4096]).await;
    }
    silent("create and write");
    let file = m.find(dir, "f999").await.unwrap().attributes.ino;
    m.fs.make(dir, b"s", Node::symlink(Bytes::from_static(b"t")), ME).await.unwrap();
    m.fs.make(dir, b"s2", Node::symlink(Bytes::from(vec![b't'; 3000])), ME).await.unwrap();
    silent("symlink");
    m.fs.link(file, other, b"hard").await.unwrap();
    silent("link");
    let set = SetAttributes { mode: Some(0o600), size: Some(100), ..SetAttributes::default() };
    m.fs.setattr(file, set).await.unwrap();
    silent("setattr");
    m.fs.setxattr(file, b"user.x", &[7; 2000], XattrMode::Set, ME).await.unwrap();
    m.fs.removexattr(file, b"user.x").await.unwrap();
    silent("xattr");
    for i in 0..500 {
        let (old, new) = (format!("f{i}"), format!("g{i}"));
        let mode = RenameMode::Replace;
        m.fs.rename(dir, old.as_bytes(), other, new.as_bytes(), mode).await.unwrap();
    }
    m.fs.rename(dir, b"f700", dir, b"f701", RenameMode::Replace).await.unwrap();
    m.fs.rename(dir, b"f702", dir, b"f703", RenameMode::Exchange).await.unwrap();
    silent("rename");
    for i in 0..500 {
        m.fs.unlink(other, format!("g{i}").as_bytes()).await.unwrap();
    }
    silent("unlink");
    m.fs.unlink(other, b"hard").await.unwrap();
    m.fs.rmdir(ROOT, b"e").await.unwrap();
    silent("rmdir");
    m.fs.sync().await.unwrap();
    silent("write-out");
    assert_eq!(m.fs.numbers().lock_messages, m.clerk.messages(), "the number is exported");
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_to_the_disk_grow_with_bytes_not_with_files() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    m.file(ROOT, "warm", b"up").await;
    m.fs.sync().await.unwrap();
    let before = m.disk.traffic();
    let began = std::time::Instant::now();
    for i in 0..5000 {
        let name = format!("file-{i}");
        let entry = m.fs.create(ROOT, name.as_bytes(), 0o644, ME).await.unwrap();
        let data = Bytes::from(vec![1; 4096]);
        m.fs.write(entry.attributes.ino, 0, data).await.unwrap();
        m.fs.release(entry.attributes.ino);
    }
    let each = began.elapsed() / 5000;
    m.fs.sync().await.unwrap();
    let after = m.disk.traffic();
    println!("{each:?} for create + write + close, {before:?} -> {after:?}");
    let reads = after.reads - before.reads;
    assert!(reads < 16, "{reads} reads: one for the bitmap of each class, none for a file");
    let writes = after.writes - before.writes;
    assert!(writes < 60, "{writes} writes for 5,000 files");
    assert!(each < Duration::from_micros(100), "{each:?}");
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_cache_holds_its_cap_and_loses_nothing() {
    let volume = Volume::new().await;
    let config = Config { cache_bytes: 4 << 20, ..Config::default() };
    let m = volume.mount_with(config).await;
    let content = |i: u32| vec![i as u8; 70_000];
    let mut inos = Vec::new();
    for i in 0..300 {
        inos.push(m.file(ROOT, &format!("f{i}"), &content(i)).await);
    }
    for (i, ino) in inos.iter().enumerate() {
        assert!(m.content(*ino).await == content(i as u32), "file {i}");
        let cached = m.fs.numbers().cached_bytes;
        assert!(cached < (4 << 20) + (2 << 20), "{cached} bytes are cached");
    }
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kernel_is_told_before_a_lock_goes_and_not_when_it_is_only_shared() {
    let (volume, a, b) = two().await;
    let ino = a.file(ROOT, "f", b"one").await;
    let kernel = Arc::new(Kernel::default());
    a.fs.attach_kernel(Arc::clone(&kernel) as _);
    assert_eq!(b.content(ino).await, b"one");
    assert!(kernel.0.lock().is_empty(), "a reader takes nothing away");
    b.fs.write(ino, 0, Bytes::from_static(b"two")).await.unwrap();
    assert!(kernel.0.lock().contains(&(ino, "pages")));
    b.fs.make(ROOT, b"g", Node::file(0o600), ME).await.unwrap();
    assert!(kernel.0.lock().contains(&(ROOT, "names")));
    assert_eq!(a.content(ino).await, b"two");
    close(volume, a, b).await;
}
