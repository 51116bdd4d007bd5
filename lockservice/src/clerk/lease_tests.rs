//! Leases under a clock that the test moves.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use world::{Time, World};

use super::{Clerk, Config, Nothing, usable};
use crate::manual::Manual;
use crate::{
    Error, Grant, Locks, Mode, Name, Server, Service, SessionId, Span,
    engine::Direct,
    message::{Ask, Client, Kind, LockRows, Opened, Renewal, Seq, SessionRow},
    registry::{Answers, Changed, Op, Question, Revision, Store, TidingsStream, Watching},
    server,
    service::Events,
};

const LEASE: Duration = Duration::from_secs(30);

/// A service whose renewals take two seconds each way.
struct Far {
    clock: Arc<Manual>,
    near: Arc<Server>,
}

const WAY: Duration = Duration::from_secs(2);

#[async_trait]
impl Service for Far {
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error> {
        self.near.open(client, replace, deadline).await
    }
    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error> {
        self.near.request(session, seq, asks, deadline).await
    }
    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error> {
        self.near.listen(session, deadline).await
    }
    async fn renew(&self, session: SessionId, said: Renewal, at: Time) -> Result<(), Error> {
        self.clock.forward(WAY);
        self.near.renew(session, said, at).await?;
        self.clock.forward(WAY);
        Ok(())
    }
    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error> {
        self.near.close(session, deadline).await
    }
    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        at: Time,
    ) -> Result<(), Error> {
        self.near.recovered(dead, by, seen, at).await
    }
    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error> {
        self.near.sessions(deadline).await
    }
    async fn locks(&self, deadline: Time) -> Result<LockRows, Error> {
        self.near.locks(deadline).await
    }
}

#[async_trait]
impl Store for Far {
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        at: Time,
    ) -> Result<Changed, Error> {
        self.near.change(session, seq, ops, at).await
    }
    async fn read(&self, what: &[Question], seen: Revision, at: Time) -> Result<Answers, Error> {
        self.near.read(what, seen, at).await
    }
    async fn sync(&self, deadline: Time) -> Result<Revision, Error> {
        self.near.sync(deadline).await
    }
    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        at: Time,
    ) -> Result<TidingsStream, Error> {
        self.near.watch(watching, seen, at).await
    }
}

struct Bench {
    clock: Arc<Manual>,
    clerk: Arc<Clerk>,
    opened: Time,
}

async fn bench() -> Bench {
    let opened = Time(1_000_000_000_000);
    let clock = Manual::new(opened);
    let world = World { clock: Arc::clone(&clock) as _, ..World::real() };
    let engine = Arc::new(Direct::default());
    let near = Server::start(world.clone(), engine, server::Config { lease: LEASE });
    let far = Arc::new(Far { clock: Arc::clone(&clock), near });
    let config = Config {
        owner: "a".to_owned(),
        host: "h".to_owned(),
        kind: Kind::Mount,
        replace: false,
        patience: None,
    };
    let clerk = Clerk::open(world, far, config).await.unwrap();
    clerk.attach(Arc::new(Nothing), None);
    let name = Span::one(Name(1));
    drop(clerk.acquire(name, name, Mode::Exclusive).await.unwrap());
    Bench { clock, clerk, opened }
}

#[tokio::test]
async fn a_clerk_that_slept_longer_than_its_lease_knows_it_before_it_does_anything() {
    let bench = bench().await;
    assert!(bench.clerk.held(Name(1), Mode::Exclusive).is_some());
    bench.clock.forward(LEASE);
    assert!(bench.clerk.held(Name(1), Mode::Exclusive).is_none());
    let name = Span::one(Name(1));
    let error = bench.clerk.acquire(name, name, Mode::Exclusive).await.err();
    assert_eq!(error, Some(Error::Expired));
}

#[tokio::test]
async fn a_renewal_counts_from_before_it_was_sent() {
    let bench = bench().await;
    assert_eq!(bench.clerk.valid_until(), bench.opened + usable(LEASE));
    let third = LEASE / 3;
    bench.clock.forward(third);
    let sent = bench.opened + third;
    while bench.clerk.valid_until() == bench.opened + usable(LEASE) {
        tokio::task::yield_now().await;
    }
    assert_eq!(bench.clerk.valid_until(), sent + usable(LEASE), "not from the answer");
}

#[test]
fn the_usable_part_of_a_lease_leaves_drift_and_margin() {
    assert_eq!(usable(Duration::from_secs(50)), Duration::from_secs(44));
}
