//! The read-only check: a healthy volume is clean, and every kind of damage is found and named.

use std::{sync::Arc, time::Duration};

use blockstore::{Durability, Fence, Offset, PAGE, VirtualDisk, memory::MemoryDisk};
use bytes::Bytes;
use fs::{
    check::{Finding, Report, check},
    layout::{
        bitmap::Bitmap,
        dirpage::DirPage,
        geometry::{InodeNo, LOCK_TAKING_INODES, Run, SegmentNo, Use},
        hash::{HashKey, NameHash},
        inode::{Body, FileType, Inode},
        version::{Kind, Version, put_head},
    },
    mkfs::{Root, format},
};
use lockservice::{Locks as _, Mode, clerk::Nothing};
use tokio::sync::Semaphore;
use world::World;

use crate::common::{close, two};

const ROOT: Root = Root { uid: 0, gid: 0, mode: 0o755 };
const V: Version = Version { grant: 1, counter: 1 };

fn ino(index: u32) -> InodeNo {
    InodeNo::new(SegmentNo::default(), index).unwrap()
}

fn run(use_: Use, class: u8, slot: u32) -> Run {
    Run::new(use_, class, SegmentNo::default(), slot).unwrap()
}

/// A volume made by hand: `/d` (inode 2), `/f` and `/d/hard` (inode 3, one run), `/l` (inode 4).
struct Volume {
    disk: Arc<dyn VirtualDisk>,
    key: HashKey,
    inodes: Vec<(InodeNo, Inode)>,
    names: Vec<(InodeNo, Run, DirPage)>,
    map: Bitmap,
    orphans: Bitmap,
    runs: Vec<Run>,
}

impl Volume {
    async fn new() -> Self {
        let disk: Arc<dyn VirtualDisk> = MemoryDisk::new().open(Fence(1));
        let (superblock, new) = format(&World::real(), &disk, ROOT).await.unwrap();
        assert!(new);
        let key = superblock.hash_key;
        let (root_run, d_run) = (run(Use::Metadata, 0, 0), run(Use::Metadata, 0, 1));
        let data = run(Use::Data, 2, 0);
        let mut map = Bitmap::blank();
        for i in 1..=4 {
            map.put(i, true);
        }
        let mut file = inode(FileType::Regular, 2, InodeNo(0));
        file.size = 9000;
        file.first_class = 2;
        set_run(&mut file, 0, data);
        let mut link = inode(FileType::Symlink, 1, InodeNo(0));
        link.size = 2;
        link.body = Body::Target((*b"/f").into());
        let mut root = inode(FileType::Directory, 3, ino(1));
        set_run(&mut root, 0, root_run);
        let mut d = inode(FileType::Directory, 2, ino(1));
        set_run(&mut d, 0, d_run);
        let mut volume = Self {
            disk,
            key,
            inodes: vec![(ino(1), root), (ino(2), d), (ino(3), file), (ino(4), link)],
            names: vec![(ino(1), root_run, DirPage::blank()), (ino(2), d_run, DirPage::blank())],
            map,
            orphans: Bitmap::blank(),
            runs: vec![root_run, d_run, data],
        };
        volume.name(0, "d", ino(2), FileType::Directory);
        volume.name(0, "f", ino(3), FileType::Regular);
        volume.name(0, "l", ino(4), FileType::Symlink);
        volume.name(1, "hard", ino(3), FileType::Regular);
        volume
    }

    fn name(&mut self, directory: usize, name: &str, ino: InodeNo, kind: FileType) {
        let hash = NameHash::of(name.as_bytes(), self.key);
        self.names[directory].2.insert(hash, name.as_bytes(), ino, kind).unwrap();
    }

    fn inode(&mut self, index: usize) -> &mut Inode {
        &mut self.inodes[index - 1].1
    }

    async fn put(&self, at: Offset, bytes: &[u8]) {
        let data = vec![Bytes::copy_from_slice(bytes)];
        self.disk.write(at, data, Durability::Later).await.unwrap();
    }

    async fn check(&self) -> Report {
        for (ino, inode) in &self.inodes {
            self.put(ino.address(), &inode.encode()).await;
        }
        for (_, run, page) in &self.names {
            self.put(run.address(), page.bytes()).await;
        }
        let segment = SegmentNo::default();
        self.put(segment.inode_map(), self.map.bytes()).await;
        self.put(segment.orphan_map(), self.orphans.bytes()).await;
        for (use_, class) in [(Use::Metadata, 0), (Use::Data, 2)] {
            let mut map = Bitmap::blank();
            for run in self.runs.iter().filter(|r| (r.use_(), r.class()) == (use_, class)) {
                map.put(run.slot(), true);
            }
            self.put(segment.run_map(use_, class), map.bytes()).await;
        }
        check(Arc::clone(&self.disk), None).await.unwrap()
    }

    async fn findings(&self) -> Vec<Finding> {
        let report = self.check().await;
        assert!(report.findings.iter().all(|finding| !finding.to_string().is_empty()));
        report.findings
    }
}

fn inode(kind: FileType, links: u32, parent: InodeNo) -> Inode {
    let mut inode = Inode::new(kind.mode_bits() | 0o644, 0, 0);
    (inode.version, inode.links, inode.parent) = (V, links, parent);
    inode
}

fn set_run(inode: &mut Inode, index: usize, run: Run) {
    let Body::Runs(runs) = &mut inode.body else { panic!("no runs") };
    runs[index] = Some(run);
}

#[tokio::test]
async fn a_new_volume_is_clean_and_is_not_formatted_twice() {
    let disk: Arc<dyn VirtualDisk> = MemoryDisk::new().open(Fence(1));
    assert!(check(Arc::clone(&disk), None).await.is_err(), "not formatted yet");
    let (first, _) = format(&World::real(), &disk, ROOT).await.unwrap();
    let (second, new) = format(&World::real(), &disk, ROOT).await.unwrap();
    assert_eq!((first, new), (second, false));
    let report = check(disk, None).await.unwrap();
    assert_eq!((report.findings.as_slice(), report.counts.directories), (&[][..], 1));
}

#[tokio::test]
async fn a_check_makes_mounts_write_back_and_they_go_on_in_the_segments_behind() {
    let (volume, a, b) = two().await;
    let fsck = volume.locks.open("fsck").await.unwrap();
    fsck.attach(Arc::new(Nothing), None);
    // So long that its space is only taken when it is written back, which the check makes it do.
    a.file(crate::common::ROOT, "one", &[1; 300_000]).await;
    let disk = volume.odd(&fsck, 0, 0);
    let report = check(Arc::clone(&disk) as _, Some(&*fsck)).await.unwrap();
    assert_eq!((report.findings.as_slice(), report.counts.files), (&[][..], 1));

    // A check of a slow disk: whoever needs a segment waits for its end, and passes none by.
    disk.reads.forget_permits(Semaphore::MAX_PERMITS);
    disk.reads.add_permits(1);
    let mut checking = Box::pin(check(Arc::clone(&disk) as _, Some(&*fsck)));
    let slow = tokio::time::timeout(Duration::from_millis(100), &mut checking).await;
    assert!(slow.is_err() && fsck.held(LOCK_TAKING_INODES, Mode::Exclusive).is_some());
    let mut second = Box::pin(b.file(crate::common::ROOT, "two", b"of the other"));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut second).await;
    assert!(early.is_err(), "a segment was taken while the volume was at rest");
    disk.reads.add_permits(1 << 20);
    let (report, ino) = tokio::join!(checking, second);
    assert_eq!(report.unwrap().findings, []);
    assert!(ino.segment().get() < 3, "segments were passed by: {ino}");
    fsck.close().await.unwrap();
    close(volume, a, b).await;
}

#[tokio::test]
async fn a_healthy_volume_is_clean_and_counted() {
    let report = Volume::new().await.check().await;
    assert_eq!(report.findings, []);
    let counts = report.counts;
    assert_eq!((counts.files, counts.directories, counts.symlinks), (1, 2, 1));
    assert_eq!((counts.entries, counts.bytes, counts.runs), (4, 9000, 3));
    assert_eq!((counts.inode_segments, counts.space_segments), (1, 1));
}

#[tokio::test]
async fn wrong_inode_bits_are_found() {
    let mut volume = Volume::new().await;
    volume.map.put(4, false);
    volume.map.put(9, true);
    volume.orphans.put(10, true);
    volume.orphans.put(3, true);
    let found = volume.findings().await;
    let expected = [
        Finding::NotInMap { ino: ino(4) },
        Finding::FreeInMap { ino: ino(9) },
        Finding::OrphanFree { ino: ino(10) },
        Finding::OrphanNamed { ino: ino(3), names: 2 },
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn wrong_links_parents_and_types_are_found() {
    let mut volume = Volume::new().await;
    volume.inode(3).links = 1;
    volume.inode(2).parent = ino(3);
    volume.inode(1).links = 2;
    volume.name(1, "odd", ino(4), FileType::Regular);
    let found = volume.findings().await;
    for expected in [
        Finding::Links { ino: ino(3), says: 1, counted: 2 },
        Finding::Links { ino: ino(1), says: 2, counted: 3 },
        Finding::Links { ino: ino(4), says: 1, counted: 2 },
        Finding::Parent { ino: ino(2), says: ino(3), is: ino(1) },
        Finding::WrongType { directory: ino(2), name: "odd".into(), ino: ino(4) },
    ] {
        assert!(found.contains(&expected), "{expected:?} not in {found:?}");
    }
    assert_eq!(found.len(), 5);
}

#[tokio::test]
async fn names_that_lead_nowhere_or_in_circles_are_found() {
    let mut volume = Volume::new().await;
    volume.name(0, "gone", ino(50), FileType::Regular);
    let hash = NameHash::of(b"d", volume.key);
    volume.names[0].2.remove(hash, b"d");
    volume.name(1, "self", ino(2), FileType::Directory);
    volume.inode(2).parent = ino(2);
    let found = volume.findings().await;
    let dangling = Finding::Dangling { directory: ino(1), name: "gone".into(), ino: ino(50) };
    assert!(found.contains(&dangling), "{found:?}");
    assert!(found.contains(&Finding::Unreachable { ino: ino(2) }), "{found:?}");
}

#[tokio::test]
async fn an_inode_without_name_is_damage_unless_it_is_on_the_orphan_list() {
    let mut volume = Volume::new().await;
    let hash = NameHash::of(b"l", volume.key);
    volume.names[0].2.remove(hash, b"l");
    volume.inode(4).links = 0;
    assert_eq!(volume.findings().await, [Finding::Unnamed { ino: ino(4) }]);
    volume.orphans.put(4, true);
    let report = volume.check().await;
    assert_eq!((report.findings.len(), report.counts.orphans), (0, 1));
}

#[tokio::test]
async fn names_in_the_wrong_place_are_found() {
    let mut volume = Volume::new().await;
    let wrong = NameHash::of(b"x", volume.key);
    volume.names[1].2.insert(wrong, b"y", ino(4), FileType::Symlink).unwrap();
    volume.inode(4).links = 2;
    let found = volume.findings().await;
    assert!(matches!(&found[..], [Finding::BadEntry { name, .. }] if name == "y"), "{found:?}");
}

#[tokio::test]
async fn runs_of_two_inodes_or_with_wrong_bits_are_found() {
    let mut volume = Volume::new().await;
    let data = run(Use::Data, 2, 0);
    let mut twin = inode(FileType::Regular, 1, InodeNo(0));
    (twin.size, twin.first_class) = (5, 2);
    set_run(&mut twin, 0, data);
    set_run(&mut twin, 1, run(Use::Data, 3, 8));
    volume.inodes.push((ino(5), twin));
    volume.map.put(5, true);
    volume.name(1, "twin", ino(5), FileType::Regular);
    volume.runs.push(run(Use::Data, 2, 30));
    let found = volume.findings().await;
    let extra = run(Use::Data, 3, 8);
    let expected = [
        Finding::RunTwice { run: data, one: ino(3), other: ino(5) },
        Finding::RunPastEnd { run: extra, ino: ino(5) },
        Finding::RunLost { run: run(Use::Data, 2, 30) },
        Finding::RunNotInMap { run: extra, ino: ino(5) },
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn blocks_that_make_no_sense_are_found() {
    let mut volume = Volume::new().await;
    let page = volume.names.remove(1).1;
    let mut noise = vec![0xaa; PAGE as usize];
    put_head(&mut noise, Kind::Directory, V);
    volume.put(page.address(), &noise).await;
    volume.inodes.remove(3);
    volume.put(ino(4).address(), &noise[1024..1536]).await;
    let found = volume.findings().await;
    assert!(found.iter().any(|f| matches!(f, Finding::BadInode { ino: i, .. } if *i == ino(4))));
    assert!(
        found.iter().any(|f| matches!(f, Finding::BadBlock { at, .. } if *at == page.address()))
    );
}

#[tokio::test]
async fn a_large_directory_of_split_pages_is_walked_whole() {
    let mut volume = Volume::new().await;
    let deeper = run(Use::Metadata, 1, 4);
    let mut map = Bitmap::blank();
    map.put(4, true);
    volume.put(SegmentNo::default().run_map(Use::Metadata, 1), map.bytes()).await;
    let (low, high) = volume.names[0].2.split(0);
    let root = volume.inode(1);
    set_run(root, 1, deeper);
    volume.names[0].2 = DirPage::split_mark(V);
    volume.put(deeper.address(), low.bytes()).await;
    volume.put(Offset(deeper.address().0 + PAGE), high.bytes()).await;
    let report = volume.check().await;
    assert_eq!((report.findings.as_slice(), report.counts.entries), (&[][..], 4));
    // The halves exchanged: every name in the wrong page.
    volume.put(deeper.address(), high.bytes()).await;
    volume.put(Offset(deeper.address().0 + PAGE), low.bytes()).await;
    let report = volume.check().await;
    assert_eq!((report.damage, report.is_clean()), (3, false));
}
