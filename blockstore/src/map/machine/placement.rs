//! Where replicas go: on different failure domains, in proportion to weights, so that the partners
//! of a server are spread over all others, and with as few moves as that takes. Deterministic:
//! greedy, smallest fill first, fewest common groups second (the aim of copysets, ATC'13, turned
//! round: here a dead disk's partners shall be many, so that its repair is parallel).

use std::collections::{BTreeMap, BTreeSet};

use super::{Map, Row, Seat, Server};
use crate::{
    link::Standing,
    place::{ChainVersion, ServerId},
};

/// How many replicas of each server there are, and how many groups each pair shares.
struct Tally {
    count: BTreeMap<ServerId, u64>,
    pairs: BTreeMap<(ServerId, ServerId), u64>,
}

/// The servers that keep, or are to keep, a replica of a row; not those that leave.
fn keepers(row: &Row) -> impl Iterator<Item = ServerId> {
    let seats = row.chain.iter().filter(|seat| !seat.leaving);
    seats.map(|seat| seat.server).chain(row.spare.iter().copied())
}

/// All servers that have to do with a row.
fn involved(row: &Row, server: ServerId) -> bool {
    row.seat(server).is_some() || row.spare.contains(&server)
}

fn pair(a: ServerId, b: ServerId) -> (ServerId, ServerId) {
    (a.min(b), a.max(b))
}

impl Tally {
    fn of(rows: &[Row]) -> Self {
        let mut tally = Self { count: BTreeMap::new(), pairs: BTreeMap::new() };
        for row in rows {
            let all: Vec<ServerId> = keepers(row).collect();
            for (place, server) in all.iter().enumerate() {
                tally.add(*server, &all[..place]);
            }
        }
        tally
    }

    fn add(&mut self, server: ServerId, partners: &[ServerId]) {
        *self.count.entry(server).or_default() += 1;
        for partner in partners {
            *self.pairs.entry(pair(server, *partner)).or_default() += 1;
        }
    }

    fn take(&mut self, server: ServerId, partners: &[ServerId]) {
        *self.count.entry(server).or_default() -= 1;
        for partner in partners.iter().filter(|partner| **partner != server) {
            *self.pairs.entry(pair(server, *partner)).or_default() -= 1;
        }
    }

    fn count(&self, server: ServerId) -> u64 {
        self.count.get(&server).copied().unwrap_or_default()
    }

    /// Groups that a server shares with the one of these that it shares most with, and with all.
    fn shared(&self, server: ServerId, partners: &[ServerId]) -> (u64, u64) {
        let of = |partner: &ServerId| {
            self.pairs.get(&pair(server, *partner)).copied().unwrap_or_default()
        };
        let partners = partners.iter().filter(|partner| **partner != server);
        partners.map(of).fold((0, 0), |(most, sum), n| (most.max(n), sum + n))
    }
}

/// A number that depends on both, to decide what nothing else decides.
fn lot(group: usize, server: ServerId) -> u64 {
    crate::place::chunk_hash(crate::place::Volume(server.0), group as u64)
}

impl Map {
    /// The first chains, before any server has registered.
    pub(super) fn place_first(&mut self) {
        let mut tally = Tally::of(&[]);
        for group in 0..self.rows.len() {
            let mut all: Vec<ServerId> = Vec::new();
            while all.len() < usize::from(self.replication)
                && let Some(server) = self.candidate(&tally, group, &all, |_| true)
            {
                tally.add(server, &all);
                all.push(server);
            }
            let count = self.servers.len() as u64;
            let turn = |id: &ServerId| (id.0 + count * 2 - 1 - group as u64 % count) % count;
            all.sort_by_key(turn);
            let seat = |server| Seat { server, standing: Standing::Serving, leaving: false };
            let row = &mut self.rows[group];
            row.version = ChainVersion(1);
            row.changed = 1;
            row.chain = all.into_iter().map(seat).collect();
        }
    }

    /// Gives every group as many replicas as it should have, and levels the servers.
    pub(super) fn place(&mut self) {
        let mut tally = Tally::of(&self.rows);
        for group in 0..self.rows.len() {
            self.fill(&mut tally, group);
        }
        let mut moves = 0;
        // Each move takes one replica from a server that is above its share: it ends.
        while moves < self.rows.len() * usize::from(self.replication) && self.level(&mut tally) {
            moves += 1;
        }
    }

    /// These groups may have become free to get the replicas that they lack; and once no group
    /// is on the move, the servers are levelled: what could not move earlier now may.
    pub(super) fn refill(&mut self, groups: impl Iterator<Item = usize>) {
        let wanted = usize::from(self.replication);
        let lacks =
            |group: &usize| self.rows.get(*group).is_some_and(|row| keepers(row).count() < wanted);
        let lacking: Vec<usize> = groups.filter(lacks).collect();
        if self.rows.iter().all(|row| row.is_settled(self.replication)) {
            self.place();
        } else if !lacking.is_empty() {
            let mut tally = Tally::of(&self.rows);
            for group in lacking {
                self.fill(&mut tally, group);
            }
        }
    }

    fn fill(&mut self, tally: &mut Tally, group: usize) {
        loop {
            let all: Vec<ServerId> = keepers(&self.rows[group]).collect();
            if all.len() >= usize::from(self.replication) {
                return;
            }
            let (row, servers) = (&mut self.rows[group], &self.servers);
            let may_stay = |seat: &&mut Seat| {
                seat.leaving
                    && seat.standing != Standing::Leaving
                    && servers.get(&seat.server).is_some_and(Server::takes)
            };
            // Who was to leave only to level the servers stays instead.
            if let Some(seat) = row.chain.iter_mut().find(may_stay) {
                seat.leaving = false;
                tally.add(seat.server, &all);
                continue;
            }
            let row = &self.rows[group];
            let free = |(id, server): (&ServerId, &Server)| server.takes() && !involved(row, *id);
            let Some(server) = self.candidate(tally, group, &all, free) else { return };
            tally.add(server, &all);
            self.rows[group].spare.push(server);
            self.rows[group].changed = self.version;
        }
    }

    /// The best server for one more replica beside `partners`.
    fn candidate(
        &self,
        tally: &Tally,
        group: usize,
        partners: &[ServerId],
        may: impl Fn((&ServerId, &Server)) -> bool,
    ) -> Option<ServerId> {
        let used = self.domains(partners);
        let able: Vec<(&ServerId, &Server)> = self
            .servers
            .iter()
            .filter(|(id, server)| server.weight > 0 && !partners.contains(id))
            .filter(|(id, server)| may((id, server)))
            .collect();
        let apart = |(_, server): &&(&ServerId, &Server)| !used.contains(server.domain.as_str());
        let other: Vec<_> = able.iter().filter(apart).copied().collect();
        // Copies that share a domain are better than none.
        let able = if other.is_empty() { able } else { other };
        // Those that are emptiest for their weight; among them whoever spreads partners best.
        let fill = |id: ServerId, server: &Server, more: u64| {
            (tally.count(id) + more) * (1 << 20) / u64::from(server.weight)
        };
        let least = able.iter().map(|(id, server)| fill(**id, server, 1)).min()?;
        let near = able.into_iter().filter(|(id, server)| fill(**id, server, 0) < least);
        near.min_by_key(|(id, server)| {
            let shared = tally.shared(**id, partners);
            (shared, fill(**id, server, 1), lot(group, **id))
        })
        .map(|(id, _)| *id)
    }

    /// The named failure domains of these servers.
    fn domains(&self, servers: &[ServerId]) -> BTreeSet<&str> {
        let domain = |id| self.servers.get(id).map(|server| server.domain.as_str());
        servers.iter().filter_map(domain).filter(|domain| !domain.is_empty()).collect()
    }

    /// Moves one replica from a server that has more than its share to one that has less; whether
    /// there was one to move.
    fn level(&mut self, tally: &mut Tally) -> bool {
        let fill = |id: ServerId, server: &Server, more: u64| {
            (tally.count(id) + more) * (1 << 20) / u64::from(server.weight.max(1))
        };
        let takers = || self.servers.iter().filter(|(_, server)| server.takes());
        let mut under: Vec<(u64, ServerId)> =
            takers().map(|(id, server)| (fill(*id, server, 1), *id)).collect();
        let mut over: Vec<(u64, ServerId)> =
            takers().map(|(id, server)| (fill(*id, server, 0), *id)).collect();
        under.sort_unstable();
        over.sort_unstable_by(|a, b| b.cmp(a));
        for (had, from) in over {
            for (has, to) in under.iter().take_while(|(has, _)| *has < had) {
                debug_assert!(*has < had);
                if from != *to
                    && let Some(group) = self.movable(tally, from, *to)
                {
                    self.shift(tally, group, from, *to);
                    return true;
                }
            }
        }
        false
    }

    /// The group whose replica goes best from one server to the other, if any can.
    fn movable(&self, tally: &Tally, from: ServerId, to: ServerId) -> Option<usize> {
        let mut best = None;
        for (group, row) in self.rows.iter().enumerate() {
            let settled = row.spare.iter().all(|spare| *spare == from)
                && row.chain.iter().all(|seat| !seat.leaving);
            if !settled || !involved(row, from) || involved(row, to) {
                continue;
            }
            let rest: Vec<ServerId> = keepers(row).filter(|id| *id != from).collect();
            let domain = self.servers.get(&to).map_or("", |server| server.domain.as_str());
            let rest_domains = self.domains(&rest);
            // No move brings copies together that are apart.
            if rest_domains.contains(domain) {
                continue;
            }
            let key = (tally.shared(to, &rest), lot(group, to));
            if best.is_none_or(|(least, _)| key < least) {
                best = Some((key, group));
            }
        }
        best.map(|(_, group)| group)
    }

    fn shift(&mut self, tally: &mut Tally, group: usize, from: ServerId, to: ServerId) {
        let row = &mut self.rows[group];
        let rest: Vec<ServerId> = keepers(row).filter(|id| *id != from).collect();
        tally.take(from, &rest);
        tally.add(to, &rest);
        row.spare.retain(|spare| *spare != from);
        if let Some(seat) = row.chain.iter_mut().find(|seat| seat.server == from) {
            seat.leaving = true;
        }
        row.spare.push(to);
        row.changed = self.version;
    }
}
