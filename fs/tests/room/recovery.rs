//! Replay of a dead session's log on a disk in memory: what is applied, what is not, and that it
//! can be cut off anywhere. The records are made by hand; no mount is involved.

use blockstore::{Durability, Fence, Offset, PAGE, VirtualDisk, memory::MemoryDisk};
use bytes::Bytes;
use fs::{
    Recovery,
    layout::{
        bitmap::Bitmap,
        geometry::{InodeNo, SegmentNo, log_lock},
        inode::{FileType, Inode},
        record::{Change, Record},
        version::Version,
    },
    log::{Log, Purpose},
};
use lockservice::{Grant, Held, Mode, Recoverer, SessionId, Span};
use world::World;

const DEAD: SessionId = SessionId(7);
const SLOT: u32 = 5;
const GRANT: Grant = Grant(10);

fn ino(index: u32) -> InodeNo {
    InodeNo::new(SegmentNo::default(), index).unwrap()
}

fn image(counter: u64, mode: u32) -> Vec<u8> {
    let mut inode = Inode::new(FileType::Regular.mode_bits() | mode, 1, 2);
    inode.version = Version { grant: GRANT.0, counter };
    inode.encode().to_vec()
}

fn change(index: u32, counter: u64, mode: u32) -> Change {
    let no = ino(index);
    Change::whole(no.address(), no.lock(), GRANT, &image(counter, mode))
}

fn held(span: Span, mode: Mode, grant: Grant) -> Held {
    Held { span, mode, grant }
}

/// What the dead session held: its log, and the segment of the inodes.
fn all_held() -> Vec<Held> {
    vec![
        held(Span::one(log_lock(SLOT)), Mode::Exclusive, Grant(3)),
        held(SegmentNo::default().inode_locks(), Mode::Exclusive, GRANT),
        held(Span::one(SegmentNo::default().space_lock()), Mode::Exclusive, Grant(4)),
    ]
}

/// A disk with a pushed log of these transactions.
async fn dead_log(records: Vec<Vec<Change>>) -> MemoryDisk {
    let disk = MemoryDisk::new();
    let log = Log::start(disk.open(Fence(DEAD.0)), DEAD, SLOT).await.unwrap();
    for changes in records {
        log.append(&Record { changes }, Purpose::Operation).unwrap();
    }
    log.push(log.end()).await.unwrap();
    disk
}

async fn recover(disk: &MemoryDisk, held: Vec<Held>) -> bool {
    let recovery = Recovery::new(World::real(), disk.open(Fence(99)));
    recovery.recover(DEAD, held).await.is_ok()
}

/// The permission bits of inode `index`; 0 if there is none.
async fn mode(disk: &MemoryDisk, index: u32) -> u32 {
    let block = disk.open(Fence(1)).read(ino(index).address(), 512).await.unwrap();
    Inode::decode(&block).unwrap().map_or(0, |inode| inode.mode & 0o777)
}

async fn put(disk: &MemoryDisk, at: Offset, bytes: Vec<u8>) {
    disk.open(Fence(1)).write(at, vec![Bytes::from(bytes)], Durability::Now).await.unwrap();
}

#[tokio::test]
async fn changes_under_locks_that_were_held_are_replayed_in_order() {
    let disk = dead_log(vec![
        vec![change(2, 1, 0o1), change(3, 2, 0o2), change(900, 3, 0o4)],
        vec![change(2, 4, 0o5)],
    ])
    .await;
    assert!(recover(&disk, all_held()).await);
    disk.crash_to_flushed();
    let modes = [mode(&disk, 2).await, mode(&disk, 3).await, mode(&disk, 900).await];
    assert_eq!(modes, [0o5, 0o2, 0o4]);
}

#[tokio::test]
async fn a_change_is_judged_by_its_own_lock_and_grant() {
    let disk = dead_log(vec![vec![change(2, 1, 0o1), change(3, 2, 0o2), change(4, 3, 0o4)]]).await;
    let (two, three, four) = (ino(2).lock(), ino(3).lock(), ino(4).lock());
    let held = vec![
        held(Span::one(log_lock(SLOT)), Mode::Exclusive, Grant(3)),
        held(Span::one(two), Mode::Exclusive, GRANT),
        // Given up and taken again: what was changed before was flushed in place.
        held(Span::one(three), Mode::Exclusive, Grant(GRANT.0 + 1)),
        held(Span::one(four), Mode::Shared, GRANT),
    ];
    assert!(recover(&disk, held).await);
    assert_eq!([mode(&disk, 2).await, mode(&disk, 3).await, mode(&disk, 4).await], [1, 0, 0]);
}

#[tokio::test]
async fn what_is_newer_on_the_disk_stays() {
    let disk = dead_log(vec![vec![change(2, 5, 0o1), change(3, 6, 0o2)]]).await;
    put(&disk, ino(2).address(), image(9, 0o7)).await;
    put(&disk, ino(3).address(), image(4, 0o7)).await;
    assert!(recover(&disk, all_held()).await);
    assert_eq!([mode(&disk, 2).await, mode(&disk, 3).await], [0o7, 0o2]);
}

#[tokio::test]
async fn what_the_dead_wrote_in_place_and_did_not_flush_is_flushed_before_its_log_goes() {
    let disk = dead_log(vec![vec![change(2, 5, 0o1), change(3, 6, 0o2)]]).await;
    // As if a recoverer had died in the middle, or the dead session had just begun to bring its log home.
    let write = |session, index, bytes: Vec<u8>| {
        let disk = disk.open(Fence(session));
        async move {
            disk.write(ino(index).address(), vec![bytes.into()], Durability::Later).await.unwrap();
        }
    };
    write(DEAD.0, 2, image(5, 0o1)).await;
    write(98, 3, image(6, 0o2)).await;
    assert!(recover(&disk, all_held()).await);
    disk.crash_to_flushed();
    assert_eq!([mode(&disk, 2).await, mode(&disk, 3).await], [0o1, 0o2]);
}

#[tokio::test]
async fn the_dead_session_is_fenced_even_if_it_had_no_log() {
    let disk = MemoryDisk::new();
    assert!(recover(&disk, Vec::new()).await);
    let dead = disk.open(Fence(DEAD.0));
    let write = dead.write(Offset(0), vec![vec![0; 512].into()], Durability::Now);
    assert!(write.await.is_err());
}

#[tokio::test]
async fn the_log_of_an_earlier_session_in_the_slot_is_left_alone() {
    let disk = dead_log(vec![vec![change(2, 1, 0o1)]]).await;
    let recovery = Recovery::new(World::real(), disk.open(Fence(99)));
    recovery.recover(SessionId(8), all_held()).await.unwrap();
    assert_eq!(mode(&disk, 2).await, 0);
}

#[tokio::test]
async fn space_segments_of_the_dead_are_marked_and_nothing_else_of_them_changes() {
    let disk = dead_log(Vec::new()).await;
    let head = SegmentNo::default().space_head();
    let mut map = Bitmap::blank();
    map.put(77, true);
    put(&disk, head, map.bytes().to_vec()).await;
    assert!(recover(&disk, all_held()).await);
    map.set_dirty(true);
    let page = disk.open(Fence(1)).read(head, PAGE).await.unwrap();
    assert_eq!(Bitmap::decode(&page).unwrap(), map);
}

#[tokio::test]
async fn recovery_cut_off_anywhere_and_done_again_ends_the_same() {
    for cut in 0.. {
        let changes = (2..40).map(|i| change(i * 40, u64::from(i), 0o6)).collect();
        let disk = dead_log(vec![changes]).await;
        disk.break_after(cut);
        let done = recover(&disk, all_held()).await;
        disk.crash(cut);
        assert!(recover(&disk, all_held()).await);
        // Somebody changes what was recovered; a late second recovery must not undo that.
        put(&disk, ino(80).address(), image(99, 0o3)).await;
        assert!(recover(&disk, all_held()).await);
        assert_eq!(mode(&disk, 80).await, 0o3);
        for i in 3..40 {
            assert_eq!(mode(&disk, i * 40).await, 0o6, "inode {}, cut at {cut}", i * 40);
        }
        if done {
            assert!(cut > 3);
            return;
        }
    }
}

#[tokio::test]
async fn many_logs_are_replayed_at_one_time() {
    let disk = MemoryDisk::new();
    let mut recoveries = Vec::new();
    for i in 0..20_u32 {
        let session = SessionId(100 + u64::from(i));
        let log = Log::start(disk.open(Fence(session.0)), session, i).await.unwrap();
        log.append(&Record { changes: vec![change(2 + i, 1, 0o6)] }, Purpose::Operation).unwrap();
        log.push(log.end()).await.unwrap();
        let recovery = Recovery::new(World::real(), disk.open(Fence(99)));
        let held = vec![
            held(Span::one(log_lock(i)), Mode::Exclusive, Grant(3)),
            held(Span::one(ino(2 + i).lock()), Mode::Exclusive, GRANT),
        ];
        recoveries.push(async move { recovery.recover(session, held).await });
    }
    let results = futures_util::future::join_all(recoveries).await;
    assert!(results.iter().all(Result::is_ok));
    for i in 0..20 {
        assert_eq!(mode(&disk, 2 + i).await, 0o6);
    }
}
