//! The volume map itself, as a state machine: servers, groups, chains, fences. Deterministic and
//! without time; who has a lease is known only to the leader's service around it.

use std::collections::{BTreeMap, BTreeSet};

use world::Address;

use super::api::{Chart, MapError};
use crate::{
    disk::{Fence, Space},
    link::{Chain, Known, Member, News, Registration},
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId, Volume},
};

/// The volume that every cluster has.
pub const MAIN: Volume = Volume(1);

/// A change of the map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// Makes the map; done once, by the first leader.
    Format {
        /// The cluster.
        cluster: u128,
        /// Its servers; fixed.
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
    /// The lease of this start was waited out: it is cut off.
    Expire { server: ServerId, incarnation: Incarnation },
    /// This session changes nothing any more.
    Fence(Fence),
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
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Row {
    pub(crate) version: ChainVersion,
    pub(crate) chain: Vec<ServerId>,
    /// The version of the map in which this row changed last.
    pub(crate) changed: u64,
    /// Its members are equal and may serve.
    pub(crate) equal: bool,
    /// A member came back without all it acknowledged; only a head's report ends this.
    pub(crate) tainted: bool,
    /// Members that came back clean since the members were last equal.
    pub(crate) clean: BTreeSet<ServerId>,
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
                self.equal(server, incarnation, &groups)
            }
            Command::Expire { server, incarnation } => Ok(self.expire(server, incarnation)),
            Command::Fence(session) => Ok(self.fence(session)),
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
        if servers.is_empty() || replication == 0 || bits.0 > 24 {
            return Err(MapError::Refused(
                "a cluster needs servers, copies and at most 2^24 groups".to_owned(),
            ));
        }
        let order: Vec<ServerId> = servers.iter().copied().collect();
        let copies = usize::from(replication).min(order.len());
        self.cluster = Some(cluster);
        self.bits = bits.0;
        self.replication = copies as u8;
        self.version = 1;
        self.servers = order.iter().map(|server| (*server, Server::default())).collect();
        self.rows = (0..bits.groups() as usize)
            .map(|group| Row {
                version: ChainVersion(1),
                chain: (0..copies).map(|i| order[(group + i) % order.len()]).collect(),
                changed: 1,
                ..Row::default()
            })
            .collect();
        self.volumes = BTreeMap::from([(MAIN, "main".to_owned())]);
        Ok(self.version)
    }

    fn register(&mut self, new: Registration) -> Result<u64, MapError> {
        let Some(server) = self.servers.get_mut(&new.server) else {
            return Err(MapError::Refused(format!(
                "block server {} does not belong to this cluster; give it a number of the config",
                new.server
            )));
        };
        if server.incarnation.0 > 0 && server.directory != new.directory {
            return Err(MapError::Refused(format!(
                "block server {} was registered with another data directory; start it on that one",
                new.server
            )));
        }
        if server.start == new.start && server.incarnation.0 > 0 {
            return match server.up {
                true => Ok(server.incarnation.0),
                false => Err(MapError::Superseded(new.server)),
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
        for row in self.rows.iter_mut().filter(|row| row.chain.contains(&new.server)) {
            row.version.0 += 1;
            row.changed = self.version;
            row.equal = false;
            if new.clean {
                row.clean.insert(new.server);
            } else {
                row.tainted = true;
            }
            if !row.tainted && row.chain.iter().all(|member| row.clean.contains(member)) {
                row.be_equal();
            }
        }
        Ok(incarnation)
    }

    fn equal(
        &mut self,
        server: ServerId,
        incarnation: Incarnation,
        groups: &[(Group, ChainVersion)],
    ) -> Result<u64, MapError> {
        if !self.is_current(server, incarnation) {
            return Err(MapError::Superseded(server));
        }
        let next = self.version + 1;
        for (group, version) in groups {
            let Some(row) = self.rows.get_mut(group.0 as usize) else { continue };
            let heads = row.chain.first() == Some(&server);
            if heads && row.version == *version && !row.equal {
                row.be_equal();
                row.changed = next;
                self.version = next;
            }
        }
        Ok(self.version)
    }

    fn expire(&mut self, server: ServerId, incarnation: Incarnation) -> u64 {
        if !self.is_current(server, incarnation) {
            return self.version;
        }
        if let Some(row) = self.servers.get_mut(&server) {
            row.up = false;
        }
        self.version += 1;
        for row in self.rows.iter_mut().filter(|row| row.chain.contains(&server)) {
            row.version.0 += 1;
            row.changed = self.version;
            row.equal = false;
            row.tainted = true;
        }
        self.version
    }

    fn fence(&mut self, session: Fence) -> u64 {
        if let Some(place) = self.fenced.iter().position(|fenced| *fenced == session) {
            return place as u64 + 1;
        }
        self.fenced.push(session);
        self.fenced.len() as u64
    }

    /// Whether this start of the server is the one that may serve.
    pub(crate) fn is_current(&self, server: ServerId, incarnation: Incarnation) -> bool {
        self.servers.get(&server).is_some_and(|row| row.up && row.incarnation == incarnation)
    }

    /// What a server that knows all of this knows.
    pub(crate) fn known(&self) -> Known {
        Known { map: self.version, fences: self.fenced.len() as u64 }
    }

    /// A row as servers and clients see it; `None` while a member never registered.
    fn chain(&self, group: u32, row: &Row) -> Option<Chain> {
        let members = row.chain.iter().map(|id| {
            let server = self.servers.get(id)?;
            let address = server.address.clone()?;
            Some(Member { server: *id, incarnation: server.incarnation, address })
        });
        Some(Chain {
            group: Group(group),
            version: row.version,
            members: members.collect::<Option<_>>()?,
            equal: row.equal,
        })
    }

    /// What a server has not heard yet. A chain is news only once all its members registered.
    pub(crate) fn news(&self, server: ServerId, known: Known) -> News {
        let chains = (0_u32..).zip(&self.rows).filter(|(_, row)| {
            row.chain.contains(&server) && (known.map == 0 || row.changed > known.map)
        });
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

impl Row {
    fn be_equal(&mut self) {
        self.equal = true;
        self.tainted = false;
        self.clean.clear();
    }
}
