//! Several coordinators as one service: asks the one that led last, follows where it points, and
//! tries the others when it is silent. It does not know how a coordinator is reached.

use std::{future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::StreamExt;
use tokio::sync::watch;
use world::{Time, World};

use crate::{
    error::Error,
    group::{LockGroup, MoveId, Shard},
    message::{
        Ask, Assignment, Client, Estate, GroupCommand, GroupReply, LoadRow, LockRows, Opened, Part,
        Renewal, Seq, SessionRow,
    },
    name::{Grant, Name, SessionId},
    registry::{Answers, Changed, Op, Question, Revision, Store, TidingsStream, Watching},
    service::{Events, Service},
};

/// A coordinator: its node id and its service, local or remote.
pub type Member = (u64, Arc<dyn Service>);

/// The lock service behind all coordinators.
pub struct Router {
    world: World,
    members: Vec<Member>,
    /// Who answered last, by place in `members`.
    leader: Arc<watch::Sender<usize>>,
}

/// How long one coordinator may be silent before another is asked, at most and at least.
const SILENCE: (Duration, Duration) = (Duration::from_millis(1500), Duration::from_millis(50));

/// How long one of several coordinators may be silent when so much time is left for an answer: with a short lease a
/// frozen leader must not use up what a renewal has, for its successor is elected in half a second.
fn silence(left: Duration) -> Duration {
    (left / 4).clamp(SILENCE.1, SILENCE.0)
}

/// The pause after all were asked in vain.
const PAUSE: Duration = Duration::from_millis(25);

impl Router {
    /// A service over `members`.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(world: World, members: Vec<Member>) -> Arc<Self> {
        assert!(!members.is_empty(), "a cluster has at least one coordinator");
        Arc::new(Self { world, members, leader: Arc::new(watch::Sender::new(0)) })
    }

    /// A service over the same coordinators in the same order, in another world and over connections of its own. What
    /// either learns of who leads both know: a stream from a frozen leader ends when a renewal, which goes another way, was
    /// answered by its successor.
    ///
    /// # Panics
    /// If they are not as many.
    #[must_use]
    pub fn apart(&self, world: World, members: Vec<Member>) -> Arc<Self> {
        assert_eq!(members.len(), self.members.len(), "they are the same coordinators");
        Arc::new(Self { world, members, leader: Arc::clone(&self.leader) })
    }

    /// Calls until somebody who leads has answered. Every call of the service can be repeated.
    async fn ask<'a, R, F>(
        &'a self,
        deadline: Time,
        call: impl Fn(&'a dyn Service, Time) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<R, Error>>,
    {
        self.ask_whom(deadline, call).await.map(|(_, answer)| answer)
    }

    /// Ready when another than the one at place `at` answers. A frozen coordinator does not end its
    /// streams; whoever leads now is known by its answers.
    fn moved(&self, at: usize) -> impl Future<Output = ()> + Send + 'static {
        let mut leader = self.leader.subscribe();
        async move {
            if leader.wait_for(|leader| *leader != at).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// As `ask`; also tells who answered, by place.
    async fn ask_whom<'a, R, F>(
        &'a self,
        deadline: Time,
        call: impl Fn(&'a dyn Service, Time) -> F,
    ) -> Result<(usize, R), Error>
    where
        F: Future<Output = Result<R, Error>>,
    {
        let mut at = *self.leader.borrow();
        let mut tried = 0;
        loop {
            let now = self.world.clock.now();
            if now >= deadline {
                return Err(Error::Unreachable);
            }
            let until = match self.members.len() {
                1 => deadline,
                _ => deadline.min(now + silence(deadline.since(now))),
            };
            let (_, member) = &self.members[at];
            let result = self.world.until(until, call(member.as_ref(), until)).await;
            let hint = match result {
                Ok(Ok(result)) => {
                    self.leader.send_if_modified(|leader| std::mem::replace(leader, at) != at);
                    return Ok((at, result));
                }
                Ok(Err(Error::NotLeader { leader })) => leader,
                Ok(Err(Error::Unreachable)) | Err(_) => None,
                Ok(Err(error)) => return Err(error),
            };
            tried += 1;
            let hinted = hint.and_then(|id| self.members.iter().position(|(node, _)| *node == id));
            at = match hinted {
                Some(place) if place != at => place,
                Some(_) | None => (at + 1) % self.members.len(),
            };
            if tried % self.members.len() == 0 {
                self.world.clock.sleep(PAUSE).await;
            }
        }
    }
}

#[async_trait]
impl Service for Router {
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error> {
        self.ask(deadline, |member, until| member.open(client.clone(), replace, until)).await
    }

    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error> {
        let asks: Arc<[Ask]> = asks.into();
        self.ask(deadline, |member, until| request(member, session, seq, Arc::clone(&asks), until))
            .await
    }

    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error> {
        let (at, events) =
            self.ask_whom(deadline, |member, until| member.listen(session, until)).await?;
        Ok(events.take_until(Box::pin(self.moved(at))).boxed())
    }

    async fn renew(
        &self,
        session: SessionId,
        renewal: Renewal,
        deadline: Time,
    ) -> Result<(), Error> {
        self.ask(deadline, |member, until| member.renew(session, renewal.clone(), until)).await
    }

    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error> {
        self.ask(deadline, |member, until| member.close(session, until)).await
    }

    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        deadline: Time,
    ) -> Result<(), Error> {
        self.ask(deadline, |member, until| member.recovered(dead, by, seen, until)).await
    }

    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error> {
        self.ask(deadline, |member, until| member.sessions(until)).await
    }

    async fn locks(&self, deadline: Time) -> Result<LockRows, Error> {
        self.ask(deadline, |member, until| member.locks(until)).await
    }

    fn shard(&self, shard: Shard) -> Option<Arc<dyn Service>> {
        let member = |(node, service): &Member| Some((*node, service.shard(shard)?));
        let members = self.members.iter().map(member).collect::<Option<Vec<Member>>>()?;
        Some(Self::new(self.world.clone(), members))
    }

    async fn groups(&self, deadline: Time) -> Result<Assignment, Error> {
        self.ask(deadline, |member, until| member.groups(until)).await
    }

    async fn load(&self, deadline: Time) -> Result<Vec<LoadRow>, Error> {
        self.ask(deadline, |member, until| member.load(until)).await
    }

    async fn estate(&self, dead: SessionId, deadline: Time) -> Result<Estate, Error> {
        self.ask(deadline, |member, until| member.estate(dead, until)).await
    }

    async fn direct(&self, command: GroupCommand, deadline: Time) -> Result<GroupReply, Error> {
        self.ask(deadline, |member, until| member.direct(command.clone(), until)).await
    }

    async fn export(
        &self,
        group: LockGroup,
        by: MoveId,
        from: Name,
        deadline: Time,
    ) -> Result<Part, Error> {
        self.ask(deadline, |member, until| member.export(group, by, from, until)).await
    }

    async fn accuse(
        &self,
        session: SessionId,
        hopeless: bool,
        deadline: Time,
    ) -> Result<(), Error> {
        self.ask(deadline, |member, until| member.accuse(session, hopeless, until)).await
    }
}

#[async_trait]
impl Store for Router {
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        deadline: Time,
    ) -> Result<Changed, Error> {
        let ops: Arc<[Op]> = ops.into();
        self.ask(deadline, |member, until| {
            let ops = Arc::clone(&ops);
            async move { member.change(session, seq, &ops, until).await }
        })
        .await
    }

    async fn read(
        &self,
        questions: &[Question],
        seen: Revision,
        deadline: Time,
    ) -> Result<Answers, Error> {
        let questions: Arc<[Question]> = questions.into();
        self.ask(deadline, |member, until| {
            let questions = Arc::clone(&questions);
            async move { member.read(&questions, seen, until).await }
        })
        .await
    }

    async fn sync(&self, deadline: Time) -> Result<Revision, Error> {
        self.ask(deadline, |member, until| member.sync(until)).await
    }

    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        deadline: Time,
    ) -> Result<TidingsStream, Error> {
        let (at, tidings) = self
            .ask_whom(deadline, |member, until| member.watch(watching.clone(), seen, until))
            .await?;
        Ok(tidings.take_until(Box::pin(self.moved(at))).boxed())
    }
}

async fn request(
    member: &dyn Service,
    session: SessionId,
    seq: Seq,
    asks: Arc<[Ask]>,
    until: Time,
) -> Result<(), Error> {
    member.request(session, seq, &asks, until).await
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use futures_util::FutureExt as _;
    use world::World;

    use super::{Member, Router, silence};
    use crate::{Server, engine::Direct, server, service::Service as _};

    #[tokio::test]
    async fn what_ends_at_a_frozen_leader_is_known_by_renewals_that_go_another_way() {
        let world = World::real();
        let start = || {
            let engine = Arc::new(Direct::default());
            Server::start(world.clone(), engine, server::Config::default())
        };
        let servers = [start(), start()];
        let members = || -> Vec<Member> { servers.iter().map(|s| (1, s.clone() as _)).collect() };
        let streams = Router::new(world.clone(), members());
        let renewals = streams.apart(world.clone(), members());
        let mut moved = Box::pin(streams.moved(0));
        assert!((&mut moved).now_or_never().is_none());
        // As if the first were silent: the next call begins at the second one, and is answered there.
        renewals.leader.send_replace(1);
        let deadline = world.clock.now() + Duration::from_secs(5);
        renewals.sessions(deadline).await.unwrap();
        assert!(moved.now_or_never().is_some());
    }

    #[test]
    fn a_frozen_leader_leaves_a_renewal_the_time_that_an_election_takes() {
        let lease = Duration::from_secs(2);
        // What a mount has when a renewal is due: its part of the lease, less the third after which it renews.
        let mut left = crate::clerk::usable(lease) - lease / 3;
        let first = silence(left);
        assert!(first < Duration::from_millis(400), "{first:?}");
        let elected = Duration::from_millis(600);
        let (mut spent, mut asked) = (Duration::ZERO, 0);
        while spent < elected {
            let next = silence(left);
            (spent, left, asked) = (spent + next, left - next, asked + 1);
        }
        assert!(left > Duration::from_millis(200), "{left:?} is left for its successor");
        assert!(asked < 10, "nobody is asked without end");
        assert_eq!(silence(Duration::from_secs(20)), Duration::from_millis(1500));
    }
}
