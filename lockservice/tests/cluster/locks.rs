//! Locks through a whole service: a leader dies, a clerk dies.

use std::time::{Duration, Instant};

use lockservice::{Clerk, Locks, Mode, Name, Remote, Service, Span};
use tokio::time::sleep;
use wire::{ClusterId, Identity, NodeId};

use crate::harness::{Cluster, LEASE, SOON};

fn one(index: u32) -> Span {
    Span::one(Name::new(1, 0, index))
}

async fn get(clerk: &Clerk, index: u32) -> lockservice::Pin {
    clerk.acquire(one(index), one(index), Mode::Exclusive).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_outlive_the_leader_and_pass_on_under_the_next() {
    let cluster = Cluster::start(3, LEASE).await;
    let (a, a_notes) = cluster.join(cluster.router(), "a").await;
    let (b, b_notes) = cluster.join(cluster.router(), "b").await;
    drop(get(&a, 1).await);
    let before = a.held(Name::new(1, 0, 1), Mode::Exclusive).unwrap();
    let leader = cluster.leader().await;
    cluster.mesh.cut(NodeId(leader as u64 + 1));
    cluster.nodes[leader].server.stop();
    cluster.nodes[leader].host.stop().await;

    assert_eq!(a.held(Name::new(1, 0, 1), Mode::Exclusive), Some(before));
    drop(get(&b, 2).await);
    drop(get(&b, 1).await);
    assert!(a.held(Name::new(1, 0, 1), Mode::Shared).is_none());
    sleep(LEASE * 2).await;
    assert!(b.held(Name::new(1, 0, 1), Mode::Exclusive).is_some(), "leases were renewed");
    assert_eq!(a_notes.0.lock().len(), 1, "one revocation, nothing else");
    assert!(b_notes.0.lock().is_empty());
    a.close().await.unwrap();
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_clerk_is_fenced_and_replayed_before_its_locks_pass_on() {
    let cluster = Cluster::start(3, LEASE).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    let (b, notes) = cluster.join(cluster.router(), "b").await;
    drop(get(&a, 1).await);
    drop(get(&a, 3).await);
    let dead = a.session().0;
    let began = Instant::now();
    a.abandon();
    drop(get(&b, 1).await);
    let took = began.elapsed();
    assert_eq!(*notes.0.lock(), [format!("fence {dead}"), format!("replayed {dead} with 2 locks")]);
    assert!(took < LEASE + Duration::from_secs(1), "{took:?}");
    assert!(took > LEASE / 2, "not before the lease was over: {took:?}");
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clerk_without_coordinators_stops_using_its_locks_before_they_could_pass_on() {
    let cluster = Cluster::start(1, LEASE).await;
    let (a, notes) = cluster.join(cluster.router(), "a").await;
    drop(get(&a, 1).await);
    let began = Instant::now();
    cluster.nodes[0].server.stop();
    cluster.nodes[0].host.stop().await;
    while notes.0.lock().is_empty() && began.elapsed() < SOON {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert_eq!(*notes.0.lock(), ["expired"]);
    assert!(a.held(Name::new(1, 0, 1), Mode::Shared).is_none());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clerks_work_the_same_over_a_socket() {
    let cluster = Cluster::start(1, LEASE).await;
    let far = cluster.serve().await;
    let remote = || far.reach(&cluster.world);
    let (a, notes) = cluster.join(remote(), "a").await;
    let (b, _) = cluster.join(remote(), "b").await;
    let began = Instant::now();
    for index in 1..=200 {
        drop(get(&a, index).await);
    }
    eprintln!("200 single acquires over a socket: {:?}", began.elapsed());
    let began = Instant::now();
    for index in 1..=100 {
        drop(get(&b, index).await);
    }
    eprintln!("100 hand-overs over a socket: {:?}", began.elapsed());
    assert_eq!(notes.0.lock().len(), 100);
    a.report("{\"x\":1}".to_owned());
    let deadline = cluster.world.clock.now() + SOON;
    let rows = remote().sessions(deadline).await.unwrap();
    assert_eq!((rows.len(), rows[0].report.as_str()), (2, "{\"x\":1}"));
    assert!(rows[0].lease_left > LEASE / 2, "{:?}", rows[0].lease_left);
    assert_eq!(remote().locks(deadline).await.unwrap().locks.len(), 200);
    let stranger = Identity { cluster: ClusterId(8), ..far.me };
    let refused =
        Remote::new(&cluster.world, stranger, &far.address).locks(deadline).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to cluster"), "{refused}");
    a.close().await.unwrap();
    b.close().await.unwrap();
    far.stop(&cluster.world).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_acquires_at_once_share_their_batches() {
    let cluster = Cluster::start(3, Duration::from_secs(30)).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    let sent = a.messages();
    let began = Instant::now();
    let all = (0..2000).map(|index| get(&a, index));
    let pins = futures_util::future::join_all(all).await;
    let messages = a.messages() - sent;
    eprintln!("2000 acquires at once: {:?} in {messages} messages", began.elapsed());
    assert_eq!(pins.len(), 2000);
    assert!(messages < 50, "{messages}");
    drop(pins);
    a.close().await.unwrap();
    cluster.stop().await;
}
