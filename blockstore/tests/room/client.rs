//! The client of the virtual disk against servers in memory: what it sends, what it repeats, what
//! it writes again, and what it says when nobody answers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    fake::{Fake, byte_of, page},
    suite,
};
use blockstore::{
    BLOCK, CHUNK, Durability, Error, Fence, Offset, PAGE, SECTOR, VirtualDisk,
    client::{Client, ClientConfig},
    place::{Group, ServerId},
};
use bytes::Bytes;
use futures_util::FutureExt;

const LONG: Duration = Duration::from_secs(10);
const SHORT: Duration = Duration::from_millis(100);

async fn first_byte(disk: &Client, at: u64) -> u8 {
    disk.read(Offset(at), PAGE).await.unwrap()[0]
}

#[tokio::test]
async fn the_client_passes_the_suite() {
    let fake = Fake::new().await;
    let mut disks = BTreeMap::new();
    for session in 1..=8 {
        let disk = fake.open(session, LONG).await;
        disks.insert(session, disk as Arc<dyn VirtualDisk>);
    }
    let confirming = Arc::clone(&fake);
    let confirm = fake.world.spawn("confirm", async move {
        loop {
            confirming.confirm_fences().await;
            confirming.world.clock.sleep(Duration::from_millis(20)).await;
        }
    });
    suite::everything(&|session| Arc::clone(&disks[&session])).await;
    confirm.abort();
}

#[tokio::test]
async fn a_megabyte_is_one_request_to_one_head() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    let mib = Bytes::from(vec![7; 1 << 20]);
    disk.write(Offset(byte_of(Group(2)) & !0xf_ffff), vec![mib], Durability::Later).await.unwrap();
    assert_eq!(fake.log().done.len(), 1);
    disk.flush().await.unwrap();
    let flushes: Vec<(ServerId, usize)> = (1..=3).map(|server| (ServerId(server), 1)).collect();
    assert_eq!(fake.log().flushes, flushes);
    assert_eq!(disk.unflushed(), 0);
    disk.flush().await.unwrap();
    assert_eq!(fake.log().flushes.len(), 3, "nothing was written since");
}

#[tokio::test]
async fn a_flush_of_many_groups_is_one_request_to_each_server() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    for group in 0..8 {
        disk.write(Offset(byte_of(Group(group))), page(1), Durability::Later).await.unwrap();
    }
    disk.flush().await.unwrap();
    assert_eq!(fake.log().flushes.len(), 3);
    assert!(fake.log().flushes.iter().all(|(_, groups)| *groups == 8));
    assert_eq!(disk.traffic().flushes, 8);
}

#[tokio::test]
async fn a_write_without_an_answer_is_repeated_and_happens_once() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    fake.fault(|faults| faults.lost_replies = 1);
    disk.write(Offset(0), page(1), Durability::Later).await.unwrap();
    let log = fake.log();
    assert_eq!((log.done.len(), log.repeated), (1, 1));
    fake.fault(|faults| (faults.lost_requests, faults.not_ready) = (2, 2));
    disk.write(Offset(0), page(2), Durability::Now).await.unwrap();
    assert_eq!(fake.log().done.len(), 2);
    assert_eq!(first_byte(&disk, 0).await, 2);
}

#[tokio::test]
async fn a_write_that_was_given_up_by_its_caller_goes_on_and_a_flush_waits_for_it() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    fake.fault(|faults| faults.silent = (1..=3).map(ServerId).collect());
    let at = Offset(byte_of(Group(1)));
    {
        let write = disk.write(at, page(5), Durability::Later);
        assert!(write.now_or_never().is_none());
    }
    let mut flush = disk.flush();
    assert!(flush.as_mut().now_or_never().is_none());
    fake.fault(|faults| faults.silent.clear());
    flush.await.unwrap();
    assert_eq!(first_byte(&disk, at.0).await, 5);
    assert_eq!(disk.unflushed(), 0);
}

#[tokio::test]
async fn a_client_whose_question_for_a_newer_chart_was_lost_asks_again_when_a_server_knows_better()
{
    let fake = Fake::new().await;
    for session in 1..=3 {
        let disk = fake.open_muted(session, 1).await;
        disk.write(Offset(0), page(1), Durability::Later).await.unwrap();
        if session == 3 {
            disk.write(Offset(PAGE), page(2), Durability::Later).await.unwrap();
        }
        fake.restart(&[1, 2, 3]).await;
        let soon = async {
            match session {
                1 => disk.write(Offset(0), page(3), Durability::Later).await.map(|()| 3),
                2 => disk.read(Offset(0), PAGE).await.map(|page| page[0]),
                _ => disk.flush().await.map(|()| 0),
            }
        };
        // Its question would have been repeated after twenty seconds.
        let done = fake.world.until(fake.world.clock.now() + LONG / 2, soon).await;
        assert!(done.is_ok_and(|done| done.is_ok()), "session {session}");
    }
}

#[tokio::test]
async fn silence_ends_in_an_error_that_names_the_server_and_the_write_still_lands() {
    let fake = Fake::new().await;
    let disk = fake.open(1, SHORT).await;
    fake.confirm_fences().await;
    let at = byte_of(Group(1));
    fake.fault(|faults| faults.silent = [ServerId(2)].into());
    let stalled = disk.write(Offset(at), page(5), Durability::Later).await;
    assert_eq!(stalled, Err(Error::Stalled { server: "2".to_owned() }));
    let stalled = disk.flush().await;
    assert_eq!(stalled, Err(Error::Stalled { server: "2".to_owned() }));
    fake.fault(|faults| faults.silent.clear());
    let again = fake.open(2, LONG).await;
    for _ in 0..200 {
        if first_byte(&again, at).await == 5 {
            return;
        }
        fake.world.clock.sleep(Duration::from_millis(10)).await;
    }
    panic!("the write never landed");
}

#[tokio::test]
async fn what_a_power_loss_took_is_written_again_before_it_is_read_or_flushed() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    let at = byte_of(Group(3));
    disk.write(Offset(at), page(1), Durability::Later).await.unwrap();
    disk.flush().await.unwrap();
    disk.write(Offset(at), page(2), Durability::Later).await.unwrap();
    disk.write(Offset(at + PAGE), page(3), Durability::Later).await.unwrap();
    let half = vec![Bytes::from(vec![4; SECTOR as usize])];
    disk.write(Offset(at + PAGE), half, Durability::Later).await.unwrap();
    fake.power_loss().await;
    assert_eq!(first_byte(&disk, at).await, 2);
    let second = disk.read(Offset(at + PAGE), PAGE).await.unwrap();
    assert_eq!((second[0], second[511], second[512]), (4, 4, 3));
    fake.power_loss().await;
    disk.flush().await.unwrap();
    fake.power_loss().await;
    let second = disk.read(Offset(at + PAGE), PAGE).await.unwrap();
    assert_eq!((second[0], second[512]), (4, 3));
    assert_eq!(disk.unflushed(), 0);
}

#[tokio::test]
async fn a_discard_that_a_power_loss_took_is_made_again() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    let at = byte_of(Group(3));
    disk.write(Offset(at), vec![Bytes::from(vec![9; 3 * PAGE as usize])], Durability::Now)
        .await
        .unwrap();
    disk.discard(Offset(at), 3 * PAGE).await.unwrap();
    let sector = vec![Bytes::from(vec![1; SECTOR as usize])];
    disk.write(Offset(at + PAGE), sector, Durability::Later).await.unwrap();
    fake.power_loss().await;
    disk.flush().await.unwrap();
    fake.power_loss().await;
    let bytes = disk.read(Offset(at), 3 * PAGE).await.unwrap();
    assert!(bytes[..4096].iter().all(|byte| *byte == 0));
    assert_eq!((bytes[4096], bytes[4096 + 512]), (1, 0));
    assert!(bytes[8192..].iter().all(|byte| *byte == 0));
}

#[tokio::test]
async fn a_flagged_write_needs_no_flush_and_takes_its_chunk_along() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    let at = byte_of(Group(4));
    disk.write(Offset(at), page(1), Durability::Later).await.unwrap();
    disk.write(Offset(at + PAGE), page(2), Durability::Now).await.unwrap();
    assert_eq!(disk.unflushed(), 0);
    disk.flush().await.unwrap();
    assert!(fake.log().flushes.is_empty());
    fake.power_loss().await;
    assert_eq!(first_byte(&disk, at).await, 1);
    assert_eq!(first_byte(&disk, at + PAGE).await, 2);
}

#[tokio::test]
async fn reads_are_spread_and_go_to_another_replica_when_one_is_damaged_or_silent() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    for stripe in 0..12 {
        let at = Offset(stripe * (4 << 20));
        disk.write(at, page(stripe as u8 + 1), Durability::Later).await.unwrap();
        disk.read(at, PAGE).await.unwrap();
    }
    assert!(fake.log().reads.values().all(|reads| *reads == 4), "{:?}", fake.log().reads);
    fake.fault(|faults| {
        faults.damaged.insert(ServerId(1));
        faults.silent.insert(ServerId(2));
    });
    for stripe in 0..12 {
        assert_eq!(first_byte(&disk, stripe * (4 << 20)).await, stripe as u8 + 1);
    }
    fake.fault(|faults| {
        faults.damaged = (1..=3).map(ServerId).collect();
        faults.silent.clear();
    });
    let damaged = disk.read(Offset(BLOCK), PAGE).await;
    assert_eq!(damaged, Err(Error::Damaged { offset: BLOCK }));
}

/// A client that another one has had fenced, after it wrote a page; and that other one.
async fn fenced(fake: &Arc<Fake>) -> (Arc<Client>, Arc<Client>) {
    let (dead, live) = (fake.open(5, LONG).await, fake.open(6, LONG).await);
    dead.write(Offset(0), page(1), Durability::Later).await.unwrap();
    let fence = live.fence(Fence(5));
    let confirm = async {
        loop {
            fake.confirm_fences().await;
            fake.world.clock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        fenced = fence => fenced.unwrap(),
        () = confirm => {}
    }
    (dead, live)
}

#[tokio::test]
async fn a_flush_fails_when_a_power_loss_took_what_a_fenced_session_wrote() {
    let fake = Fake::new().await;
    let (dead, live) = fenced(&fake).await;
    fake.power_loss().await;
    assert_eq!(dead.flush().await, Err(Error::Fenced(5)));
    assert_eq!(first_byte(&live, 0).await, 0, "nobody wrote it again");
}

#[tokio::test]
async fn a_client_on_the_host_of_a_replica_reads_there_as_long_as_it_answers() {
    let fake = Fake::new().await;
    let near = Some("10.0.0.2".to_owned());
    let config = ClientConfig { near, deadline: LONG, ..ClientConfig::new(Fence(1)) };
    let disk = fake.open_with(config).await;
    let hosts: Vec<_> = disk.hosts(Offset(5 * CHUNK)).into_iter().collect();
    assert_eq!(hosts, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let read = async || {
        for stripe in 0..12 {
            disk.read(Offset(stripe * (4 << 20)), PAGE).await.unwrap();
        }
        fake.log().reads
    };
    assert_eq!(read().await, BTreeMap::from([(ServerId(2), 12)]));
    fake.fault(|faults| {
        faults.silent.insert(ServerId(2));
    });
    let reads = read().await;
    assert_eq!(reads[&ServerId(2)], 12);
    assert_eq!(reads[&ServerId(1)] + reads[&ServerId(3)], 12);
}

#[tokio::test]
async fn a_fenced_session_hears_it_at_every_call() {
    let fake = Fake::new().await;
    let (dead, live) = fenced(&fake).await;
    let refused = Err(Error::Fenced(5));
    assert_eq!(dead.write(Offset(0), page(2), Durability::Later).await, refused);
    assert_eq!(dead.discard(Offset(0), CHUNK).await, refused);
    assert_eq!(dead.flush().await, refused);
    assert_eq!(first_byte(&live, 0).await, 1);
}

#[tokio::test]
async fn no_space_is_told_and_nothing_is_kept_of_it() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    fake.fault(|faults| faults.full = true);
    let full = disk.write(Offset(0), page(1), Durability::Later).await;
    assert_eq!(full, Err(Error::NoSpace));
    assert_eq!(disk.unflushed(), 0);
    disk.flush().await.unwrap();
    assert_eq!(disk.space().await.unwrap().total, 300, "three times 300 in three copies");
}

#[tokio::test]
async fn a_discard_goes_to_every_group_of_its_range_once() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    disk.discard(Offset(1 << 62), 1 << 60).await.unwrap();
    let groups: Vec<u32> = fake.log().done.iter().map(|(group, ..)| group.0).collect();
    assert_eq!(groups.len(), 8);
    disk.discard(Offset(0), PAGE).await.unwrap();
    assert_eq!(fake.log().done.len(), 9);
}

#[tokio::test]
async fn one_restart_while_writing_loses_nothing() {
    let fake = Fake::new().await;
    let disk = fake.open(1, LONG).await;
    let writes = async {
        for page_number in 0..400_u64 {
            let byte = page_number as u8 | 1;
            let at = Offset(page_number * 37 * BLOCK);
            disk.write(at, page(byte), Durability::Later).await.unwrap();
            if page_number % 50 == 49 {
                disk.flush().await.unwrap();
            }
        }
    };
    let restarts = async {
        for server in 0..30 {
            fake.restart(&[server % 3 + 1]).await;
            tokio::task::yield_now().await;
        }
        fake.power_loss().await;
    };
    futures_util::future::join(writes, restarts).await;
    fake.power_loss().await;
    disk.flush().await.unwrap();
    for page_number in 0..400_u64 {
        assert_eq!(first_byte(&disk, page_number * 37 * BLOCK).await, page_number as u8 | 1);
    }
}
