//! The chains: who is in them, what each member has, when their versions rise.
//!
//! A member that has everything acknowledged is *fresh* ([`Standing::Serving`]). Chains go on without
//! a dead member as long as a fresh one is up; its replica waits outside (*spare*) and is brought
//! what it lacks before it comes back at the tail. Nothing is ever taken from a member that is new.

use std::collections::{BTreeMap, BTreeSet};

use super::{Map, Server};
use crate::{
    link::{Chain, Member, Past, Standing},
    place::{ChainVersion, Group, Incarnation, ServerId},
};

/// A member of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) server: ServerId,
    pub(crate) standing: Standing,
    /// Another replica is to take its place.
    pub(crate) leaving: bool,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct Row {
    pub(crate) version: ChainVersion,
    /// The members, head first.
    pub(crate) chain: Vec<Seat>,
    /// Replicas outside the chain: waiting to be brought what they lack if their server is up, else
    /// offline.
    pub(crate) spare: Vec<ServerId>,
    /// Servers that were members and are up: they hear of the row.
    pub(crate) former: BTreeSet<ServerId>,
    /// The version of the map in which this row changed last.
    pub(crate) changed: u64,
    /// Its members are equal and may serve.
    pub(crate) equal: bool,
    /// Members that registered for the first time ever, with nothing, and were never equal yet.
    pub(crate) clean: BTreeSet<ServerId>,
    /// What was acknowledged from this version on is still there.
    pub(crate) intact: ChainVersion,
}

type Servers = BTreeMap<ServerId, Server>;

impl Row {
    pub(crate) fn seat(&self, server: ServerId) -> Option<&Seat> {
        self.chain.iter().find(|seat| seat.server == server)
    }

    /// Whether the server hears of the row.
    pub(super) fn concerns(&self, server: ServerId) -> bool {
        self.seat(server).is_some() || self.spare.contains(&server) || self.former.contains(&server)
    }

    /// Whether nobody else who is up has the group's data.
    pub(super) fn needs(&self, server: ServerId, servers: &Servers) -> bool {
        let has = |seat: &Seat| seat.standing <= Standing::Stale;
        self.seat(server).is_some_and(has)
            && !self
                .chain
                .iter()
                .any(|seat| seat.server != server && has(seat) && is_up(servers, seat.server))
    }

    /// Whether it is a member that the group's data does not depend on.
    pub(crate) fn spares(&self, server: ServerId, servers: &Servers) -> bool {
        self.seat(server).is_some() && !self.needs(server, servers)
    }

    /// A new version: nothing is served under the old one any more, once all have heard of it.
    fn raise(&mut self, group: usize, servers: &Servers, changed: u64) {
        self.version.0 += 1;
        self.changed = changed;
        self.equal = false;
        if !self.chain.iter().any(|seat| seat.standing == Standing::Serving) {
            self.intact = self.version;
        }
        // Any order will do, because members are made equal before they serve. Heads rotate.
        let count = servers.len().max(1) as u64;
        let turn = |server: ServerId| (server.0 + count * 2 - 1 - group as u64 % count) % count;
        self.chain.sort_by_key(|seat| {
            let leaves = seat.standing == Standing::Leaving;
            (leaves, !is_up(servers, seat.server), seat.standing, turn(seat.server), seat.server)
        });
    }

    /// Takes a server out of the chain; its replica stays, unless it was to leave.
    fn cut(&mut self, server: ServerId) {
        let Some(place) = self.chain.iter().position(|seat| seat.server == server) else { return };
        let seat = self.chain.remove(place);
        self.clean.remove(&server);
        if !seat.leaving && seat.standing != Standing::Leaving && !self.spare.contains(&server) {
            self.spare.push(server);
        }
    }

    /// Cuts members that are down, if that leaves one that has everything.
    fn prune(&mut self, servers: &Servers) -> bool {
        let fresh = |seat: &Seat| seat.standing == Standing::Serving && is_up(servers, seat.server);
        let enough = self.chain.iter().any(fresh);
        let down: Vec<ServerId> = self
            .chain
            .iter()
            .filter(|seat| !is_up(servers, seat.server))
            // Who never held anything for the group is not waited for.
            .filter(|seat| enough || seat.standing >= Standing::Syncing)
            // Who is still expected for the first time is cut off like one that died, not here.
            .filter(|seat| servers.get(&seat.server).is_none_or(|row| row.incarnation.0 > 0))
            .map(|seat| seat.server)
            .collect();
        for server in &down {
            self.cut(*server);
        }
        !down.is_empty()
    }

    /// Whether it has all its replicas and none is on its way out.
    pub(super) fn is_settled(&self, replication: u8) -> bool {
        let members = self.chain.len() == usize::from(replication);
        members && self.spare.is_empty() && self.chain.iter().all(|seat| !seat.leaving)
    }

    fn be_equal(&mut self, changed: u64) {
        self.equal = true;
        self.changed = changed;
        self.clean.clear();
        let gone: Vec<ServerId> = self
            .chain
            .extract_if(.., |seat| seat.standing == Standing::Leaving)
            .map(|seat| seat.server)
            .collect();
        self.former.extend(gone);
        for seat in &mut self.chain {
            seat.standing = Standing::Serving;
        }
    }

    /// Once enough others serve, one that is to leave does.
    fn let_one_go(&mut self, replication: u8) -> bool {
        let stay = self.chain.iter().filter(|seat| !seat.leaving).count();
        if stay < usize::from(replication) {
            return false;
        }
        match self.chain.iter_mut().find(|seat| seat.leaving) {
            Some(seat) => {
                seat.standing = Standing::Leaving;
                true
            }
            None => false,
        }
    }
}

fn is_up(servers: &Servers, server: ServerId) -> bool {
    servers.get(&server).is_some_and(|row| row.up)
}

impl Map {
    /// A server has registered; `fresh`: it never held anything.
    pub(super) fn start(&mut self, server: ServerId, past: Past, fresh: bool) {
        let (version, servers) = (self.version, &self.servers);
        for (group, row) in self.rows.iter_mut().enumerate().filter(|(_, row)| row.concerns(server))
        {
            row.changed = version;
            row.former.remove(&server);
            let Some(seat) = row.chain.iter_mut().find(|seat| seat.server == server) else {
                continue;
            };
            if seat.standing == Standing::Leaving {
                // The others were equal when it was told to leave.
                row.cut(server);
            } else if matches!(past, Past::Lost | Past::Nothing)
                && !fresh
                && seat.standing == Standing::Serving
            {
                seat.standing = Standing::Stale;
            }
            row.prune(servers);
            row.raise(group, servers, version);
            if fresh {
                row.clean.insert(server);
            } else {
                row.clean.remove(&server);
            }
            let all = |row: &Row| {
                let clean = |seat: &Seat| {
                    seat.standing == Standing::Serving && row.clean.contains(&seat.server)
                };
                row.chain.iter().all(clean)
            };
            if all(row) {
                row.be_equal(version);
            }
        }
    }

    /// The head of chains made their members equal.
    pub(super) fn equal(&mut self, server: ServerId, groups: &[(Group, ChainVersion)]) -> u64 {
        let (next, replication) = (self.version + 1, self.replication);
        for (group, version) in groups {
            let place = group.0 as usize;
            let Some(row) = self.rows.get_mut(place) else { continue };
            let heads = row.chain.first().is_some_and(|seat| seat.server == server);
            if heads && row.version == *version && !row.equal {
                row.be_equal(next);
                if row.let_one_go(replication) {
                    row.raise(place, &self.servers, next);
                }
                self.version = next;
            }
        }
        if self.version == next {
            // Whoever has left may be taken again, and a row that could not be filled or moved
            // because of that now can.
            self.refill(groups.iter().map(|(group, _)| group.0 as usize));
        }
        self.version
    }

    /// The joiners of chains have all but the last changes: they come in at the tail.
    pub(super) fn ready(
        &mut self,
        server: ServerId,
        groups: &[(Group, ChainVersion, ServerId)],
    ) -> u64 {
        let next = self.version + 1;
        for (group, version, joiner) in groups {
            let place = group.0 as usize;
            let Some(row) = self.rows.get_mut(place) else { continue };
            let heads = row.chain.first().is_some_and(|seat| seat.server == server);
            if !heads || row.version != *version || !row.equal || !is_up(&self.servers, *joiner) {
                continue;
            }
            let Some(spare) = row.spare.iter().position(|spare| spare == joiner) else { continue };
            row.spare.remove(spare);
            row.former.remove(joiner);
            let standing = Standing::Syncing;
            row.chain.push(Seat { server: *joiner, standing, leaving: false });
            row.raise(place, &self.servers, next);
            self.version = next;
        }
        self.version
    }

    /// The lease of a start was waited out.
    pub(super) fn expire(&mut self, server: ServerId, incarnation: Incarnation) -> u64 {
        let never = incarnation.0 == 0
            && self.servers.get(&server).is_some_and(|row| row.incarnation.0 == 0);
        if !never && !self.is_current(server, incarnation) {
            return self.version;
        }
        if let Some(row) = self.servers.get_mut(&server) {
            row.up = false;
        }
        self.version += 1;
        let (version, servers) = (self.version, &self.servers);
        for (group, row) in self.rows.iter_mut().enumerate().filter(|(_, row)| row.concerns(server))
        {
            row.changed = version;
            row.former.remove(&server);
            if row.seat(server).is_some() {
                let held = row
                    .chain
                    .iter()
                    .any(|seat| seat.standing == Standing::Serving && is_up(servers, seat.server));
                if never && held {
                    row.cut(server);
                } else {
                    row.prune(servers);
                }
                row.clean.remove(&server);
                row.raise(group, servers, version);
            }
        }
        self.version
    }

    /// Chains do not wait for a server any more that is down, if any other has their data.
    pub(super) fn forsake(&mut self, server: ServerId, incarnation: Incarnation) -> u64 {
        let down = |row: &Server| row.incarnation == incarnation && incarnation.0 > 0 && !row.up;
        if !self.servers.get(&server).is_some_and(down) {
            return self.version;
        }
        self.version += u64::from(self.rows.iter().any(|row| row.spares(server, &self.servers)));
        self.unseat(server);
        self.version
    }

    /// Takes a server out of the chains that have their data without it.
    pub(super) fn unseat(&mut self, server: ServerId) {
        let (version, servers) = (self.version, &self.servers);
        for (group, row) in self.rows.iter_mut().enumerate() {
            if row.spares(server, servers) {
                row.cut(server);
                row.prune(servers);
                row.raise(group, servers, version);
            }
        }
    }

    /// Others take the replicas of a server that is down.
    pub(super) fn replace(&mut self, server: ServerId, incarnation: Incarnation) -> u64 {
        let down = |row: &Server| row.incarnation == incarnation && !row.up;
        if self.servers.get(&server).is_some_and(down) && self.drops(server) {
            self.version += 1;
            self.forget(server);
            self.place();
        }
        self.version
    }

    /// Whether it has replicas that others could take.
    pub(crate) fn drops(&self, server: ServerId) -> bool {
        let takers = |row: &Row| {
            let free = |(id, taker): (&ServerId, &Server)| {
                taker.takes() && row.seat(*id).is_none() && !row.spare.contains(id)
            };
            self.servers.iter().any(free)
        };
        self.rows.iter().any(|row| row.spare.contains(&server) && takers(row))
    }

    /// Its replicas outside of chains are none any more.
    pub(super) fn forget(&mut self, server: ServerId) {
        for row in &mut self.rows {
            let before = row.spare.len();
            row.spare.retain(|spare| *spare != server);
            if row.former.remove(&server) || row.spare.len() != before {
                row.changed = self.version;
            }
        }
    }

    /// Its members are to leave once others took their places.
    pub(super) fn leave(&mut self, server: ServerId) {
        for row in &mut self.rows {
            if let Some(seat) = row.chain.iter_mut().find(|seat| seat.server == server) {
                seat.leaving = true;
                row.changed = self.version;
            }
        }
        self.forget(server);
    }

    /// A row as servers and clients see it; `None` while a member never registered.
    pub(super) fn chain(&self, group: u32, row: &Row) -> Option<Chain> {
        let member = |id: ServerId, standing: Standing| {
            let server = self.servers.get(&id)?;
            let (incarnation, address) = (server.incarnation, server.address.clone()?);
            Some(Member { server: id, incarnation, address, standing })
        };
        let members = row.chain.iter().map(|seat| member(seat.server, seat.standing));
        let members = members.collect::<Option<Vec<_>>>()?;
        let waiting = row.spare.iter().find(|spare| is_up(&self.servers, **spare));
        Some(Chain {
            group: Group(group),
            version: row.version,
            members,
            equal: row.equal,
            intact: row.intact,
            joiner: waiting
                .filter(|_| row.equal)
                .and_then(|server| member(*server, Standing::Syncing)),
            spare: row.spare.clone(),
        })
    }
}
