//! One coordinator over gRPC: the calling side ([`Remote`]) and the answering side ([`adapter`]).
//! Both only translate.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Code, Request, Response, Status, metadata::MetadataValue};
use world::{Address, Time, World};

use crate::{
    convert::{
        Odd, asks_of, client_of, event_of,
        groups::{
            assignment_of, at_of, at_to, command_of, estate_of, estate_to, loads_of, part_of,
            reply_of as group_reply_of,
        },
        id_of, lock_rows_of, millis, option_of, session_row_of,
    },
    error::Error,
    group::{LockGroup, MoveId, Shard},
    message::{
        Ask, Assignment, Client, Estate, GroupCommand, GroupReply, LoadRow, LockRows, Opened, Part,
        Renewal, Seq, SessionRow,
    },
    name::{Grant, Name, SessionId},
    proto::{
        self,
        lock_service_client::LockServiceClient,
        lock_service_server::{LockService, LockServiceServer},
    },
    service::{Events, Service},
};

/// The metadata key that carries an error of this room.
const ERROR: &str = "plumeria-lock-error";
/// The longest that a call may take when its caller does not say.
pub(crate) const LONGEST: std::time::Duration = std::time::Duration::from_secs(30);

pub(crate) fn status_of(error: &Error) -> Status {
    let (code, word) = match error {
        Error::Expired => (Code::FailedPrecondition, "expired".to_owned()),
        Error::Closed => (Code::FailedPrecondition, "closed".to_owned()),
        Error::Recovering => (Code::FailedPrecondition, "recovering".to_owned()),
        Error::Full => (Code::ResourceExhausted, "full".to_owned()),
        Error::Deadline => (Code::DeadlineExceeded, "deadline".to_owned()),
        Error::Unreachable => (Code::Unavailable, "unreachable".to_owned()),
        Error::Moved { group, by } => (Code::Aborted, format!("moved {} {}", group.number(), by.0)),
        Error::Unmet => (Code::Unavailable, "unmet".to_owned()),
        Error::NotLeader { leader: None } => (Code::Unavailable, "not-leader".to_owned()),
        Error::NotLeader { leader: Some(id) } => (Code::Unavailable, format!("not-leader {id}")),
        Error::Protocol(_) | Error::Path(_) | Error::Node { .. } | Error::Straddles => {
            (Code::InvalidArgument, "protocol".to_owned())
        }
    };
    let mut status = Status::new(code, error.to_string());
    if let Ok(word) = MetadataValue::try_from(word) {
        status.metadata_mut().insert(ERROR, word);
    }
    status
}

pub(crate) fn error_of(status: Status) -> Error {
    let word = status.metadata().get(ERROR).and_then(|word| word.to_str().ok());
    match word.map(|word| word.split_once(' ').unwrap_or((word, ""))) {
        Some(("expired", _)) => Error::Expired,
        Some(("closed", _)) => Error::Closed,
        Some(("recovering", _)) => Error::Recovering,
        Some(("full", _)) => Error::Full,
        Some(("deadline", _)) => Error::Deadline,
        Some(("moved", at)) => moved_of(at).unwrap_or(Error::Unreachable),
        Some(("unmet", _)) => Error::Unmet,
        Some(("not-leader", id)) => Error::NotLeader { leader: id.parse().ok() },
        Some(("protocol", _)) => Error::Protocol(status.message().to_owned()),
        Some(_) => Error::Unreachable,
        None => match wire::Error::from(status) {
            wire::Error::Refused { reason, .. } => Error::Protocol(reason),
            error => {
                tracing::debug!(%error, "a call to a coordinator failed");
                Error::Unreachable
            }
        },
    }
}

fn moved_of(at: &str) -> Option<Error> {
    let (group, by) = at.split_once(' ')?;
    let group = LockGroup::new(group.parse().ok()?)?;
    Some(Error::Moved { group, by: MoveId(by.parse().ok()?) })
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is in map_err")]
pub(crate) fn odd(odd: Odd) -> Error {
    Error::Protocol(odd.to_string())
}

/// A coordinator in another process.
pub struct Remote {
    world: World,
    channel: wire::Channel,
    client: LockServiceClient<wire::Channel>,
    shard: Shard,
}

impl Remote {
    /// The coordinator at `address`; it is connected to when it is first asked.
    #[must_use]
    pub fn new(world: &World, me: wire::Identity, address: &Address) -> Arc<Self> {
        let channel = wire::channel(world, me, address);
        let client = wire::limits!(LockServiceClient::new(channel.clone()));
        Arc::new(Self { world: world.clone(), channel, client, shard: Shard::HOME })
    }

    /// The same coordinator, for another shard.
    #[must_use]
    pub fn at(&self, shard: Shard) -> Arc<Self> {
        Arc::new(Self {
            world: self.world.clone(),
            channel: self.channel.clone(),
            client: self.client.clone(),
            shard,
        })
    }

    pub(crate) fn channel(&self) -> wire::Channel {
        self.channel.clone()
    }

    pub(crate) fn world(&self) -> &World {
        &self.world
    }

    /// Sends one request and waits for its answer until `deadline`.
    pub(crate) async fn ask<M, R, F>(
        &self,
        deadline: Time,
        message: M,
        make: impl FnOnce(Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = Request::new(message);
        request.set_timeout(deadline.since(self.world.clock.now()).min(LONGEST));
        match self.world.until(deadline, make(request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(error_of(status)),
            Err(_) => Err(Error::Unreachable),
        }
    }

    fn question(&self) -> proto::Question {
        proto::Question { shard: self.shard.0 }
    }

    fn session(&self, session: SessionId) -> proto::Session {
        proto::Session { session: session.0, shard: self.shard.0 }
    }

    async fn call<M, R, F>(
        &self,
        deadline: Time,
        message: M,
        make: impl FnOnce(LockServiceClient<wire::Channel>, Request<M>) -> F,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let client = self.client.clone();
        self.ask(deadline, message, |request| make(client, request)).await
    }
}

#[async_trait]
impl Service for Remote {
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error> {
        let message = proto::Open { client: Some((&client).into()), replace };
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.open_session(request).await
        };
        let opened = self.call(deadline, message, call).await?;
        Ok(Opened {
            session: id_of(opened.session).map_err(odd)?,
            lease: std::time::Duration::from_millis(opened.lease_ms),
        })
    }

    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error> {
        let asks = asks.iter().map(Into::into).collect();
        let message = proto::Batch { session: session.0, seq: seq.0, asks, shard: self.shard.0 };
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.request(request).await
        };
        self.call(deadline, message, call).await.map(|proto::Done {}| ())
    }

    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error> {
        let mut client = self.client.clone();
        let listen = client.listen(Request::new(self.session(session)));
        let stream = match self.world.until(deadline, listen).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(error_of(status)),
            Err(_) => return Err(Error::Unreachable),
        };
        // Whatever cannot be read ends the stream; the next one begins with a snapshot.
        let read = |group: Result<proto::Events, Status>| {
            group.ok()?.events.into_iter().map(event_of).collect::<Result<Vec<_>, _>>().ok()
        };
        Ok(stream.scan((), move |(), group| std::future::ready(read(group))).boxed())
    }

    async fn renew(
        &self,
        session: SessionId,
        renewal: Renewal,
        deadline: Time,
    ) -> Result<(), Error> {
        let Renewal { report, flushing } = renewal;
        let message = proto::Renewal { session: session.0, report, flushing };
        let call =
            |mut client: LockServiceClient<_>, request| async move { client.renew(request).await };
        self.call(deadline, message, call).await.map(|proto::Done {}| ())
    }

    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error> {
        let message = self.session(session);
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.close_session(request).await
        };
        self.call(deadline, message, call).await.map(|proto::Done {}| ())
    }

    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        deadline: Time,
    ) -> Result<(), Error> {
        let message = proto::Recovered { dead: dead.0, by: by.0, seen: seen.0 };
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.tell_recovered(request).await
        };
        self.call(deadline, message, call).await.map(|proto::Done {}| ())
    }

    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error> {
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.list_sessions(request).await
        };
        let rows = self.call(deadline, self.question(), call).await?;
        rows.rows.into_iter().map(session_row_of).collect::<Result<_, _>>().map_err(odd)
    }

    async fn locks(&self, deadline: Time) -> Result<LockRows, Error> {
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.list_locks(request).await
        };
        let rows = self.call(deadline, self.question(), call).await?;
        lock_rows_of(rows).map_err(odd)
    }

    fn shard(&self, shard: Shard) -> Option<Arc<dyn Service>> {
        Some(self.at(shard))
    }

    async fn groups(&self, deadline: Time) -> Result<Assignment, Error> {
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.list_groups(request).await
        };
        let assignment = self.call(deadline, self.question(), call).await?;
        assignment_of(assignment).map_err(odd)
    }

    async fn load(&self, deadline: Time) -> Result<Vec<LoadRow>, Error> {
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.list_load(request).await
        };
        let loads = self.call(deadline, self.question(), call).await?;
        loads_of(loads).map_err(odd)
    }

    async fn estate(&self, dead: SessionId, deadline: Time) -> Result<Estate, Error> {
        let call = |mut client: LockServiceClient<_>, request| async move {
            client.tell_estate(request).await
        };
        let estate = self.call(deadline, self.session(dead), call).await?;
        estate_of(&estate).map_err(odd)
    }

    async fn direct(&self, command: GroupCommand, deadline: Time) -> Result<GroupReply, Error> {
        let message = proto::Directed { command: Some((&command).into()), shard: self.shard.0 };
        let call =
            |mut client: LockServiceClient<_>, request| async move { client.direct(request).await };
        let reply = self.call(deadline, message, call).await?;
        group_reply_of(reply).map_err(odd)
    }

    async fn export(
        &self,
        group: LockGroup,
        by: MoveId,
        from: Name,
        deadline: Time,
    ) -> Result<Part, Error> {
        let group = Some(at_to(group, by));
        let message = proto::ExportGroup { group, from: from.0, shard: self.shard.0 };
        let call =
            |mut client: LockServiceClient<_>, request| async move { client.export(request).await };
        let part = self.call(deadline, message, call).await?;
        part_of(part).map_err(odd)
    }

    async fn accuse(
        &self,
        session: SessionId,
        hopeless: bool,
        deadline: Time,
    ) -> Result<(), Error> {
        let message = proto::Accused { session: session.0, hopeless };
        let call =
            |mut client: LockServiceClient<_>, request| async move { client.accuse(request).await };
        self.call(deadline, message, call).await.map(|proto::Done {}| ())
    }
}

/// The answering side: any service, as gRPC. Its name is only of interest to [`wire::Server`].
pub struct Adapter {
    world: World,
    service: Arc<dyn Service>,
}

/// Serves `service` by gRPC: add it to the coordinator's [`wire::Server`].
#[must_use]
pub fn adapter(world: &World, service: Arc<dyn Service>) -> LockServiceServer<Adapter> {
    wire::limits!(LockServiceServer::new(Adapter { world: world.clone(), service }))
}

impl Adapter {
    fn deadline(&self) -> Time {
        self.world.clock.now() + LONGEST
    }

    fn shard(&self, shard: u32) -> Result<Arc<dyn Service>, Status> {
        let home = (shard == Shard::HOME.0).then(|| Arc::clone(&self.service));
        let found = home.or_else(|| self.service.shard(Shard(shard)));
        found.ok_or_else(|| bad(Odd("this coordinator has no such shard of the lock service")))
    }
}

fn done(result: Result<(), Error>) -> Result<Response<proto::Done>, Status> {
    match result {
        Ok(()) => Ok(Response::new(proto::Done {})),
        Err(error) => Err(status_of(&error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "its only use is in map_err")]
pub(crate) fn bad(odd: Odd) -> Status {
    status_of(&Error::Protocol(odd.to_string()))
}

type Answer<R> = Result<Response<R>, Status>;

#[async_trait]
impl LockService for Adapter {
    async fn open_session(&self, request: Request<proto::Open>) -> Answer<proto::Opened> {
        let open = request.into_inner();
        let client = option_of(open.client).and_then(client_of).map_err(bad)?;
        let opened = self.service.open(client, open.replace, self.deadline()).await;
        let opened = opened.map_err(|error| status_of(&error))?;
        let lease_ms = millis(opened.lease);
        Ok(Response::new(proto::Opened { session: opened.session.0, lease_ms }))
    }

    async fn request(&self, request: Request<proto::Batch>) -> Answer<proto::Done> {
        let batch = request.into_inner();
        let session = id_of(batch.session).map_err(bad)?;
        let asks = asks_of(batch.asks).map_err(bad)?;
        let service = self.shard(batch.shard)?;
        done(service.request(session, Seq(batch.seq), &asks, self.deadline()).await)
    }

    type ListenStream = BoxStream<'static, Result<proto::Events, Status>>;

    async fn listen(&self, request: Request<proto::Session>) -> Answer<Self::ListenStream> {
        let request = request.into_inner();
        let session = id_of(request.session).map_err(bad)?;
        let events = self.shard(request.shard)?.listen(session, self.deadline()).await;
        let events = events.map_err(|error| status_of(&error))?;
        let stream = events
            .map(|group| Ok(proto::Events { events: group.iter().map(Into::into).collect() }));
        Ok(Response::new(stream.boxed()))
    }

    async fn renew(&self, request: Request<proto::Renewal>) -> Answer<proto::Done> {
        let renewal = request.into_inner();
        let session = id_of(renewal.session).map_err(bad)?;
        let renewal = Renewal { report: renewal.report, flushing: renewal.flushing };
        done(self.service.renew(session, renewal, self.deadline()).await)
    }

    async fn close_session(&self, request: Request<proto::Session>) -> Answer<proto::Done> {
        let session = id_of(request.into_inner().session).map_err(bad)?;
        done(self.service.close(session, self.deadline()).await)
    }

    async fn tell_recovered(&self, request: Request<proto::Recovered>) -> Answer<proto::Done> {
        let told = request.into_inner();
        let (dead, by) = (id_of(told.dead).map_err(bad)?, id_of(told.by).map_err(bad)?);
        done(self.service.recovered(dead, by, Grant(told.seen), self.deadline()).await)
    }

    async fn list_sessions(&self, asked: Request<proto::Question>) -> Answer<proto::SessionRows> {
        let rows = self.shard(asked.into_inner().shard)?.sessions(self.deadline()).await;
        let rows = rows.map_err(|error| status_of(&error))?;
        Ok(Response::new(proto::SessionRows { rows: rows.iter().map(Into::into).collect() }))
    }

    async fn list_locks(&self, asked: Request<proto::Question>) -> Answer<proto::LockRows> {
        let rows = self.shard(asked.into_inner().shard)?.locks(self.deadline()).await;
        let rows = rows.map_err(|error| status_of(&error))?;
        Ok(Response::new((&rows).into()))
    }

    async fn list_groups(&self, _: Request<proto::Question>) -> Answer<proto::Assignment> {
        let assignment = self.service.groups(self.deadline()).await;
        let assignment = assignment.map_err(|error| status_of(&error))?;
        Ok(Response::new((&assignment).into()))
    }

    async fn list_load(&self, asked: Request<proto::Question>) -> Answer<proto::Loads> {
        let loads = self.shard(asked.into_inner().shard)?.load(self.deadline()).await;
        let loads = loads.map_err(|error| status_of(&error))?;
        Ok(Response::new(proto::Loads { rows: loads.iter().map(Into::into).collect() }))
    }

    async fn tell_estate(&self, asked: Request<proto::Session>) -> Answer<proto::Estate> {
        let asked = asked.into_inner();
        let dead = id_of(asked.session).map_err(bad)?;
        let estate = self.shard(asked.shard)?.estate(dead, self.deadline()).await;
        let estate = estate.map_err(|error| status_of(&error))?;
        Ok(Response::new(estate_to(&estate)))
    }

    async fn direct(&self, asked: Request<proto::Directed>) -> Answer<proto::GroupReply> {
        let asked = asked.into_inner();
        let command = option_of(asked.command).and_then(command_of).map_err(bad)?;
        let reply = self.shard(asked.shard)?.direct(command, self.deadline()).await;
        Ok(Response::new(reply.map_err(|error| status_of(&error))?.into()))
    }

    async fn export(&self, asked: Request<proto::ExportGroup>) -> Answer<proto::GroupPart> {
        let asked = asked.into_inner();
        let (group, by) = at_of(asked.group).map_err(bad)?;
        let service = self.shard(asked.shard)?;
        let part = service.export(group, by, Name(asked.from), self.deadline()).await;
        let part = part.map_err(|error| status_of(&error))?;
        Ok(Response::new((&part).into()))
    }

    async fn accuse(&self, asked: Request<proto::Accused>) -> Answer<proto::Done> {
        let asked = asked.into_inner();
        let session = id_of(asked.session).map_err(bad)?;
        done(self.service.accuse(session, asked.hopeless, self.deadline()).await)
    }
}
