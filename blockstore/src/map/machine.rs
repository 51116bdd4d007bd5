//! The volume map itself, as a state machine: servers, groups, chains, fences. Deterministic and
//! without time; who has a lease is known only to the leader's service around it.
//!
//! The rules of chains are in `rows` (after chain replication, OSDI'04, and GFS's chunk versions,
//! SOSP'03 section 4.5), where replicas go is in `placement`.

mod placement;
mod rows;

use std::collections::{BTreeMap, BTreeSet};

use world::Address;

use super::api::{Change, Chart, MapError};
use crate::{
    disk::{Fence, Space, SpaceAsk},
    link::{Known, News, Past, Registration},
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId, Volume},
};

pub(crate) use rows::{Row, Seat};

/// The volume that every cluster has.
pub const MAIN: Volume = Volume(1);
/// The weight of the servers that a cluster is made with.
const WEIGHT: u32 = 100;

/// A change of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Makes the map; done once, by the first leader.
    Format {
        /// The cluster.
        cluster: u128,
        /// Its first servers.
        servers: BTreeSet<ServerId>,
        /// Copies of each group.
        replication: u8,
        /// How many groups.
        bits: GroupBits,
    },
    /// A server started.
    Register(Registration),
    /// The head of these chains made their members equal.
    Equal { server: ServerId, incarnation: Incarnation, groups: Vec<(Group, ChainVersion)> },
    /// The head of these chains has brought their joiners all but the last changes.
    Ready {
        server: ServerId,
        incarnation: Incarnation,
        groups: Vec<(Group, ChainVersion, ServerId)>,
    },
    /// The lease of this start was waited out: it is cut off.
    Expire { server: ServerId, incarnation: Incarnation },
    /// It was waited for long enough: chains go on without it though only members are left that
    /// started anew.
    Forsake { server: ServerId, incarnation: Incarnation },
    /// It was down for long: others take its replicas.
    Replace { server: ServerId, incarnation: Incarnation },
    /// An operator's.
    Change(Change),
    /// This session changes nothing any more.
    Fence(Fence),
    /// A session asks for space while the servers have `room` for all sessions together.
    Grant { session: Fence, ask: SpaceAsk, room: u64 },
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Server {
    /// `None` until it registered for the first time.
    pub(crate) address: Option<Address>,
    pub(crate) incarnation: Incarnation,
    /// The incarnation may serve; its lease was not waited out.
    pub(crate) up: bool,
    pub(crate) directory: u128,
    pub(crate) start: u128,
    /// At its latest start.
    pub(crate) space: Space,
    pub(crate) weight: u32,
    pub(crate) domain: String,
    pub(crate) draining: bool,
}

/// The volume map.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Map {
    /// `None` until it is formatted.
    pub(crate) cluster: Option<u128>,
    pub(crate) bits: u8,
    pub(crate) replication: u8,
    /// Rises with every change of a server or row.
    pub(crate) version: u64,
    pub(crate) servers: BTreeMap<ServerId, Server>,
    pub(crate) rows: Vec<Row>,
    /// Fenced sessions in order: the version of the list is its length.
    pub(crate) fenced: Vec<Fence>,
    pub(crate) volumes: BTreeMap<Volume, String>,
    /// Space that sessions were granted, in bytes of user data.
    pub(crate) grants: BTreeMap<Fence, u64>,
}

impl Map {
    /// An empty map, to be formatted by the first leader or restored from a checkpoint.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a command; returns the number that its sender wants to know.
    pub(crate) fn handle(&mut self, command: Command) -> Result<u64, MapError> {
        if let Command::Format { cluster, servers, replication, bits } = command {
            return self.format(cluster, &servers, replication, bits);
        }
        if self.cluster.is_none() {
            return Err(MapError::NotFormatted);
        }
        match command {
            Command::Format { .. } => Ok(self.version),
            Command::Register(registration) => self.register(registration),
            Command::Equal { server, incarnation, groups } => {
                self.current(server, incarnation)?;
                Ok(self.equal(server, &groups))
            }
            Command::Ready { server, incarnation, groups } => {
                self.current(server, incarnation)?;
                Ok(self.ready(server, &groups))
            }
            Command::Expire { server, incarnation } => Ok(self.expire(server, incarnation)),
            Command::Forsake { server, incarnation } => Ok(self.forsake(server, incarnation)),
            Command::Replace { server, incarnation } => Ok(self.replace(server, incarnation)),
            Command::Change(Change::Add { server, weight, domain }) => {
                self.add(server, weight, domain)
            }
            Command::Change(Change::Drain(server)) => self.drain(server),
            Command::Change(Change::Remove(server)) => self.remove(server),
            Command::Fence(session) => Ok(self.fence(session)),
            Command::Grant { session, ask, room } => Ok(self.grant(session, ask, room)),
        }
    }

    fn format(
        &mut self,
        cluster: u128,
        servers: &BTreeSet<ServerId>,
        replication: u8,
        bits: GroupBits,
    ) -> Result<u64, MapError> {
        match self.cluster {
            Some(mine) if mine == cluster => return Ok(self.version),
            Some(_) => return Err(MapError::Refused("the map is another cluster's".to_owned())),
            None => {}
        }
        if servers.is_empty() || !(1..=5).contains(&replication) || bits.0 > 24 {
            return Err(MapError::Refused(
                "a cluster needs servers, one to five copies and at most 2^24 groups".to_owned(),
            ));
        }
        self.cluster = Some(cluster);
        self.bits = bits.0;
        self.replication = replication.min(u8::try_from(servers.len()).unwrap_or(u8::MAX));
        self.version = 1;
        let server = || Server { weight: WEIGHT, ..Server::default() };
        self.servers = servers.iter().map(|id| (*id, server())).collect();
        self.rows = (0..bits.groups()).map(|_| Row::default()).collect();
        self.place_first();
        self.volumes = BTreeMap::from([(MAIN, "main".to_owned())]);
        Ok(self.version)
    }

    fn register(&mut self, new: Registration) -> Result<u64, MapError> {
        let Some(server) = self.servers.get(&new.server) else {
            return Err(MapError::Refused(format!(
                "block server {0} does not belong to this cluster; let it in with `plumeria server add CLUSTER {0}`",
                new.server
            )));
        };
        let emptied = server.incarnation.0 > 0 && server.directory != new.directory;
        if emptied {
            self.may_begin_empty(&new)?;
        }
        let server = self.servers.entry(new.server).or_default();
        if server.start == new.start && server.incarnation.0 > 0 {
            return match server.up {
                true => Ok(server.incarnation.0),
                false => Err(MapError::Expired(new.server)),
            };
        }
        server.incarnation.0 += 1;
        server.address = Some(new.address);
        server.up = true;
        server.directory = new.directory;
        server.start = new.start;
        server.space = new.space;
        let incarnation = server.incarnation.0;
        self.version += 1;
        // Between clean stops of some members the chain may have served with the others; only members
        // that never held anything are known to be equal.
        let fresh = matches!(new.past, Past::Clean | Past::Nothing) && incarnation == 1;
        if emptied {
            self.unseat(new.server);
        }
        self.start(new.server, new.past, fresh);
        self.place();
        Ok(incarnation)
    }

    /// Whether a server may begin anew on another directory than it was registered with: its disk was
    /// lost and replaced by an empty one. What it had the others bring it.
    fn may_begin_empty(&self, new: &Registration) -> Result<(), MapError> {
        let id = new.server;
        let refused = |why: String| Err(MapError::Refused(format!("block server {id} {why}")));
        if new.past != Past::Nothing {
            return refused(
                "was registered with another data directory; start it on that one, or on an empty one if that is lost"
                    .to_owned(),
            );
        }
        if self.servers.get(&id).is_some_and(|server| server.up) {
            // The start on the other directory may live, and serve: its lease ends first.
            return Err(MapError::NotYet(format!(
                "block server {id} begins on an empty directory once the lease of its last start is over"
            )));
        }
        let only = self.rows.iter().filter(|row| row.needs(id, &self.servers)).count();
        if only > 0 {
            return refused(format!(
                "has the only copy of {only} groups on its other data directory; start it on that one, or start the servers that have copies"
            ));
        }
        Ok(())
    }

    fn add(&mut self, id: ServerId, weight: u32, domain: String) -> Result<u64, MapError> {
        if id.0 == 0 || weight == 0 || domain.len() > 255 {
            return Err(MapError::Refused(
                "a block server has a number and a weight above zero".to_owned(),
            ));
        }
        let server = self.servers.entry(id).or_default();
        if server.weight != 0 && server.draining {
            return Err(MapError::Refused(format!(
                "block server {id} is being drained; wait until it can be removed"
            )));
        }
        server.weight = weight;
        server.domain = domain;
        self.version += 1;
        self.place();
        Ok(self.version)
    }

    fn drain(&mut self, id: ServerId) -> Result<u64, MapError> {
        if !self.servers.contains_key(&id) {
            return Err(MapError::Refused(format!("there is no block server {id}")));
        }
        let left = self.servers.iter().filter(|(other, row)| **other != id && row.takes()).count();
        if left < usize::from(self.replication) {
            return Err(MapError::Refused(format!(
                "without block server {id} only {left} servers are up for {} copies; add one first",
                self.replication
            )));
        }
        if let Some(server) = self.servers.get_mut(&id)
            && !server.draining
        {
            server.draining = true;
            self.version += 1;
            self.leave(id);
            self.place();
        }
        Ok(self.version)
    }

    fn remove(&mut self, id: ServerId) -> Result<u64, MapError> {
        let Some(server) = self.servers.get(&id) else { return Ok(self.version) };
        let chains = self.rows.iter().filter(|row| row.seat(id).is_some()).count();
        if server.up && chains > 0 {
            return Err(MapError::Refused(format!(
                "block server {id} is up and keeps {chains} groups; drain it first: `plumeria server drain`"
            )));
        }
        let only = self.rows.iter().filter(|row| row.needs(id, &self.servers)).count();
        if only > 0 {
            return Err(MapError::Refused(format!(
                "block server {id} has the only copy of {only} groups; start it again"
            )));
        }
        self.servers.remove(&id);
        self.version += 1;
        self.unseat(id);
        self.forget(id);
        self.place();
        Ok(self.version)
    }

    /// Grants space out of `room`, never more to all sessions together than there is.
    fn grant(&mut self, session: Fence, ask: SpaceAsk, room: u64) -> u64 {
        if self.fenced.contains(&session) {
            return 0;
        }
        let had = self.grants.get(&session).copied().unwrap_or(0);
        let all: u64 = self.grants.values().sum();
        let share = ask.share(had, room.saturating_sub(all - had));
        if share == 0 {
            self.grants.remove(&session);
        } else {
            self.grants.insert(session, share);
        }
        share
    }

    fn fence(&mut self, session: Fence) -> u64 {
        self.grants.remove(&session);
        if let Some(place) = self.fenced.iter().position(|fenced| *fenced == session) {
            return place as u64 + 1;
        }
        self.fenced.push(session);
        self.fenced.len() as u64
    }

    /// Whether this start of the server is the one that may serve.
    pub(crate) fn is_current(&self, server: ServerId, incarnation: Incarnation) -> bool {
        self.current(server, incarnation).is_ok()
    }

    /// The same, with the reason why not.
    pub(crate) fn current(
        &self,
        server: ServerId,
        incarnation: Incarnation,
    ) -> Result<(), MapError> {
        match self.servers.get(&server) {
            Some(row) if row.incarnation == incarnation && row.up => Ok(()),
            Some(row) if row.incarnation == incarnation => Err(MapError::Expired(server)),
            Some(_) => Err(MapError::Superseded(server)),
            None => Err(MapError::Refused(format!("block server {server} was removed"))),
        }
    }

    /// What a server that knows all of this knows.
    pub(crate) fn known(&self) -> Known {
        Known { map: self.version, fences: self.fenced.len() as u64 }
    }

    /// What a server has not heard yet. A chain is news only once all its members registered.
    pub(crate) fn news(&self, server: ServerId, known: Known) -> News {
        let chains = (0_u32..)
            .zip(&self.rows)
            .filter(|(_, row)| row.concerns(server) && (known.map == 0 || row.changed > known.map));
        let from = usize::try_from(known.fences).unwrap_or(usize::MAX).min(self.fenced.len());
        News {
            known: self.known(),
            bits: GroupBits(self.bits),
            chains: chains.filter_map(|(group, row)| self.chain(group, row)).collect(),
            fenced: self.fenced[from..].to_vec(),
        }
    }

    /// The chart for clients.
    pub(crate) fn chart(&self) -> Chart {
        let absent = |id: &ServerId| self.servers.get(id).is_none_or(|row| row.address.is_none());
        Chart {
            version: self.version,
            bits: GroupBits(self.bits),
            replication: self.replication,
            chains: (0_u32..).zip(&self.rows).filter_map(|(g, row)| self.chain(g, row)).collect(),
            absent: self.servers.keys().filter(|id| absent(id)).copied().collect(),
        }
    }
}

impl Map {
    /// How much user data the servers can take, where `space` says what each of them has. A server gets its share of
    /// all replicas by its weight, and at most one of each group, so the first that is full ends it. One that is down
    /// counts with what it last said: it comes back, or others will take what it had.
    pub(crate) fn room(&self, space: impl Fn(ServerId, &Server) -> Space) -> u64 {
        let stays = |server: &Server| !server.draining && server.incarnation.0 > 0;
        let staying: Vec<_> = self.servers.iter().filter(|(_, server)| stays(server)).collect();
        let weights: u128 = staying.iter().map(|(_, server)| u128::from(server.weight)).sum();
        let copies = u128::from(self.replication).min(staying.len() as u128);
        let room = |(id, server): &(&ServerId, &Server)| {
            let (free, weight) = (space(**id, server).grantable(), u128::from(server.weight));
            let share = u128::from(free) * weights / (weight * copies).max(1);
            u64::try_from(share).unwrap_or(u64::MAX).max(free)
        };
        staying.iter().map(room).min().unwrap_or(0)
    }
}

impl Server {
    /// Whether new replicas may go there.
    pub(crate) fn takes(&self) -> bool {
        self.up && !self.draining
    }
}
