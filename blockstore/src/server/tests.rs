//! Three block servers in one process, over stores in memory and over the engine: chains, retries,
//! restarts, fences.

#[cfg(feature = "engine")]
mod damage;
mod harness;
#[cfg(feature = "engine")]
mod numbers;

use std::time::Duration;

use harness::{Cluster, VOLUME, pattern};

use crate::{
    disk::{CHUNK, Fence, PAGE},
    link::{Chain, Known, Member, News},
    message::{Change, Discard, Freshness, Refusal, Reply, Request},
    place::{ChainVersion, Incarnation, ServerId},
    server::Server,
    store::{Hashes, Store},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_read_from_every_member() {
    let cluster = Cluster::start().await;
    let bytes = pattern(3 * PAGE, 1);
    let done = cluster.write(1, 8192, &bytes, false).await;
    assert!(matches!(done, Reply::Done { .. }), "{done:?}");
    for place in 0..3 {
        assert_eq!(cluster.read(place, 8192, 3 * 4096).await, bytes);
        assert_eq!(cluster.read(place, 0, 4096).await, vec![0; 4096]);
        assert_eq!(cluster.read(place, 8192 + 512, 1024).await, bytes[512..1536]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_happens_once_and_what_was_answered_is_refused() {
    let cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(PAGE, 1), false).await;
    cluster.write(2, 0, &pattern(PAGE, 2), false).await;
    let again = cluster.write_with_floor(1, 1, 0, &pattern(PAGE, 1), false).await;
    assert!(matches!(again, Reply::Done { .. }), "{again:?}");
    assert_eq!(cluster.read(0, 0, 4096).await, pattern(PAGE, 2), "the retry changed nothing");
    cluster.write_with_floor(3, 3, 4096, &pattern(PAGE, 3), false).await;
    let late = cluster.write_with_floor(1, 1, 0, &pattern(PAGE, 1), false).await;
    assert_eq!(late, Reply::Refused(Refusal::Answered));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writes_at_once_leave_all_members_equal() {
    let cluster = Cluster::start().await;
    let writes = (1..=64).map(|sequence| {
        let cluster = &cluster;
        async move {
            let page = pattern(PAGE, u8::try_from(sequence).unwrap());
            cluster.write_with_floor(sequence, 1, sequence % 5 * PAGE, &page, false).await
        }
    });
    let done = futures_util::future::join_all(writes).await;
    assert!(done.iter().all(|reply| matches!(reply, Reply::Done { .. })), "{done:?}");
    let first = cluster.read(0, 0, 5 * 4096).await;
    assert_eq!(first, cluster.read(1, 0, 5 * 4096).await);
    assert_eq!(first, cluster.read(2, 0, 5 * 4096).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_durable_write_and_a_flush_survive_the_loss_of_power_of_all() {
    let mut cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(PAGE, 1), true).await;
    cluster.write(2, CHUNK, &pattern(PAGE, 2), false).await;
    cluster.write(3, 2 * CHUNK, &pattern(PAGE, 3), false).await;
    cluster.flush(CHUNK).await;
    for server in 1..=3 {
        cluster.crash(server);
    }
    for server in 1..=3 {
        cluster.restart(server).await;
    }
    cluster.serving().await;
    for place in 0..3 {
        assert_eq!(cluster.read(place, 0, 4096).await, pattern(PAGE, 1));
        assert_eq!(cluster.read(place, CHUNK, 4096).await, pattern(PAGE, 2));
        if !cluster.same_group(CHUNK, 2 * CHUNK) && !cluster.same_group(0, 2 * CHUNK) {
            assert_eq!(cluster.read(place, 2 * CHUNK, 4096).await, vec![0; 4096]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_started_anew_is_made_equal_before_the_chain_serves() {
    let mut cluster = Cluster::start().await;
    let before = cluster.chain(0);
    for page in 0..40 {
        cluster.write(page + 1, page * PAGE, &pattern(PAGE, page as u8), false).await;
    }
    for place in 0..3 {
        let server = cluster.member(place, 0);
        cluster.crash(server);
        cluster.restart(server).await;
        cluster.serving().await;
        assert!(cluster.chain(0) > before);
        for page in 0..40 {
            let read = cluster.read(place, page * PAGE, 4096).await;
            assert_eq!(read, pattern(PAGE, page as u8), "page {page} after place {place}");
        }
    }
    let again = cluster.write_with_floor(40, 40, 39 * PAGE, &pattern(PAGE, 99), false).await;
    assert!(matches!(again, Reply::Done { .. }));
    let read = cluster.read(0, 39 * PAGE, 4096).await;
    assert_eq!(read, pattern(PAGE, 39), "the chain remembers across all restarts");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_member_down_is_a_pause_then_a_refusal_that_names_it() {
    let mut cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(PAGE, 1), false).await;
    let middle = cluster.member(1, 0);
    cluster.crash(middle);
    let pause = Duration::from_millis(300);
    let reply = cluster.try_write(2, 0, &pattern(PAGE, 2), pause).await;
    assert_eq!(reply, Reply::Refused(Refusal::Waiting(ServerId(middle))));
    cluster.restart(middle).await;
    cluster.serving().await;
    let reply = cluster.write(2, 0, &pattern(PAGE, 2), false).await;
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    for place in 0..3 {
        assert_eq!(cluster.read(place, 0, 4096).await, pattern(PAGE, 2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_session_changes_nothing_any_more() {
    let cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(PAGE, 1), false).await;
    cluster.fence(Fence(harness::SESSION)).await;
    let reply = cluster.write(2, 0, &pattern(PAGE, 2), false).await;
    assert_eq!(reply, Reply::Refused(Refusal::Fenced(Fence(harness::SESSION))));
    assert_eq!(cluster.read(0, 0, 4096).await, pattern(PAGE, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_chain_version_is_refused_with_the_one_that_is_known() {
    let cluster = Cluster::start().await;
    let group = cluster.group(0);
    let chain = cluster.chain(0);
    let request = |chain| Request::Read {
        group,
        chain,
        volume: VOLUME,
        offset: 0,
        length: 512,
        freshness: Freshness::Strong,
    };
    let reply = cluster.call(0, 0, request(ChainVersion(chain.0 + 1))).await;
    assert_eq!(reply, Reply::Refused(Refusal::Stale(chain)));
    let flush = Request::Flush { groups: vec![(group, ChainVersion(0))] };
    assert_eq!(cluster.call(0, 0, flush).await, Reply::Refused(Refusal::Stale(chain)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_of_many_chunks_reaches_all_members() {
    let cluster = Cluster::start().await;
    let group = cluster.group(0);
    cluster.write(1, 0, &pattern(16 * PAGE, 1), false).await;
    let range = Discard { volume: VOLUME, offset: PAGE, length: 1000 * CHUNK };
    let reply = cluster.mutate(2, group, Change::Discard(range)).await;
    assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
    for place in 0..3 {
        assert_eq!(cluster.read(place, 0, 4096).await, pattern(PAGE, 1)[..4096]);
        assert_eq!(cluster.read(place, PAGE, 15 * 4096).await, vec![0; 15 * 4096]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_clean_stop_of_all_nothing_is_missing() {
    let mut cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(PAGE, 1), false).await;
    for server in 1..=3 {
        assert!(cluster.stop(server).await, "nothing was under way");
    }
    for server in 1..=3 {
        assert!(cluster.store(server).was_clean());
        cluster.restart(server).await;
    }
    cluster.serving().await;
    assert_eq!(cluster.read(2, 0, 4096).await, pattern(PAGE, 1));
}

#[cfg(feature = "engine")]
#[tokio::test(flavor = "multi_thread")]
async fn three_engines_keep_what_was_flushed_across_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_on(Some(dir.path().to_owned())).await;
    let big = pattern(1 << 20, 5);
    cluster.write(1, 0, &big, false).await;
    cluster.write(2, 1 << 20, &pattern(PAGE, 6), true).await;
    cluster.write(3, CHUNK, &pattern(PAGE, 7), false).await;
    cluster.flush(CHUNK).await;
    for server in 1..=3 {
        cluster.crash(server);
    }
    for server in 1..=3 {
        cluster.restart(server).await;
    }
    cluster.serving().await;
    for place in 0..3 {
        assert_eq!(cluster.read(place, 0, 1 << 20).await, big, "a durable write covers its chunk");
        assert_eq!(cluster.read(place, 1 << 20, 4096).await, pattern(PAGE, 6));
        assert_eq!(cluster.read(place, CHUNK, 4096).await, pattern(PAGE, 7));
    }
    for server in 1..=3 {
        assert!(cluster.stop(server).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_newest_copy_is_damaged_nobody_answers_with_an_older_one() {
    let mut cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(2 * PAGE, 1), true).await;
    cluster.write(2, 0, &pattern(PAGE, 2), false).await;
    // One member alone has the second write on its disk, and that rots; the others lose their memory.
    let survivor = cluster.member(0, 0);
    cluster.store(survivor).commit(vec![Hashes::ALL]).await.unwrap();
    assert!(cluster.store(survivor).damage(VOLUME, 0));
    let others: Vec<u64> = (1..=3).filter(|server| *server != survivor).collect();
    for server in &others {
        cluster.crash(*server);
    }
    for server in others {
        cluster.restart(server).await;
    }
    cluster.serving().await;
    for place in 0..3 {
        let page = cluster.read_reply(place, 0, 4096).await;
        assert!(matches!(page, Reply::Refused(Refusal::Damaged { offset: 0 })), "{page:?}");
        assert_eq!(cluster.read(place, PAGE, 4096).await, pattern(2 * PAGE, 1)[4096..]);
    }
    cluster.write(3, 0, &pattern(PAGE, 3), true).await;
    for place in 0..3 {
        assert_eq!(cluster.read(place, 0, 4096).await, pattern(PAGE, 3), "a write makes it good");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn news_that_comes_late_takes_no_joiner_away() {
    let cluster = Cluster::start().await;
    let (row, head) = (cluster.row(0), cluster.server(cluster.member(0, 0)));
    let inner = &head.inner;
    let known = inner.known.lock().map;
    let tell = |later: u64, start: Incarnation, joiner: Option<Member>| {
        tell(head, known + later, start, Chain { joiner, ..row.clone() });
        inner.seat(row.group).unwrap().machine.lock().chain().unwrap().joiner.clone()
    };
    let joiner = Member { server: ServerId(9), ..row.members[2].clone() };
    let (now, past) = (inner.incarnation(), Incarnation(0));
    assert_eq!(tell(5, now, Some(joiner.clone())), Some(joiner.clone()));
    assert_eq!(tell(4, now, None), Some(joiner.clone()), "an older answer that came second");
    assert_eq!(tell(6, past, None), Some(joiner), "an answer to a start that is over");
    assert_eq!(tell(6, now, None), None);
}

/// A row of the map comes to a server.
fn tell(server: &Server, map: u64, start: Incarnation, chain: Chain) {
    let (known, bits) = (Known { map, fences: 0 }, *server.inner.bits.read());
    server.inner.learn(start, &News { known, bits, chains: vec![chain], fenced: Vec::new() });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_gave_up_does_not_pass_for_whole_when_it_comes_back_at_once() {
    let cluster = Cluster::start().await;
    cluster.write(1, 0, &pattern(PAGE, 1), true).await;
    let (row, tail) = (cluster.row(0), cluster.server(cluster.member(2, 0)));
    let (start, known) = (tail.inner.incarnation(), tail.inner.known.lock().map);
    let listed = async || match tail.inner.list(row.group, row.version, None).await {
        Ok(Reply::Blocks { blocks, .. }) => blocks,
        other => panic!("{other:?}"),
    };
    let whole = listed().await;
    let me = row.members[2].clone();
    let without = Chain { members: row.members[..2].to_vec(), ..row.clone() };
    tell(tail, known + 1, start, without.clone());
    tell(tail, known + 2, start, Chain { joiner: Some(me), ..without });
    let left = listed().await;
    assert!(!whole.is_empty() && !left.contains(&whole[0]), "{left:?}");
}
