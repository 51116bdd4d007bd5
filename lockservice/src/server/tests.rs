//! What a leader does about holders that do not answer, under a clock that the test moves.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt;
use world::{Clock, Time, World};

use super::{Config, Server};
use crate::{
    Error, Mode, Name, Service, SessionId, Span,
    engine::Direct,
    manual::Manual,
    message::{Acquire, Ask, Client, Event, Kind, Renewal, Seq, Ticket},
    service::Events,
};

const LEASE: Duration = Duration::from_secs(30);

struct Bench {
    clock: Arc<Manual>,
    server: Arc<Server>,
    holder: SessionId,
    waiter: SessionId,
    events: Events,
}

fn later(clock: &Manual) -> Time {
    clock.now() + Duration::from_secs(3600)
}

/// One session holds what another waits for.
async fn bench() -> Bench {
    let clock = Manual::new(Time(1_000_000_000_000));
    let world = World { clock: Arc::clone(&clock) as _, ..World::real() };
    let engine = Arc::new(Direct::default());
    let server = Server::start(world, engine, Config { lease: LEASE });
    let open = async |owner: &str| {
        let (owner, host) = (owner.to_owned(), "h".to_owned());
        let nonce = owner.len() as u64;
        let client = Client { owner, host, kind: Kind::Mount, able: true, nonce };
        server.open(client, false, later(&clock)).await.unwrap().session
    };
    let (holder, waiter) = (open("holder").await, open("a waiter").await);
    let events = loop {
        // Until it knows that it leads.
        match server.listen(holder, later(&clock)).await {
            Err(Error::NotLeader { .. }) => tokio::task::yield_now().await,
            listening => break listening.unwrap(),
        }
    };
    for (session, seq) in [(holder, 1), (waiter, 1)] {
        let need = Span::one(Name(7));
        let ticket = Ticket(1);
        let acquire =
            Ask::Acquire(Acquire { ticket, need, wish: need, mode: Mode::Exclusive, wait: true });
        server.request(session, Seq(seq), &[acquire], later(&clock)).await.unwrap();
    }
    let mut bench = Bench { clock, server, holder, waiter, events };
    let heard = bench.hear().await;
    assert!(heard.iter().any(|event| matches!(event, Event::Revoke { .. })), "{heard:?}");
    bench
}

impl Bench {
    /// All that the holder was told until now.
    async fn hear(&mut self) -> Vec<Event> {
        let mut heard = Vec::new();
        for _ in 0..50 {
            tokio::task::yield_now().await;
            if let Some(Some(group)) = futures_util::FutureExt::now_or_never(self.events.next()) {
                heard.extend(group);
            }
        }
        heard
    }

    /// Lets time pass; both renew every second.
    async fn pass(&mut self, time: Duration, flushing: u32) -> Result<(), Error> {
        let mut result = Ok(());
        for _ in 0..time.as_secs() {
            self.clock.forward(Duration::from_secs(1));
            for (session, flushing) in [(self.holder, flushing), (self.waiter, 0)] {
                let renewal = Renewal { report: String::new(), flushing };
                let renewed = self.server.renew(session, renewal, later(&self.clock)).await;
                if session == self.holder && result.is_ok() {
                    result = renewed;
                }
            }
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
        }
        result
    }
}

#[tokio::test]
async fn a_holder_that_is_at_it_has_the_whole_patience_and_is_fenced_after_it() {
    let mut bench = bench().await;
    let patience = Config { lease: LEASE }.patience();
    bench.pass(patience - Duration::from_secs(5), 1).await.unwrap();
    assert_eq!(bench.hear().await, [], "it was told once and knows");
    // It is not renewed any more, and what it holds it may use until its lease is over.
    assert_eq!(bench.pass(Duration::from_secs(12), 1).await, Err(Error::Expired));
    assert_eq!(bench.hear().await, [], "it has a lease still");
    let _ = bench.pass(LEASE + Duration::from_secs(2), 1).await;
    assert!(bench.hear().await.contains(&Event::Ended), "and is told");
    let rows = bench.server.sessions(later(&bench.clock)).await.unwrap();
    assert!(!rows.iter().any(|row| row.session == bench.holder && row.live));
    assert!(rows.iter().any(|row| row.session == bench.waiter && row.live));
}

#[tokio::test]
async fn a_holder_that_did_not_hear_is_told_again_and_lives() {
    let mut bench = bench().await;
    bench.pass(LEASE + LEASE / 2, 0).await.unwrap();
    bench.hear().await;
    assert!(bench.events.next().await.is_none(), "its stream ended, so that it listens again");
    bench.events = bench.server.listen(bench.holder, later(&bench.clock)).await.unwrap();
    let heard = bench.hear().await;
    assert!(heard.iter().any(|event| matches!(event, Event::Revoke { .. })), "{heard:?}");
    bench.pass(LEASE * 2, 1).await.unwrap();
}

#[tokio::test]
async fn a_holder_that_never_hears_is_fenced_two_leases_later() {
    let mut bench = bench().await;
    assert_eq!(bench.pass(LEASE * 3, 0).await, Err(Error::Expired));
}

#[tokio::test]
async fn nobody_is_fenced_for_holding_what_nobody_waits_for() {
    let mut bench = bench().await;
    let cancel = [Ask::Cancel(Ticket(1))];
    bench.server.request(bench.waiter, Seq(2), &cancel, later(&bench.clock)).await.unwrap();
    bench.pass(Config { lease: LEASE }.patience() * 2, 0).await.unwrap();
}

#[tokio::test]
async fn the_list_of_locks_says_since_when() {
    let mut bench = bench().await;
    bench.pass(Duration::from_secs(20), 1).await.unwrap();
    let rows = bench.server.locks(later(&bench.clock)).await.unwrap();
    let near = |age: Duration| (18..=20).contains(&age.as_secs());
    assert!(near(rows.waiters[0].waited), "{:?}", rows.waiters[0].waited);
    assert!(rows.locks[0].held.is_some_and(near), "{:?}", rows.locks[0].held);
    assert_eq!(rows.waiters[0].on, [bench.holder]);
}
