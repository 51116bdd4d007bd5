//! Several shards: lock groups move between them while clerks use them, while one is dead, and while
//! leaders die.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use lockservice::{
    Clerk, LockGroup, Locks, Mode, Name, Service, Shard, Span,
    message::{Assignment, GroupCommand, GroupReply},
};
use parking_lot::Mutex;
use tokio::time::sleep;
use wire::NodeId;

use crate::harness::{Cluster, LEASE, SOON};

/// One name of each of some segments, which lie at all shards.
const SEGMENTS: u32 = 12;

fn name(segment: u32) -> Name {
    Name::new(1, segment % SEGMENTS, 3)
}

async fn get(clerk: &Clerk, segment: u32) -> lockservice::Pin {
    let one = Span::one(name(segment));
    clerk.acquire(one, one, Mode::Exclusive).await.unwrap()
}

async fn assignment(cluster: &Cluster, service: &Arc<dyn Service>) -> Assignment {
    let deadline = cluster.world.clock.now() + SOON;
    service.groups(deadline).await.unwrap()
}

/// Waits until there are so many shards and no group is on its way.
async fn settled(cluster: &Cluster, service: &Arc<dyn Service>, shards: u32) -> Assignment {
    let began = Instant::now();
    loop {
        let now = assignment(cluster, service).await;
        if now.shards == shards && now.groups.iter().all(|row| row.moving.is_none()) {
            return now;
        }
        assert!(began.elapsed() < SOON * 4, "groups do not arrive: {now:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Has the group of a segment moved on to the next shard; `None` while it is on its way already.
async fn push(cluster: &Cluster, service: &Arc<dyn Service>, segment: u32) -> Option<Shard> {
    let group = LockGroup::of(name(segment));
    let now = assignment(cluster, service).await;
    let row = now.groups.iter().find(|row| row.group == group).unwrap();
    let to = Shard((row.shard.0 + 1) % now.shards);
    let command = GroupCommand::Move { group, to };
    let deadline = cluster.world.clock.now() + SOON;
    let reply = service.direct(command, deadline).await.unwrap();
    (reply == GroupReply::Done).then_some(to)
}

/// Who is at a lock, and the last number that was given for it.
type Book = Arc<Mutex<BTreeMap<Name, (Option<u64>, u64)>>>;

/// Takes one lock after the other until it is told to stop; how often.
async fn work(clerk: Arc<Clerk>, book: Book, mut seed: u64, until: Instant) -> u64 {
    let me = clerk.session().0;
    let mut turns = 0;
    while Instant::now() < until {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let segment = (seed >> 33) as u32 % SEGMENTS;
        let pin = get(&clerk, segment).await;
        {
            let mut book = book.lock();
            let (at_it, last) = book.entry(name(segment)).or_default();
            assert_eq!(*at_it, None, "L1: {} is used by two", name(segment));
            let number = pin.held.grant.0;
            assert!(number >= *last, "numbers of {} fell from {last} to {number}", name(segment));
            (*at_it, *last) = (Some(me), number);
        }
        tokio::task::yield_now().await;
        book.lock().get_mut(&name(segment)).unwrap().0 = None;
        drop(pin);
        turns += 1;
    }
    turns
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_move_between_shards_under_load_and_clerks_follow() {
    let cluster = Cluster::with_shards(3, Duration::from_secs(30), 3).await;
    let service: Arc<dyn Service> = cluster.router();
    let spread = settled(&cluster, &service, 3).await;
    for shard in (0..3).map(Shard) {
        let there = spread.groups.iter().filter(|row| row.shard == shard).count();
        assert!((33..=34).contains(&there), "{there} groups at {shard:?}");
    }
    let book = Book::default();
    let until = Instant::now() + Duration::from_secs(4);
    let mut workers = Vec::new();
    let mut clerks = Vec::new();
    for number in 0..3 {
        let (clerk, _) = cluster.join(cluster.router(), &format!("c{number}")).await;
        clerks.push(Arc::clone(&clerk));
        workers.push(tokio::spawn(work(clerk, Arc::clone(&book), number, until)));
    }
    let mut moves = 0;
    while Instant::now() < until {
        moves += u32::from(push(&cluster, &service, moves * 5).await.is_some());
        sleep(Duration::from_millis(20)).await;
    }
    let mut turns = 0;
    for worker in workers {
        turns += worker.await.unwrap();
    }
    eprintln!(
        "{turns} locks taken in 4 s by 3 clerks over 3 shards, {moves} groups moved meanwhile"
    );
    settled(&cluster, &service, 3).await;
    assert!(moves >= 10 && turns > 300, "{moves} moves, {turns} turns");
    for clerk in clerks {
        clerk.close().await.unwrap();
    }
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_clerks_locks_at_all_shards_pass_on_together_though_their_groups_move() {
    let cluster = Cluster::with_shards(3, LEASE, 3).await;
    let service: Arc<dyn Service> = cluster.router();
    settled(&cluster, &service, 3).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    let (b, notes) = cluster.join(cluster.router(), "b").await;
    for segment in 0..SEGMENTS {
        drop(get(&a, segment).await);
    }
    let (dead, newest) = (a.session().0, a.newest());
    a.abandon();
    for segment in 0..SEGMENTS {
        push(&cluster, &service, segment).await;
    }
    for segment in 0..SEGMENTS {
        let pin = get(&b, segment).await;
        assert!(pin.held.grant > newest, "{:?} is not past {newest:?}", pin.held);
    }
    let all = format!("replayed {dead} with {SEGMENTS} locks");
    assert_eq!(*notes.0.lock(), [format!("fence {dead}"), all]);
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moves_go_on_when_a_coordinator_dies_in_the_middle_of_them() {
    let cluster = Cluster::with_shards(3, LEASE * 4, 2).await;
    let service: Arc<dyn Service> = cluster.router();
    settled(&cluster, &service, 2).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    for segment in 0..SEGMENTS {
        drop(get(&a, segment).await);
    }
    for segment in 0..SEGMENTS {
        push(&cluster, &service, segment).await;
    }
    let leader = cluster.leader().await;
    cluster.mesh.cut(NodeId(leader as u64 + 1));
    cluster.nodes[leader].stop().await;
    settled(&cluster, &service, 2).await;
    let (b, _) = cluster.join(cluster.router(), "b").await;
    for segment in 0..SEGMENTS {
        assert!(a.held(name(segment), Mode::Exclusive).is_some(), "what is held stays");
        drop(get(&b, segment).await);
    }
    a.close().await.unwrap();
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clerks_follow_groups_over_a_socket() {
    let cluster = Cluster::with_shards(1, LEASE, 2).await;
    let far = cluster.serve().await;
    let service = far.reach(&cluster.world);
    settled(&cluster, &service, 2).await;
    let (a, notes) = cluster.join(far.reach(&cluster.world), "a").await;
    let (b, _) = cluster.join(far.reach(&cluster.world), "b").await;
    for segment in 0..SEGMENTS {
        drop(get(&a, segment).await);
        push(&cluster, &service, segment).await;
    }
    settled(&cluster, &service, 2).await;
    for segment in 0..SEGMENTS {
        drop(get(&b, segment).await);
    }
    assert_eq!(notes.0.lock().len() as u32, SEGMENTS, "each was asked for once, at its new place");
    let deadline = cluster.world.clock.now() + SOON;
    let (shards, rows) = lockservice::shards::groups(Arc::clone(&service), deadline).await.unwrap();
    assert_eq!(shards, 2);
    let spans: u64 = rows.iter().map(|(_, load)| load.spans).sum();
    assert_eq!(spans, u64::from(SEGMENTS));
    let sessions = lockservice::shards::sessions(service, deadline).await.unwrap();
    let held: Vec<u64> = sessions.iter().map(|row| row.spans).collect();
    assert_eq!(held, [0, u64::from(SEGMENTS)]);
    a.close().await.unwrap();
    b.close().await.unwrap();
    far.stop(&cluster.world).await;
    cluster.stop().await;
}
