//! What a block server and the volume map say to each other: registration, leases, chains, fences.
//! The map's side, and how the words travel, are behind the [`MapLink`] trait.
//!
//! Rules for the map. Registration of a server number from the same directory proves that the
//! older incarnation is dead (the directory is locked by its process): no lease is waited out. It
//! raises the version of each chain that the server is a member of. A chain's [`Chain::equal`] is
//! true only if every member has registered for the first time ever, or the head has made the members
//! equal and reported it. A server whose
//! lease ran out is cut from its chains, as long as a member remains that has everything. Nobody
//! serves a new version before all its members, and those that leave with it, have heard of it. A
//! lease is granted only by a leader under the rule of sessions (after a barrier), and is counted by
//! the server from before it asked.

use std::time::Duration;

use async_trait::async_trait;
use world::{Address, Time};

use crate::{
    disk::{Fence, Space},
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId},
};

/// What a server still has of what it acknowledged before it registered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Past {
    /// Everything, on its disk, and nothing was under way: its last stop was clean.
    Clean,
    /// Everything: it is the same process, which had no lease for a while.
    Unbroken,
    /// What its disk has: it may have lost what no flush covered.
    Lost,
    /// Not one block. On the directory that it was registered with it has lost what no flush covered; on another one,
    /// which took the place of a lost disk, everything.
    Nothing,
}

/// A server that has started, or comes back after its lease ran out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// Its number.
    pub server: ServerId,
    /// The random number of its data directory, made when the directory was.
    pub directory: u128,
    /// A random number of this start, so that a repeated registration gets the same incarnation.
    pub start: u128,
    /// Where it listens.
    pub address: Address,
    /// What it still has.
    pub past: Past,
    /// Its space.
    pub space: Space,
}

/// What a registered server tells from time to time, at least every third of its lease.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Heartbeat {
    /// Who.
    pub server: ServerId,
    /// Its start.
    pub incarnation: Incarnation,
    /// The news that it has.
    pub known: Known,
    /// Up to which version of the fence list it has confirmed; told again with each heartbeat,
    /// because a new leader does not know what the last one was told.
    pub confirmed: u64,
    /// Its space.
    pub space: Space,
    /// Bytes acknowledged and not yet on stable storage.
    pub dirty_bytes: u64,
    /// Chains that it heads and has made equal under this version. Repeated until the map's news
    /// (a row with [`Chain::equal`] set, no new version needed) show that it knows.
    pub equal: Vec<(Group, ChainVersion)>,
    /// Chains that it heads, under this version, whose joiner has all but the last changes. Repeated
    /// until the joiner is a member.
    pub ready: Vec<(Group, ChainVersion, ServerId)>,
    /// Bytes that joiners of chains that it heads still lack, as far as it knows.
    pub owed: Vec<(ServerId, u64)>,
}

/// Up to where a server has heard.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Known {
    /// The version of the map (rises with every change of any chain or server).
    pub map: u64,
    /// The version of the fence list (rises with every fence).
    pub fences: u64,
}

/// A chain: who keeps a group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chain {
    /// The group.
    pub group: Group,
    /// Its version.
    pub version: ChainVersion,
    /// The members, head first; at the end those that leave with this version.
    pub members: Vec<Member>,
    /// Whether the members are known to be equal, so that they may serve at once.
    pub equal: bool,
    /// What was acknowledged under this version or a later one is still there; what was
    /// acknowledged before, and not flushed, may be lost.
    pub intact: ChainVersion,
    /// Who is brought the group's blocks, to become a member.
    pub joiner: Option<Member>,
    /// Servers that keep a replica outside the chain, the joiner among them.
    pub spare: Vec<ServerId>,
}

impl Chain {
    /// The members that hold the chain's data from this version on, head first.
    pub fn serving(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.standing != Standing::Leaving)
    }
}

/// What a member of a chain has of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// Everything that was acknowledged.
    Serving,
    /// It started anew: it may have lost what no flush covered.
    Stale,
    /// It is new in the chain: it may lack anything, and nothing is taken from it.
    Syncing,
    /// It is no member any more once it has heard of this version.
    Leaving,
}

/// A member of a chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Who.
    pub server: ServerId,
    /// Which start of it.
    pub incarnation: Incarnation,
    /// Where.
    pub address: Address,
    /// What it has, as far as the map knows; all are [`Standing::Serving`] once they are equal.
    pub standing: Standing,
}

/// What is new since a server's [`Known`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct News {
    /// What it knows with this.
    pub known: Known,
    /// How many groups there are.
    pub bits: GroupBits,
    /// Rows that changed of chains that the server is or was a member of; all of its rows if its
    /// `known.map` was zero.
    pub chains: Vec<Chain>,
    /// Sessions fenced since `known.fences`; the whole list if that was zero.
    pub fenced: Vec<Fence>,
}

/// A lease.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// How long, from when the heartbeat was sent.
    pub lease: Duration,
    /// What the lease relies on: with it the server knows all fences and chains of its grant.
    pub news: News,
    /// Bytes a second that the server may send to bring joiners what they lack; zero: no limit.
    pub rate: u64,
}

/// The map did not do it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LinkError {
    /// No leader answered before the deadline. Try again.
    #[error("no coordinator answered: {0}")]
    Unreachable(String),
    /// A later start of the same server has registered: stop.
    #[error("another process has started as block server {0}")]
    Superseded(ServerId),
    /// The lease of this start was waited out: register again.
    #[error("block server {0} had no lease for so long that it was cut off")]
    Expired(ServerId),
    /// The map refuses this server for good: stop. Says what to do.
    #[error("{0}")]
    Refused(String),
}

/// The volume map, as a block server sees it.
#[async_trait]
pub trait MapLink: Send + Sync {
    /// Makes this start known; returns its incarnation. Repeated until answered.
    async fn register(
        &self,
        registration: Registration,
        deadline: Time,
    ) -> Result<Incarnation, LinkError>;

    /// Reports, and renews the lease.
    async fn heartbeat(&self, heartbeat: Heartbeat, deadline: Time) -> Result<Granted, LinkError>;

    /// Waits for news beyond `known`, at the longest until `deadline`; then `None`. A fence must
    /// arrive this way at once.
    async fn news(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, LinkError>;

    /// Nothing of session `dead` is pending on any chain that this server heads, and nothing of it
    /// will be admitted: of all fences up to and with list version `fences`.
    async fn confirm_fences(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), LinkError>;
}
