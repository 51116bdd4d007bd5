//! Finds the coordinator that leads the volume map and asks it; repeats until the deadline what
//! has no answer. Every request of the map can be repeated.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use world::{Time, World};

use super::api::{Change, Chart, MapError, MapService, ServerInfo};
use crate::{
    disk::{Fence, SpaceAsk},
    link::{Granted, Heartbeat, Known, LinkError, MapLink, News, Registration},
    place::{Incarnation, ServerId},
};

/// Between two rounds of asking all coordinators.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest that one coordinator is waited for, besides what it is asked to wait.
const PATIENCE: Duration = Duration::from_secs(2);

/// The volume map, whichever coordinator leads it. Cheap to clone.
#[derive(Clone)]
pub struct MapClient {
    world: World,
    peers: Arc<Vec<(u64, Arc<dyn MapService>)>>,
    /// The coordinator that answered last.
    leader: Arc<AtomicUsize>,
}

impl MapClient {
    /// Asks these coordinators: node number and service (an object of this process, or
    /// [`super::MapWire`]).
    #[must_use]
    pub fn new(world: &World, peers: Vec<(u64, Arc<dyn MapService>)>) -> Self {
        Self { world: world.clone(), peers: Arc::new(peers), leader: Arc::default() }
    }

    /// Asks the leader with `ask`, which is called again for every try with its own deadline.
    async fn find<R, F>(
        &self,
        deadline: Time,
        patience: Duration,
        ask: impl Fn(Arc<dyn MapService>, Time) -> F,
    ) -> Result<R, MapError>
    where
        F: Future<Output = Result<R, MapError>> + Send,
    {
        let mut last = MapError::Deadline;
        let mut place = self.leader.load(Ordering::Relaxed);
        for tries in 1.. {
            let now = self.world.clock.now();
            if now >= deadline || self.peers.is_empty() {
                break;
            }
            place %= self.peers.len();
            let limit = deadline.min(now + patience);
            // Whoever waits on the other side gives up a little earlier than this side does.
            let early = limit - (limit.since(now) / 20).min(Duration::from_millis(50));
            let call = ask(Arc::clone(&self.peers[place].1), early);
            let error = match self.world.until(limit, call).await {
                Ok(Ok(answer)) => {
                    self.leader.store(place, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(
                    error @ (MapError::Superseded(_) | MapError::Expired(_) | MapError::Refused(_)),
                )) => return Err(error),
                Ok(Err(error)) => error,
                Err(_) => MapError::Deadline,
            };
            let named = match error {
                MapError::NotLeader { leader: Some(leader) } => {
                    self.peers.iter().position(|(node, _)| *node == leader)
                }
                _ => None,
            };
            // A leader that was named is asked at once; else everyone in turn, with a pause after
            // each round, and after each try once it has become long.
            let follow = named.is_some_and(|named| named != place) && tries <= 2;
            place = named.unwrap_or(place + 1);
            if !follow && tries % self.peers.len() == 0 {
                let pause = self.world.clock.now() + PAUSE;
                self.world.clock.sleep_until(pause.min(deadline)).await;
            }
            last = error;
        }
        Err(last)
    }

    /// A chart newer than version `newer_than`; waits for one until the deadline, then `None`.
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn chart(&self, newer_than: u64, deadline: Time) -> Result<Option<Chart>, MapError> {
        // Who asks for any chart is answered at once, by whoever is not silent.
        let patience =
            if newer_than == 0 { PATIENCE } else { deadline.since(self.world.clock.now()) };
        self.find(
            deadline,
            patience,
            |peer, limit| async move { peer.chart(newer_than, limit).await },
        )
        .await
    }

    /// Fences a session at all block servers; answered once none can act for it any more.
    ///
    /// # Errors
    /// When that did not happen before the deadline; the fence itself may be recorded.
    pub async fn fence(&self, session: Fence, deadline: Time) -> Result<(), MapError> {
        self.find(deadline, PATIENCE, |peer, limit| async move { peer.fence(session, limit).await })
            .await
    }

    /// Grants space to a session: see [`crate::VirtualDisk::reserve`].
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn reserve(
        &self,
        session: Fence,
        ask: SpaceAsk,
        deadline: Time,
    ) -> Result<u64, MapError> {
        self.find(deadline, PATIENCE, |peer, limit| async move {
            peer.reserve(session, ask, limit).await
        })
        .await
    }

    /// Changes the set of servers. What is to be moved because of it moves afterwards.
    ///
    /// # Errors
    /// When no leader answered, or the change cannot be: [`MapError::Refused`] says why.
    pub async fn change(&self, change: Change, deadline: Time) -> Result<(), MapError> {
        self.find(deadline, PATIENCE, |peer, limit| {
            let change = change.clone();
            async move { peer.change(change, limit).await }
        })
        .await
    }

    /// All block servers.
    ///
    /// # Errors
    /// When no leader answered.
    pub async fn servers(&self, deadline: Time) -> Result<Vec<ServerInfo>, MapError> {
        self.find(deadline, PATIENCE, |peer, limit| async move { peer.servers(limit).await }).await
    }
}

fn link_error(error: MapError) -> LinkError {
    match error {
        MapError::Superseded(server) => LinkError::Superseded(server),
        MapError::Expired(server) => LinkError::Expired(server),
        MapError::Refused(text) => LinkError::Refused(text),
        other => LinkError::Unreachable(other.to_string()),
    }
}

#[async_trait]
impl MapLink for MapClient {
    async fn register(
        &self,
        registration: Registration,
        deadline: Time,
    ) -> Result<Incarnation, LinkError> {
        self.find(deadline, PATIENCE, |peer, limit| {
            let registration = registration.clone();
            async move { peer.register(registration, limit).await }
        })
        .await
        .map_err(link_error)
    }

    async fn heartbeat(&self, heartbeat: Heartbeat, deadline: Time) -> Result<Granted, LinkError> {
        self.find(deadline, PATIENCE, |peer, limit| {
            let heartbeat = heartbeat.clone();
            async move { peer.heartbeat(heartbeat, limit).await }
        })
        .await
        .map_err(link_error)
    }

    async fn news(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, LinkError> {
        let patience = deadline.since(self.world.clock.now());
        self.find(deadline, patience, |peer, limit| async move {
            peer.news(server, incarnation, known, limit).await
        })
        .await
        .map_err(link_error)
    }

    async fn confirm_fences(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), LinkError> {
        self.find(deadline, PATIENCE, |peer, limit| async move {
            peer.confirm(server, incarnation, fences, limit).await
        })
        .await
        .map_err(link_error)
    }
}
