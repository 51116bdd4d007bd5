//! What the volume map answers, as a trait: block servers register and renew their leases, clients
//! ask for the chart and for fences. Which coordinator answers, over which transport, is not known
//! here.

use std::time::Duration;

use async_trait::async_trait;
use world::{Address, Time};

use crate::{
    disk::{Fence, Space, SpaceAsk},
    link::{Chain, Granted, Heartbeat, Known, News, Registration},
    place::{Group, GroupBits, Incarnation, ServerId, Volume},
};

/// The volume map as clients cache it: which chain keeps which group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chart {
    /// Rises with every change.
    pub version: u64,
    /// How many groups there are.
    pub bits: GroupBits,
    /// Copies of each group.
    pub replication: u8,
    /// The chains, by group; those with a member that never registered are missing.
    pub chains: Vec<Chain>,
    /// Servers that never registered.
    pub absent: Vec<ServerId>,
}

impl Chart {
    /// The group of the chunk that holds byte `offset` of `volume`.
    #[must_use]
    pub fn group_of(&self, volume: Volume, offset: u64) -> Group {
        self.bits.of(volume, offset)
    }

    /// The chain of a group.
    #[must_use]
    pub fn chain(&self, group: Group) -> Option<&Chain> {
        let place = self.chains.binary_search_by_key(&group, |chain| chain.group).ok()?;
        self.chains.get(place)
    }
}

/// A block server, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerInfo {
    /// Its number.
    pub server: ServerId,
    /// Where it listens; `None` before it ever registered.
    pub address: Option<Address>,
    /// Its latest start.
    pub incarnation: Incarnation,
    /// What it is doing.
    pub state: ServerState,
    /// How long its lease holds without a renewal.
    pub lease_left: Duration,
    /// Its disk.
    pub space: Space,
    /// Bytes acknowledged and not yet on its stable storage.
    pub dirty_bytes: u64,
    /// Groups that it keeps a replica of.
    pub groups: u32,
    /// Groups of its that do not serve, because their members are not equal yet.
    pub unequal: u32,
    /// Groups that it is to keep and is still being brought.
    pub missing: u32,
    /// Bytes that it is known to lack of them.
    pub owed: u64,
    /// Bytes a second at which that became less lately.
    pub pace: u64,
    /// Its share of the replicas, relative to the others'.
    pub weight: u32,
    /// What it is likely to fail together with: a host or a rack.
    pub domain: String,
}

/// What a block server is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// It never registered.
    Expected,
    /// It serves.
    Up,
    /// Some of its chains wait until their members are equal.
    Equalizing,
    /// It has not renewed its lease, and is about to be cut off.
    Suspect,
    /// It was cut off after its lease ran out.
    Down,
    /// Its replicas are on their way to others.
    Draining,
}

/// A change of the servers, by an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This server may join.
    Add {
        /// Its number.
        server: ServerId,
        /// Its share of the replicas, relative to the others'; not zero.
        weight: u32,
        /// What it is likely to fail together with; empty: nothing but itself.
        domain: String,
    },
    /// Move all its replicas to other servers.
    Drain(ServerId),
    /// It is gone for good.
    Remove(ServerId),
}

/// Why the map did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// This coordinator is not the leader.
    #[error("not the leader of the volume map")]
    NotLeader {
        /// Who is, if known, by node number.
        leader: Option<u64>,
    },
    /// No answer in time; it may have been done or not.
    #[error("the volume map did not answer before the deadline")]
    Deadline,
    /// The cluster has no map yet: its first leader is about to make it.
    #[error("the volume map is not formatted yet")]
    NotFormatted,
    /// A later start of the same server registered, or this one's lease was waited out.
    #[error("this start of block server {0} is over")]
    Superseded(ServerId),
    /// The lease of this start was waited out: it must register again.
    #[error("block server {0} was cut off when its lease had run out")]
    Expired(ServerId),
    /// For good; says what to do.
    #[error("{0}")]
    Refused(String),
    /// It must be asked again later.
    #[error("{0}")]
    NotYet(String),
    /// The coordinator stops or cannot be reached.
    #[error("no coordinator answers for the volume map: {0}")]
    Stopped(String),
}

/// One coordinator's volume map. All but the leader answer [`MapError::NotLeader`].
#[async_trait]
pub trait MapService: Send + Sync {
    /// A block server started: see [`crate::link::MapLink::register`].
    async fn register(
        &self,
        registration: Registration,
        deadline: Time,
    ) -> Result<Incarnation, MapError>;

    /// A block server renews its lease: see [`crate::link::MapLink::heartbeat`].
    async fn heartbeat(&self, heartbeat: Heartbeat, deadline: Time) -> Result<Granted, MapError>;

    /// Waits for news for a server: see [`crate::link::MapLink::news`].
    async fn news(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, MapError>;

    /// A server has nothing of the first `fences` fenced sessions pending.
    async fn confirm(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), MapError>;

    /// A chart newer than `newer_than`; waits for one until the deadline, then `None`.
    async fn chart(&self, newer_than: u64, deadline: Time) -> Result<Option<Chart>, MapError>;

    /// Fences a session; answered once no server can act for it any more.
    async fn fence(&self, session: Fence, deadline: Time) -> Result<(), MapError>;

    /// Changes the set of servers.
    async fn change(&self, change: Change, deadline: Time) -> Result<(), MapError>;

    /// Grants space to a session: see [`crate::VirtualDisk::reserve`].
    async fn reserve(&self, session: Fence, ask: SpaceAsk, deadline: Time)
    -> Result<u64, MapError>;

    /// All servers.
    async fn servers(&self, deadline: Time) -> Result<Vec<ServerInfo>, MapError>;
}
