//! Each recipe with two or more clients of one service in this process.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use parking_lot::Mutex as Lock;
use world::{Time, World};

use super::{Configuration, Counter, DoubleBarrier, Election, Members, Mutex, ReadWriteLock};
use crate::{
    Clerk, Error, Locks,
    local::LocalLocks,
    registry::{Happened, NodePath, Registry},
};

struct Bench {
    locals: LocalLocks,
    clerks: Vec<Arc<Clerk>>,
}

fn path(text: &str) -> NodePath {
    NodePath::new(text).unwrap()
}

fn after(time: Duration) -> Time {
    World::real().clock.now() + time
}

fn soon() -> Time {
    after(Duration::from_secs(10))
}

/// Long enough for a call, short enough for a test that waits in vain.
fn shortly() -> Time {
    after(Duration::from_millis(60))
}

impl Bench {
    async fn new(clients: usize) -> Self {
        let locals = LocalLocks::new(World::real());
        let mut clerks = Vec::new();
        for number in 0..clients {
            let clerk = locals.open(&number.to_string()).await.unwrap();
            clerk.attach(Arc::new(crate::clerk::Nothing), None);
            clerks.push(clerk);
        }
        Self { locals, clerks }
    }

    fn client(&self, number: usize) -> Registry {
        self.clerks[number].registry()
    }

    async fn kill(&self, number: usize) {
        self.locals.kill(self.clerks[number].session()).await.unwrap();
    }
}

#[tokio::test]
async fn members_come_go_and_are_seen_to_die() {
    let bench = Bench::new(3).await;
    let members = |number| Members::new(&bench.client(number), path("/workers"));
    members(0).join("zero", "at 0").await.unwrap();
    let watch = members(2).watch().await.unwrap();
    members(1).join("one", "at 1").await.unwrap();
    assert_eq!(watch.next(soon()).await.unwrap().happened, Happened::Created);
    let names = |found: Vec<(String, Bytes)>| found.into_iter().map(|(n, _)| n).collect::<Vec<_>>();
    assert_eq!(names(members(2).now().await.unwrap()), ["one", "zero"]);
    bench.kill(0).await;
    assert_eq!(watch.next(soon()).await.unwrap().happened, Happened::Deleted);
    assert_eq!(names(members(2).now().await.unwrap()), ["one"]);
    // A client that comes back under its name takes the place of what it left.
    members(2).join("one", "at 2").await.unwrap();
    assert_eq!(members(1).now().await.unwrap(), [("one".to_owned(), Bytes::from("at 2"))]);
    members(2).leave("one").await.unwrap();
    assert!(members(1).now().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_first_candidate_leads_and_the_next_when_it_dies_under_a_larger_term() {
    let bench = Bench::new(3).await;
    let election = |number| Election::new(&bench.client(number), path("/mr/leader"));
    let first = election(0).stand("0").await.unwrap();
    let second = election(1).stand("1").await.unwrap();
    let third = election(2).stand("2").await.unwrap();
    first.lead(soon()).await.unwrap();
    assert_eq!(second.lead(shortly()).await, Err(Error::Deadline));
    assert_eq!(election(2).leader().await.unwrap().unwrap(), "0");
    bench.kill(0).await;
    second.lead(soon()).await.unwrap();
    assert!(second.term() > first.term());
    assert_eq!(third.lead(shortly()).await, Err(Error::Deadline), "nobody jumps the line");
    let dead = first.lead(shortly()).await;
    assert!(matches!(dead, Err(Error::Node { .. })), "the dead one leads no more: {dead:?}");
    second.resign().await.unwrap();
    third.lead(soon()).await.unwrap();
    assert_eq!(election(1).leader().await.unwrap().unwrap(), "2");
}

#[tokio::test]
async fn a_mutex_excludes_is_handed_over_in_order_and_freed_by_death() {
    let bench = Bench::new(3).await;
    let mutex = |number| Mutex::new(&bench.client(number), path("/locks/m"));
    let held = mutex(0).lock(soon()).await.unwrap();
    assert_eq!(mutex(1).lock(shortly()).await.err(), Some(Error::Deadline));
    let order = Lock::new(Vec::new());
    let (one, two) = (mutex(1), mutex(2));
    let turn = async |mutex: &Mutex, number: usize| {
        let place = mutex.lock(soon()).await.unwrap();
        order.lock().push(number);
        place.leave().await.unwrap();
    };
    let mut first = Box::pin(turn(&one, 1));
    while bench.client(2).children(&path("/locks/m")).await.unwrap().len() < 2 {
        let _ = (&mut first).now_or_never();
    }
    let second = turn(&two, 2);
    let kill = async {
        assert!(order.lock().is_empty());
        bench.kill(0).await;
    };
    tokio::join!(first, second, kill);
    assert_eq!(*order.lock(), [1, 2]);
    drop(held);
}

#[tokio::test]
async fn whoever_waits_in_a_line_is_woken_only_by_the_one_before_it() {
    let bench = Bench::new(3).await;
    let mutex = |number| Mutex::new(&bench.client(number), path("/m"));
    let first = mutex(0).lock(soon()).await.unwrap();
    let (second, third) = (mutex(1), mutex(2));
    let (second, third) = (second.lock(soon()), third.lock(soon()));
    let (mut second, mut third) = (Box::pin(second), Box::pin(third));
    let line = bench.client(0);
    while line.children(&path("/m")).await.unwrap().len() < 2 {
        let _ = (&mut second).now_or_never();
    }
    while line.children(&path("/m")).await.unwrap().len() < 3 {
        let _ = (&mut third).now_or_never();
    }
    let calls = bench.client(2).seen();
    first.leave().await.unwrap();
    let second = second.await.unwrap();
    for _ in 0..50 {
        tokio::task::yield_now().await;
        assert!((&mut third).now_or_never().is_none());
    }
    assert!(bench.client(2).seen() >= calls);
    second.leave().await.unwrap();
    third.await.unwrap().leave().await.unwrap();
}

#[tokio::test]
async fn readers_share_and_a_writer_waits_for_those_before_it_and_bars_those_behind() {
    let bench = Bench::new(4).await;
    let lock = |number| ReadWriteLock::new(&bench.client(number), path("/rw"));
    let one = lock(0).read(soon()).await.unwrap();
    let two = lock(1).read(soon()).await.unwrap();
    let writer_lock = lock(2);
    let mut writer = Box::pin(writer_lock.write(soon()));
    while bench.client(0).children(&path("/rw")).await.unwrap().len() < 3 {
        let _ = (&mut writer).now_or_never();
    }
    assert_eq!(lock(3).read(shortly()).await.err(), Some(Error::Deadline));
    one.leave().await.unwrap();
    two.leave().await.unwrap();
    let writer = writer.await.unwrap();
    assert_eq!(lock(3).read(shortly()).await.err(), Some(Error::Deadline));
    writer.leave().await.unwrap();
    lock(3).read(soon()).await.unwrap();
}

#[tokio::test]
async fn nobody_passes_a_double_barrier_alone() {
    let bench = Bench::new(3).await;
    let barrier = |number| DoubleBarrier::new(&bench.client(number), path("/b"), 3);
    assert_eq!(barrier(0).enter("early", shortly()).await, Err(Error::Deadline));
    let all = ["early-again", "b", "c"];
    // The early one is still inside; only two more are missing.
    let (one, two) = (barrier(1), barrier(2));
    let (b, c) = tokio::join!(one.enter(all[1], soon()), two.enter(all[2], soon()));
    assert_eq!((b, c), (Ok(()), Ok(())));
    assert_eq!(one.leave("b", shortly()).await, Err(Error::Deadline), "others are inside");
    let zero = barrier(0);
    let (e, c) = tokio::join!(zero.leave("early", soon()), two.leave("c", soon()));
    assert_eq!((e, c), (Ok(()), Ok(())));
}

#[tokio::test]
async fn readers_of_a_configuration_never_see_two_rounds_mixed() {
    let bench = Bench::new(2).await;
    let writer = Configuration::new(&bench.client(0), path("/cf"));
    let reader = Configuration::new(&bench.client(1), path("/cf"));
    assert_eq!(reader.read(shortly()).await, Err(Error::Deadline), "there is none yet");
    let round = |number: u32| {
        let value = Bytes::from(number.to_string());
        (0..5).map(|n| (format!("s{n}"), value.clone())).collect::<Vec<_>>()
    };
    let write = async {
        for number in 0..30 {
            writer.write(&round(number)).await.unwrap();
        }
    };
    let read = async {
        loop {
            let settings = reader.read(soon()).await.unwrap();
            assert_eq!(settings.len(), 5);
            assert!(settings.iter().all(|(_, v)| *v == settings[0].1), "{settings:?}");
            if settings[0].1 == "29" {
                return;
            }
        }
    };
    tokio::join!(write, read);
    writer.write(&round(7)[..2]).await.unwrap();
    assert_eq!(reader.read(soon()).await.unwrap().len(), 2, "what is not set any more goes");
}

#[tokio::test]
async fn a_counter_loses_no_addition() {
    let bench = Bench::new(4).await;
    let add = async |number: usize| {
        let counter = Counter::new(&bench.client(number), path("/counters/c"));
        for _ in 0..10 {
            counter.add(1, soon()).await.unwrap();
        }
    };
    let mut all: FuturesUnordered<_> = (0..4).map(add).collect();
    while all.next().await.is_some() {}
    drop(all);
    let counter = Counter::new(&bench.client(0), path("/counters/c"));
    assert_eq!(counter.get().await.unwrap(), 40);
    bench.client(0).set(&path("/counters/c"), "x", None).await.unwrap();
    assert!(counter.get().await.is_err());
}
