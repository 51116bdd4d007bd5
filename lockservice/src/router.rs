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
    leader: watch::Sender<usize>,
}

/// How long one coordinator may be silent before another is asked.
const SILENCE: Duration = Duration::from_millis(1500);
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
        Arc::new(Self { world, members, leader: watch::Sender::new(0) })
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
            let until =
                if self.members.len() == 1 { deadline } else { deadline.min(now + SILENCE) };
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
