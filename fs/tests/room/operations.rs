//! Each operation on one mount: what it does, and what it refuses.

use crate::common::{ME, ROOT, Volume, errno};
use bytes::Bytes;
use fs::{InodeNo, Kind, Node, RenameMode, SetAttributes, SetTime, path};
use world::Wall;

#[tokio::test]
async fn a_file_is_made_written_read_and_found_again() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "hello", b"hello, world").await;
    let found = m.find(ROOT, "hello").await.unwrap().attributes;
    assert_eq!((found.ino, found.size, found.kind, found.nlink), (ino, 12, Kind::File, 1));
    assert_eq!((found.uid, found.gid, found.mode), (1000, 100, 0o644));
    assert_eq!(m.content(ino).await, b"hello, world");
    assert!(m.find(ROOT, "other").await.is_none());
    assert_eq!(errno(m.fs.create(ROOT, b"hello", 0o600, ME).await), 17);
    assert_eq!(errno(m.fs.lookup(ino, b"x").await), 20);
    assert_eq!(errno(m.fs.lookup(ROOT, &[b'n'; 256]).await), 36);
    m.fs.close().await.unwrap();
    assert_eq!(errno(m.fs.getattr(ROOT).await), 5);

    let again = volume.mount().await;
    let found = again.find(ROOT, "hello").await.unwrap().attributes;
    assert_eq!(again.content(found.ino).await, b"hello, world");
    again.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn directories_count_their_links_and_go_only_when_empty() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let a = m.dir(ROOT, "a").await;
    let b = m.dir(a, "b").await;
    assert_eq!(m.find(ROOT, "a").await.unwrap().attributes.nlink, 3);
    assert_eq!(m.find(a, "..").await.unwrap().attributes.ino, ROOT);
    m.file(b, "f", b"x").await;
    assert_eq!(errno(m.fs.rmdir(a, b"b").await), 39);
    assert_eq!(errno(m.fs.unlink(a, b"b").await), 21);
    assert_eq!(errno(m.fs.rmdir(b, b"f").await), 20);
    m.fs.unlink(b, b"f").await.unwrap();
    m.fs.rmdir(a, b"b").await.unwrap();
    assert_eq!(m.find(ROOT, "a").await.unwrap().attributes.nlink, 2);
    assert!(m.names(a).await.is_empty());
    assert_eq!(errno(m.fs.rmdir(a, b"b").await), 2);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn ten_thousand_names_are_listed_once_each_and_all_go() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let dir = m.dir(ROOT, "big").await;
    let mut names: Vec<String> = (0..10_000).map(|i| format!("file number {i}")).collect();
    for name in &names {
        m.fs.make(dir, name.as_bytes(), Node::file(0o600), ME).await.unwrap();
    }
    names.sort();
    assert_eq!(m.names(dir).await, names);
    // Removing while listing never hides what is still there.
    let some = m.fs.readdir(dir, 0, 500, true).await.unwrap();
    assert!(some[2..].iter().all(|e| e.entry.is_some_and(|a| a.attributes.ino == e.ino)));
    for entry in &some[2..] {
        m.fs.unlink(dir, &entry.name).await.unwrap();
    }
    let rest = m.fs.readdir(dir, some[499].cookie, 20_000, false).await.unwrap();
    assert_eq!(rest.len(), 10_000 - 498);
    for entry in rest {
        m.fs.unlink(dir, &entry.name).await.unwrap();
    }
    m.fs.rmdir(ROOT, b"big").await.unwrap();
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn links_share_an_inode_until_the_last_goes() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "one", b"data").await;
    m.fs.link(ino, ROOT, b"two").await.unwrap();
    assert_eq!(errno(m.fs.link(ino, ROOT, b"two").await), 17);
    assert_eq!(errno(m.fs.link(ROOT, ROOT, b"dir").await), 1);
    m.fs.unlink(ROOT, b"one").await.unwrap();
    let two = m.find(ROOT, "two").await.unwrap().attributes;
    assert_eq!((two.ino, two.nlink), (ino, 1));
    assert_eq!(m.content(ino).await, b"data");
    m.fs.sync().await.unwrap();
    m.fs.unlink(ROOT, b"two").await.unwrap();
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn an_unlinked_open_file_stays_readable_until_it_is_closed() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", &[7; 10_000]).await;
    m.fs.open(ino, false).await.unwrap();
    m.fs.fsync(ino).await.unwrap();
    m.fs.unlink(ROOT, b"f").await.unwrap();
    m.fs.write(ino, 10_000, Bytes::from_static(b"more")).await.unwrap();
    m.fs.fsync(ino).await.unwrap();
    assert_eq!(m.content(ino).await.len(), 10_004);
    assert_eq!(m.fs.getattr(ino).await.unwrap().attributes.nlink, 0);
    m.fs.release(ino);
    m.fs.close().await.unwrap();
    let again = volume.mount().await;
    again.fs.make(ROOT, b"x", Node::file(0o600), ME).await.unwrap();
    again.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn symbolic_links_short_and_long_come_back() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let long = "x/".repeat(1000);
    for (name, target) in [("s", "../target"), ("l", long.as_str())] {
        let node = Node::symlink(Bytes::copy_from_slice(target.as_bytes()));
        let entry = m.fs.make(ROOT, name.as_bytes(), node, ME).await.unwrap().attributes;
        assert_eq!(
            (entry.kind, m.fs.readlink(entry.ino).await.unwrap()),
            (Kind::Symlink, Bytes::from(target.to_owned()))
        );
    }
    assert_eq!(errno(m.fs.readlink(ROOT).await), 22);
    m.fs.close().await.unwrap();
    let again = volume.mount().await;
    for (name, target) in [("s", "../target"), ("l", long.as_str())] {
        let entry = again.find(ROOT, name).await.unwrap().attributes;
        assert_eq!(entry.size, target.len() as u64);
        assert_eq!(again.fs.readlink(entry.ino).await.unwrap(), target);
    }
    again.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn rename_moves_replaces_exchanges_and_refuses_loops() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let (a, b) = (m.dir(ROOT, "a").await, m.dir(ROOT, "b").await);
    let f = m.file(a, "f", b"f").await;
    let g = m.file(b, "g", b"g").await;
    let go = |p: InodeNo, n: &'static str, q: InodeNo, o: &'static str, mode| {
        let fs = &m.fs;
        async move { fs.rename(p, n.as_bytes(), q, o.as_bytes(), mode).await }
    };
    assert_eq!(errno(go(a, "f", b, "g", RenameMode::NoReplace).await), 17);
    go(a, "f", b, "g", RenameMode::Exchange).await.unwrap();
    assert_eq!(m.find(a, "f").await.unwrap().attributes.ino, g);
    go(b, "g", a, "f", RenameMode::Replace).await.unwrap();
    assert_eq!(m.find(a, "f").await.unwrap().attributes.ino, f);
    assert_eq!(errno(m.fs.getattr(g).await), 116);
    assert!(m.find(b, "g").await.is_none());
    assert_eq!(errno(go(a, "x", b, "g", RenameMode::Replace).await), 2);

    let c = m.dir(a, "c").await;
    assert_eq!(errno(go(ROOT, "a", c, "in", RenameMode::Replace).await), 22);
    assert_eq!(errno(go(a, "f", a, "c", RenameMode::Replace).await), 21);
    assert_eq!(errno(go(a, "c", a, "f", RenameMode::Replace).await), 20);
    go(a, "c", b, "c", RenameMode::Replace).await.unwrap();
    assert_eq!(m.find(c, "..").await.unwrap().attributes.ino, b);
    assert_eq!(m.find(ROOT, "a").await.unwrap().attributes.nlink, 2);
    assert_eq!(m.find(ROOT, "b").await.unwrap().attributes.nlink, 3);
    // An empty directory is replaced, a full one is not.
    let d = m.dir(ROOT, "d").await;
    go(ROOT, "d", b, "c", RenameMode::Replace).await.unwrap();
    assert_eq!(m.find(b, "c").await.unwrap().attributes.ino, d);
    assert_eq!(errno(go(ROOT, "a", ROOT, "b", RenameMode::Replace).await), 39);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn attributes_are_set_and_setgid_is_inherited() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let dir = m.dir(ROOT, "d").await;
    let at = Wall { seconds: -7, nanos: 5 };
    let set = SetAttributes {
        mode: Some(0o2775),
        gid: Some(55),
        mtime: Some(SetTime::At(at)),
        ..SetAttributes::default()
    };
    let a = m.fs.setattr(dir, set).await.unwrap().attributes;
    assert_eq!((a.mode, a.gid, a.uid, a.mtime), (0o2775, 55, 1000, at));
    let sub = m.dir(dir, "sub").await;
    let a = m.fs.getattr(sub).await.unwrap().attributes;
    assert_eq!((a.mode, a.gid), (0o2755, 55));
    let fifo = Node { kind: Kind::Fifo, mode: 0o600, rdev: 0, target: Bytes::new() };
    let dev = Node { kind: Kind::CharDevice, mode: 0o600, rdev: 0x103, target: Bytes::new() };
    assert_eq!(m.fs.make(dir, b"p", fifo, ME).await.unwrap().attributes.kind, Kind::Fifo);
    assert_eq!(m.fs.make(dir, b"c", dev, ME).await.unwrap().attributes.rdev, 0x103);
    assert_eq!(
        errno(m.fs.setattr(dir, SetAttributes { size: Some(0), ..SetAttributes::default() }).await),
        21
    );
    assert!(m.fs.getattr(dir).await.unwrap().attributes.mtime > at);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn what_lies_behind_a_cut_reads_as_zeros_when_the_file_grows_again() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "f", &[9; 50_000]).await;
    m.fs.sync().await.unwrap();
    let size = |size| SetAttributes { size: Some(size), ..SetAttributes::default() };
    m.fs.setattr(ino, size(10_001)).await.unwrap();
    m.fs.sync().await.unwrap();
    m.fs.write(ino, 30_000, Bytes::from_static(b"end")).await.unwrap();
    let mut want = vec![9; 10_001];
    want.resize(30_000, 0);
    want.extend(b"end");
    assert!(m.content(ino).await == want);
    m.fs.close().await.unwrap();

    let m = volume.mount().await;
    let ino = m.find(ROOT, "f").await.unwrap().attributes.ino;
    assert!(m.content(ino).await == want);
    m.fs.setattr(ino, size(5)).await.unwrap();
    m.fs.setattr(ino, size(60_000)).await.unwrap();
    want = vec![9; 5];
    want.resize(60_000, 0);
    assert!(m.content(ino).await == want);
    m.fs.close().await.unwrap();
    let m = volume.mount().await;
    assert!(m.content(ino).await == want);
    m.fs.open(ino, true).await.unwrap();
    assert!(m.content(ino).await.is_empty());
    m.fs.release(ino);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn a_large_sparse_file_reads_back_and_costs_only_what_was_written() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    let ino = m.file(ROOT, "sparse", b"start").await;
    let far = 5 << 40;
    m.fs.write(ino, far, Bytes::from_static(b"far")).await.unwrap();
    assert_eq!(errno(m.fs.write(ino, 16 << 40, Bytes::from_static(b"x")).await), 27);
    let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 1000) as u8).collect();
    m.fs.write(ino, 1_000_001, Bytes::from(big.clone())).await.unwrap();
    m.fs.close().await.unwrap();
    let m = volume.mount().await;
    assert_eq!(m.fs.getattr(ino).await.unwrap().attributes.size, far + 3);
    assert_eq!(path::read_range(&m.fs, ino, far, 10).await.unwrap(), b"far");
    assert!(path::read_range(&m.fs, ino, 1_000_001, 3_000_000).await.unwrap() == big);
    assert_eq!(path::read_range(&m.fs, ino, 1 << 30, 5).await.unwrap(), [0; 5]);
    m.fs.close().await.unwrap();
    volume.check().await;
}

#[tokio::test]
async fn appends_go_to_the_end_and_paths_are_walked() {
    let volume = Volume::new().await;
    let m = volume.mount().await;
    path::make_directories(&m.fs, "/a/b/c", ME).await.unwrap();
    let ino = path::write_file(&m.fs, "/a/b/c/f", Bytes::from_static(b"one"), ME).await.unwrap();
    assert_eq!(m.fs.append(ino, Bytes::from_static(b" two")).await.unwrap(), 3);
    assert_eq!(path::read_file(&m.fs, "/a/b/c/f").await.unwrap(), b"one two");
    path::rename(&m.fs, "/a/b/c/f", "/a/g").await.unwrap();
    assert!(!path::exists(&m.fs, "/a/b/c/f").await.unwrap());
    path::write_file(&m.fs, "/a/g", Bytes::from_static(b"new"), ME).await.unwrap();
    assert_eq!(path::read_file(&m.fs, "/a/g").await.unwrap(), b"new");
    path::remove_all(&m.fs, "/a").await.unwrap();
    assert!(path::list(&m.fs, "/").await.unwrap().is_empty());
    m.fs.close().await.unwrap();
    volume.check().await;
}
