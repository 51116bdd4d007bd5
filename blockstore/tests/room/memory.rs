//! The memory disk keeps the contract of a virtual disk, and loses at a power loss exactly what
//! that contract lets it lose.

use std::sync::Arc;

use crate::suite;
use blockstore::{CHUNK, Durability, Error, Fence, Offset, PAGE, VirtualDisk, memory::MemoryDisk};
use bytes::Bytes;

fn page(byte: u8) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; PAGE as usize])]
}

async fn first_byte(disk: &dyn VirtualDisk, at: u64) -> u8 {
    disk.read(Offset(at), PAGE).await.unwrap()[0]
}

#[tokio::test]
async fn the_memory_disk_passes_the_suite() {
    let disk = MemoryDisk::new();
    suite::everything(&|session| disk.open(Fence(session)) as Arc<dyn VirtualDisk>).await;
}

#[tokio::test]
async fn a_power_loss_keeps_what_was_flushed_and_nothing_that_was_never_written() {
    for seed in 0..200 {
        let shared = MemoryDisk::new();
        let disk = shared.open(Fence(1));
        disk.write(Offset(0), page(1), Durability::Later).await.unwrap();
        disk.flush().await.unwrap();
        disk.write(Offset(0), page(2), Durability::Later).await.unwrap();
        disk.write(Offset(0), page(3), Durability::Later).await.unwrap();
        disk.write(Offset(PAGE), page(4), Durability::Later).await.unwrap();
        shared.crash(seed);
        assert!([1, 2, 3].contains(&first_byte(&*disk, 0).await));
        assert!([0, 4].contains(&first_byte(&*disk, PAGE).await));
        let now = first_byte(&*disk, 0).await;
        shared.crash(seed + 1);
        assert_eq!(first_byte(&*disk, 0).await, now);
    }
}

#[tokio::test]
async fn pages_are_lost_each_for_itself() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..64 {
        let shared = MemoryDisk::new();
        let disk = shared.open(Fence(1));
        disk.write(Offset(0), page(1), Durability::Later).await.unwrap();
        disk.write(Offset(PAGE), page(1), Durability::Later).await.unwrap();
        shared.crash(seed);
        seen.insert((first_byte(&*disk, 0).await, first_byte(&*disk, PAGE).await));
    }
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[tokio::test]
async fn a_flagged_write_covers_its_sessions_chunk_and_no_other_session() {
    let shared = MemoryDisk::new();
    let (one, two) = (shared.open(Fence(1)), shared.open(Fence(2)));
    one.write(Offset(0), page(1), Durability::Later).await.unwrap();
    one.write(Offset(CHUNK), page(2), Durability::Later).await.unwrap();
    two.write(Offset(2 * PAGE), page(3), Durability::Later).await.unwrap();
    one.write(Offset(PAGE), page(4), Durability::Now).await.unwrap();
    shared.crash_to_flushed();
    assert_eq!(first_byte(&*one, 0).await, 1);
    assert_eq!(first_byte(&*one, PAGE).await, 4);
    assert_eq!(first_byte(&*one, CHUNK).await, 0);
    assert_eq!(first_byte(&*one, 2 * PAGE).await, 0);
}

#[tokio::test]
async fn a_discard_is_undone_by_a_power_loss_unless_flushed() {
    let shared = MemoryDisk::new();
    let disk = shared.open(Fence(1));
    disk.write(Offset(0), page(1), Durability::Now).await.unwrap();
    disk.discard(Offset(0), CHUNK).await.unwrap();
    assert_eq!(first_byte(&*disk, 0).await, 0);
    shared.crash_to_flushed();
    assert_eq!(first_byte(&*disk, 0).await, 1);
    disk.discard(Offset(0), CHUNK).await.unwrap();
    disk.flush().await.unwrap();
    shared.crash_to_flushed();
    assert_eq!(first_byte(&*disk, 0).await, 0);
    assert_eq!(shared.used(), 0);
}

#[tokio::test]
async fn a_broken_connection_lets_so_many_requests_through() {
    let shared = MemoryDisk::new();
    let disk = shared.open(Fence(1));
    shared.break_after(2);
    disk.write(Offset(0), page(1), Durability::Later).await.unwrap();
    disk.flush().await.unwrap();
    let stalled = disk.write(Offset(0), page(2), Durability::Now).await;
    assert!(matches!(stalled, Err(Error::Stalled { .. })));
    shared.crash(1);
    assert_eq!(first_byte(&*disk, 0).await, 1);
    disk.write(Offset(0), page(3), Durability::Now).await.unwrap();
}

#[tokio::test]
async fn a_full_disk_refuses_new_pages_and_takes_old_ones() {
    let shared = MemoryDisk::with_capacity(2 * PAGE);
    let disk = shared.open(Fence(1));
    disk.write(Offset(0), page(1), Durability::Later).await.unwrap();
    disk.write(Offset(PAGE), page(1), Durability::Later).await.unwrap();
    let full = disk.write(Offset(5 * PAGE), page(1), Durability::Later).await;
    assert_eq!(full, Err(Error::NoSpace));
    disk.write(Offset(0), page(2), Durability::Later).await.unwrap();
    assert_eq!(disk.space().await.unwrap().free, 0);
}
