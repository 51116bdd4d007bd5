//! The volume map's service over gRPC: the adapter that serves a [`MapService`], and the client
//! that is one. Which coordinator leads is not known here.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use tonic::{Request, Response, Status};
use world::{Address, Time, World};

use super::{
    api::{Change, Chart, MapError, MapService, ServerInfo},
    codec::{self, Malformed},
};
use crate::{
    disk::{Fence, SpaceAsk},
    link::{Granted, Heartbeat, Known, News, Registration},
    pb::{
        self,
        answer::What as Answered,
        ask::What as Asked,
        map_client::MapClient as Stub,
        map_server::{Map as Rpc, MapServer as Server},
    },
    place::{Incarnation, ServerId},
};

/// How long a caller may let the service wait, whatever it says.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves a [`MapService`] to other processes.
pub struct MapRpc {
    world: World,
    service: Arc<dyn MapService>,
}

impl MapRpc {
    /// The tonic service, for a [`wire::Server`].
    #[must_use]
    pub fn serve(world: &World, service: Arc<dyn MapService>) -> Server<Self> {
        wire::limits!(Server::new(Self { world: world.clone(), service }))
    }

    async fn answer(&self, ask: pb::Ask) -> Result<Option<Answered>, Failed> {
        let wait = Duration::from_nanos(ask.wait).min(PATIENCE);
        let deadline = self.world.clock.now() + wait;
        let map = &self.service;
        let what = ask.what.ok_or_else(|| Malformed("an empty question".to_owned()))?;
        Ok(match what {
            Asked::Register(x) => {
                let registration = codec::from_registration(&x)?;
                let incarnation = map.register(registration, deadline).await?;
                Some(Answered::Registered(incarnation.0))
            }
            Asked::Heartbeat(x) => {
                let granted = map.heartbeat(codec::from_heartbeat(&x), deadline).await?;
                Some(Answered::Granted(codec::granted(&granted)))
            }
            Asked::News(x) => {
                let known = x.known.unwrap_or_default();
                let known = Known { map: known.map, fences: known.fences };
                let (server, incarnation) = (ServerId(x.server), Incarnation(x.incarnation));
                let news = map.news(server, incarnation, known, deadline).await?;
                news.map(|news| Answered::News(codec::news(&news)))
            }
            Asked::Confirm(x) => {
                let (server, incarnation) = (ServerId(x.server), Incarnation(x.incarnation));
                map.confirm(server, incarnation, x.fences, deadline).await?;
                None
            }
            Asked::Chart(x) => {
                let chart = map.chart(x.newer_than, deadline).await?;
                chart.map(|chart| Answered::Chart(codec::chart(&chart)))
            }
            Asked::Fence(session) => {
                map.fence(Fence(session), deadline).await?;
                None
            }
            Asked::Reserve(x) => {
                let (spent, holds) = (x.spent, x.holds);
                let ask = SpaceAsk { spent, holds, least: x.least, most: x.most };
                Some(Answered::Reserved(map.reserve(Fence(x.session), ask, deadline).await?))
            }
            Asked::Change(x) => {
                map.change(codec::from_change(x)?, deadline).await?;
                None
            }
            Asked::Servers(_) => {
                let servers = map.servers(deadline).await?;
                let servers = servers.iter().map(codec::server_info).collect();
                Some(Answered::Servers(pb::Servers { servers }))
            }
        })
    }
}

/// A failure on its way to the caller.
struct Failed(MapError);

impl From<MapError> for Failed {
    fn from(error: MapError) -> Self {
        Self(error)
    }
}

impl From<Malformed> for Failed {
    fn from(error: Malformed) -> Self {
        Self(MapError::Refused(error.to_string()))
    }
}

#[async_trait]
impl Rpc for MapRpc {
    async fn call(&self, request: Request<pb::Ask>) -> Result<Response<pb::Answer>, Status> {
        let what = match self.answer(request.into_inner()).await {
            Ok(what) => what,
            Err(Failed(error)) => Some(Answered::Failure(codec::failure(&error))),
        };
        Ok(Response::new(pb::Answer { what }))
    }
}

/// A coordinator's [`MapService`] in another process.
pub struct MapWire {
    world: World,
    stub: Stub<wire::Channel>,
}

impl MapWire {
    /// The service at `address`; connects at the first call.
    #[must_use]
    pub fn new(world: &World, me: wire::Identity, address: &Address) -> Self {
        let stub = wire::limits!(Stub::new(wire::channel(world, me, address)));
        Self { world: world.clone(), stub }
    }

    async fn ask(&self, what: Asked, deadline: Time) -> Result<Option<Answered>, MapError> {
        let left = deadline.since(self.world.clock.now());
        // The service answers "nothing yet" a little before this side gives up on it.
        let early = (left / 10).clamp(Duration::from_millis(20), Duration::from_millis(100));
        let wait = left - early.min(left / 2);
        let wait = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        let ask = pb::Ask { wait, what: Some(what) };
        let mut stub = self.stub.clone();
        let call =
            wire::unary(
                &self.world,
                deadline,
                ask,
                |request| async move { stub.call(request).await },
            );
        match call.await {
            Ok(pb::Answer { what: Some(Answered::Failure(x)) }) => Err(codec::from_failure(x)),
            Ok(answer) => Ok(answer.what),
            Err(error) => Err(MapError::Stopped(error.to_string())),
        }
    }
}

/// The answer has not the shape of the question.
fn odd<T>() -> Result<T, MapError> {
    Err(MapError::Stopped("an answer to another question".to_owned()))
}

impl From<Malformed> for MapError {
    fn from(error: Malformed) -> Self {
        Self::Stopped(error.to_string())
    }
}

#[async_trait]
impl MapService for MapWire {
    async fn register(
        &self,
        registration: Registration,
        deadline: Time,
    ) -> Result<Incarnation, MapError> {
        let what = Asked::Register(codec::registration(&registration));
        match self.ask(what, deadline).await? {
            Some(Answered::Registered(incarnation)) => Ok(Incarnation(incarnation)),
            _ => odd(),
        }
    }

    async fn heartbeat(&self, heartbeat: Heartbeat, deadline: Time) -> Result<Granted, MapError> {
        let what = Asked::Heartbeat(codec::heartbeat(&heartbeat));
        match self.ask(what, deadline).await? {
            Some(Answered::Granted(x)) => Ok(codec::from_granted(x)?),
            _ => odd(),
        }
    }

    async fn news(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, MapError> {
        let known = pb::Known { map: known.map, fences: known.fences };
        let ask = pb::NewsAsk { server: server.0, incarnation: incarnation.0, known: Some(known) };
        match self.ask(Asked::News(ask), deadline).await? {
            Some(Answered::News(x)) => Ok(Some(codec::from_news(x)?)),
            None => Ok(None),
            _ => odd(),
        }
    }

    async fn confirm(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), MapError> {
        let ask = pb::Confirm { server: server.0, incarnation: incarnation.0, fences };
        self.ask(Asked::Confirm(ask), deadline).await.map(drop)
    }

    async fn chart(&self, newer_than: u64, deadline: Time) -> Result<Option<Chart>, MapError> {
        match self.ask(Asked::Chart(pb::ChartAsk { newer_than }), deadline).await? {
            Some(Answered::Chart(x)) => Ok(Some(codec::from_chart(x)?)),
            None => Ok(None),
            _ => odd(),
        }
    }

    async fn fence(&self, session: Fence, deadline: Time) -> Result<(), MapError> {
        self.ask(Asked::Fence(session.0), deadline).await.map(drop)
    }

    async fn change(&self, change: Change, deadline: Time) -> Result<(), MapError> {
        self.ask(Asked::Change(codec::change(&change)), deadline).await.map(drop)
    }

    async fn reserve(
        &self,
        session: Fence,
        ask: SpaceAsk,
        deadline: Time,
    ) -> Result<u64, MapError> {
        let SpaceAsk { spent, holds, least, most } = ask;
        let ask = pb::SpaceAsk { session: session.0, spent, holds, least, most };
        match self.ask(Asked::Reserve(ask), deadline).await? {
            Some(Answered::Reserved(bytes)) => Ok(bytes),
            _ => odd(),
        }
    }

    async fn servers(&self, deadline: Time) -> Result<Vec<ServerInfo>, MapError> {
        match self.ask(Asked::Servers(pb::ServersAsk {}), deadline).await? {
            Some(Answered::Servers(x)) => {
                Ok(x.servers.iter().map(codec::from_server_info).collect::<Result<_, _>>()?)
            }
            _ => odd(),
        }
    }
}
