//! What is judged of the servers, after every turn and at rest.

use std::collections::{BTreeMap, BTreeSet};

use ::blockstore::{
    map::MAIN,
    place::{ChainVersion, Group},
    store::{Store, StoreError},
};

use super::{MOST, Schedule, at};
use crate::{
    Error,
    blockstore::{
        cluster::Running,
        net::Place,
        oracle::{self, Registers, Sector, Value},
    },
    wgl::{self, Verdict},
};

/// Placements that the search for an order may try on one sector.
const BUDGET: u64 = 2_000_000;

/// What a store has in a sector; `None` if it is damaged there.
fn value(running: &Running, sector: Sector) -> Option<Value> {
    match running.engine.read(MAIN, sector, 512) {
        Ok(found) => Some(found.body.first_chunk::<8>().map_or(0, |b| u64::from_le_bytes(*b))),
        Err(StoreError::Damaged { .. } | StoreError::Stopped(_) | StoreError::Unusable(_)) => None,
    }
}

impl Schedule {
    /// After every turn.
    pub(super) fn check(&mut self) -> Result<(), Error> {
        self.steps += 1;
        if let Some((invariant, what)) = self.shared.lock().wrong.take() {
            return Err(self.violated(invariant, what));
        }
        if self.steps > MOST {
            return Err(self.stuck("it takes more turns than any schedule should".to_owned()));
        }
        let running = self.cluster.running();
        self.check_authority(&running)?;
        self.check_acknowledged(&running)
    }

    /// B3 and B5: whoever would answer a read or order a mutation now.
    fn check_authority(&mut self, running: &[(Place, Running)]) -> Result<(), Error> {
        let acting = self.cluster.map.acting();
        let mut versions: BTreeMap<Group, (Place, ChainVersion)> = BTreeMap::new();
        let mut heads: BTreeMap<Group, Place> = BTreeMap::new();
        for (id, one) in running {
            let serves = one.server.serves();
            let start = (one.server.id(), one.server.incarnation());
            if !serves.is_empty() && !acting.contains(&start) {
                let what = format!("server {id} acts, though the map has cut off {start:?}");
                return Err(self.violated(oracle::ACTING, what));
            }
            for (group, version, head) in serves {
                let (other, first) = *versions.entry(group).or_insert((*id, version));
                if first != version {
                    let what = format!(
                        "group {}: server {other} serves version {}, server {id} version {}",
                        group.0, first.0, version.0
                    );
                    return Err(self.violated(oracle::ACTING, what));
                }
                if head && let Some(other) = heads.insert(group, *id) {
                    let what = format!("servers {other} and {id} both head group {}", group.0);
                    return Err(self.violated(oracle::HEADS, what));
                }
            }
        }
        let mut shared = self.shared.lock();
        if !versions.is_empty() {
            shared.judge(oracle::ACTING);
        }
        if !heads.is_empty() {
            shared.judge(oracle::HEADS);
        }
        Ok(())
    }

    /// B1: what was acknowledged in this turn is on every member that serves the chain.
    fn check_acknowledged(&mut self, running: &[(Place, Running)]) -> Result<(), Error> {
        let acknowledged = std::mem::take(&mut self.shared.lock().acknowledged);
        if acknowledged.is_empty() {
            return Ok(());
        }
        let Some(chart) = self.cluster.chart() else { return Ok(()) };
        let now = self.now();
        for (op, _) in acknowledged {
            let group = chart.group_of(MAIN, op.sector());
            for (id, one) in running {
                let serves = one.server.serves().iter().any(|(serves, ..)| *serves == group);
                let Some(found) = value(one, op.sector()).filter(|_| serves) else { continue };
                let mut shared = self.shared.lock();
                shared.judge(oracle::ACKNOWLEDGED);
                let seen = (op.sector(), found);
                let since = now + std::time::Duration::from_nanos(1);
                // What power loss of all takes is written again by its client: it says when that was.
                let (flushed, own) = (shared.lossy, None);
                if let Some(missing) = shared.history.is_older(seen, since, (flushed, own)) {
                    drop(shared);
                    let what = format!(
                        "{}: server {id} has {found}, but {missing} was acknowledged since",
                        at(op.sector())
                    );
                    return Err(self.violated(oracle::ACKNOWLEDGED, what));
                }
            }
        }
        Ok(())
    }

    /// B1: nobody writes any more, so all members of a chain have the same.
    pub(super) fn compare(&mut self) -> Result<(), Error> {
        let Some(chart) = self.cluster.chart() else { return Ok(()) };
        let running = self.cluster.running();
        for sector in self.shared.lock().history.sectors() {
            let chain = chart.chain(chart.group_of(MAIN, sector));
            let Some(chain) = chain.filter(|chain| chain.equal) else { continue };
            let member = |id: Place| chain.members.iter().any(|member| member.server.0 == id);
            let members = running.iter().filter(|(id, _)| member(*id));
            let found: BTreeMap<Place, Value> =
                members.filter_map(|(id, one)| Some((*id, value(one, sector)?))).collect();
            if found.values().collect::<BTreeSet<_>>().len() > 1 {
                return Err(self.violated(oracle::EQUAL, format!("{}: {found:?}", at(sector))));
            }
        }
        self.shared.lock().judge(oracle::EQUAL);
        Ok(())
    }

    /// Where nothing can be lost, each sector is one register.
    pub(super) fn judge_history(&mut self) -> Result<(), Error> {
        if self.lossy {
            return Ok(());
        }
        let mut shared = self.shared.lock();
        let history = shared.history.operations();
        shared.judge(oracle::REGISTER);
        shared.report.count("operations judged", history.len() as u64);
        let unknown =
            |op: &&wgl::Operation<_, _>| matches!(op.outcome, wgl::Outcome::Unknown { .. });
        let unknown = history.iter().filter(unknown).count() as u64;
        shared.report.count("with unknown outcome", unknown);
        drop(shared);
        match wgl::check(&Registers, &history, BUDGET) {
            Verdict::Linearizable { .. } => Ok(()),
            Verdict::Violated { report } => Err(self.violated(oracle::REGISTER, report)),
            Verdict::Exhausted { key } => {
                let what = format!("the search for an order at {key} was given up");
                Err(self.violated(oracle::REGISTER, what))
            }
        }
    }
}
