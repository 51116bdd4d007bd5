//! What every virtual disk must do, as test functions that run on any implementation. What
//! happens to unflushed data at a power loss is not asked here: only the memory disk can be cut.

use std::sync::Arc;

use blockstore::{Durability, Error, Fence, Offset, PAGE, SECTOR, VirtualDisk};
use bytes::Bytes;

/// A disk under test: opens handles for sessions.
pub(crate) type Open<'a> = &'a dyn Fn(u64) -> Arc<dyn VirtualDisk>;

fn filled(byte: u8, length: u64) -> Bytes {
    Bytes::from(vec![byte; length as usize])
}

/// What was never written reads as zeros, also across block and chunk borders.
pub(crate) async fn empty_reads_as_zeros(open: Open<'_>) {
    let disk = open(1);
    let bytes = disk.read(Offset(blockstore::CHUNK - 3 * PAGE), 6 * PAGE).await.unwrap();
    assert_eq!(bytes, filled(0, 6 * PAGE));
    assert_eq!(disk.read(Offset((1 << 63) + SECTOR), SECTOR).await.unwrap(), filled(0, SECTOR));
}

/// Sectors written by two sessions into one page are both there.
pub(crate) async fn sessions_share_a_page_by_sectors(open: Open<'_>) {
    let (one, two) = (open(1), open(2));
    let at = Offset(7 * PAGE);
    one.write(at, vec![filled(1, SECTOR)], Durability::Later).await.unwrap();
    two.write(Offset(at.0 + 3 * SECTOR), vec![filled(2, SECTOR)], Durability::Later).await.unwrap();
    let mut expected = vec![0; PAGE as usize];
    expected[..512].fill(1);
    expected[3 * 512..4 * 512].fill(2);
    assert_eq!(one.read(at, PAGE).await.unwrap(), expected);
    one.flush().await.unwrap();
    two.flush().await.unwrap();
    assert_eq!(two.read(at, PAGE).await.unwrap(), expected);
}

/// A write in many odd pieces over pages, blocks and a chunk border reads back whole and in part.
pub(crate) async fn long_writes_cross_every_border(open: Open<'_>) {
    let disk = open(3);
    let at = blockstore::CHUNK - (1 << 20) - SECTOR;
    let whole: Vec<u8> = (0..(3 << 20) + 5 * 512u32).map(|i| (i / 7 % 251) as u8).collect();
    let whole = Bytes::from(whole);
    let pieces = vec![whole.slice(..100), whole.slice(100..777_777), whole.slice(777_777..)];
    disk.write(Offset(at), pieces, Durability::Later).await.unwrap();
    assert_eq!(disk.read(Offset(at), whole.len() as u64).await.unwrap(), whole);
    let from = (1 << 20) - 2 * SECTOR;
    let part = disk.read(Offset(at + from), 9 * PAGE).await.unwrap();
    assert_eq!(part, whole.slice(from as usize..(from + 9 * PAGE) as usize));
    disk.flush().await.unwrap();
    assert_eq!(disk.read(Offset(at), whole.len() as u64).await.unwrap(), whole);
}

/// Discarded pages read as zeros, their neighbours do not.
pub(crate) async fn discarded_pages_read_as_zeros(open: Open<'_>) {
    let disk = open(4);
    let at = 3 * blockstore::CHUNK - 40 * PAGE;
    disk.write(Offset(at), vec![filled(9, 80 * PAGE)], Durability::Now).await.unwrap();
    disk.discard(Offset(at + PAGE), 78 * PAGE).await.unwrap();
    disk.flush().await.unwrap();
    assert_eq!(disk.read(Offset(at), PAGE).await.unwrap(), filled(9, PAGE));
    assert_eq!(disk.read(Offset(at + PAGE), 78 * PAGE).await.unwrap(), filled(0, 78 * PAGE));
    assert_eq!(disk.read(Offset(at + 79 * PAGE), PAGE).await.unwrap(), filled(9, PAGE));
}

/// A fenced session changes nothing, others go on.
pub(crate) async fn a_fenced_session_changes_nothing(open: Open<'_>) {
    let (dead, live) = (open(5), open(6));
    let at = Offset(11 * blockstore::BLOCK);
    dead.write(at, vec![filled(1, PAGE)], Durability::Now).await.unwrap();
    live.fence(Fence(5)).await.unwrap();
    let refused = dead.write(at, vec![filled(2, PAGE)], Durability::Later).await;
    assert_eq!(refused, Err(Error::Fenced(5)));
    assert_eq!(dead.discard(at, PAGE).await, Err(Error::Fenced(5)));
    assert_eq!(live.read(at, PAGE).await.unwrap(), filled(1, PAGE));
    live.write(at, vec![filled(3, PAGE)], Durability::Now).await.unwrap();
    assert_eq!(live.read(at, PAGE).await.unwrap(), filled(3, PAGE));
    live.fence(Fence(5)).await.unwrap();
}

/// Requests that are no whole sectors, or lie beyond the end, are refused.
pub(crate) async fn malformed_requests_are_refused(open: Open<'_>) {
    let disk = open(7);
    let invalid = |result: Result<(), Error>| assert!(matches!(result, Err(Error::Invalid(_))));
    invalid(disk.read(Offset(1), SECTOR).await.map(drop));
    invalid(disk.read(Offset(0), 100).await.map(drop));
    invalid(disk.read(Offset(u64::MAX - 511), 2 * SECTOR).await.map(drop));
    invalid(disk.write(Offset(0), vec![filled(0, 13)], Durability::Later).await);
    invalid(disk.discard(Offset(SECTOR), PAGE).await);
}

/// Every request is counted.
pub(crate) async fn traffic_is_counted(open: Open<'_>) {
    let disk = open(8);
    let before = disk.traffic();
    disk.write(Offset(0), vec![filled(1, 2 * PAGE)], Durability::Later).await.unwrap();
    disk.flush().await.unwrap();
    disk.read(Offset(0), PAGE).await.unwrap();
    let after = disk.traffic();
    assert_eq!(after.writes - before.writes, 1);
    assert_eq!(after.written_bytes - before.written_bytes, 2 * PAGE);
    assert_eq!(after.flushes - before.flushes, 1);
    assert_eq!(after.reads - before.reads, 1);
    assert_eq!(after.read_bytes - before.read_bytes, PAGE);
}

/// All of the above, one after the other on one disk.
pub(crate) async fn everything(open: Open<'_>) {
    empty_reads_as_zeros(open).await;
    sessions_share_a_page_by_sectors(open).await;
    long_writes_cross_every_border(open).await;
    discarded_pages_read_as_zeros(open).await;
    malformed_requests_are_refused(open).await;
    traffic_is_counted(open).await;
    a_fenced_session_changes_nothing(open).await;
}
