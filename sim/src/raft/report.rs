//! What schedules did, in numbers that add up.

use std::collections::BTreeMap;

use crate::{check::Seen, simulation::Sum};

/// What schedules did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many schedules ran.
    pub schedules: u64,
    /// Events that members handled.
    pub events: u64,
    /// Commands acknowledged.
    pub acknowledged: u64,
    /// Reads answered.
    pub answered: u64,
    /// Leaders elected.
    pub elected: u64,
    /// Checkpoints taken over from a leader.
    pub installed: u64,
    /// Changes of the group that were reported done.
    pub changed: u64,
    /// Leaders that handed leadership on.
    pub transferred: u64,
    /// Histories that were judged for linearizability.
    pub histories: u64,
    /// Operations in them.
    pub operations: u64,
    /// Of these, operations whose answer was lost.
    pub unknown: u64,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant had something to judge.
    pub judged: BTreeMap<&'static str, u64>,
}

impl Report {
    fn numbers_mut(&mut self) -> [&mut u64; 11] {
        [
            &mut self.schedules,
            &mut self.events,
            &mut self.acknowledged,
            &mut self.answered,
            &mut self.elected,
            &mut self.installed,
            &mut self.changed,
            &mut self.transferred,
            &mut self.histories,
            &mut self.operations,
            &mut self.unknown,
        ]
    }

    /// Counts what came out of one step.
    pub(crate) fn count(&mut self, seen: &Seen) {
        self.acknowledged += seen.acknowledged.len() as u64;
        self.answered += seen.answered.len() as u64;
        self.installed += u64::from(seen.restored.is_some());
        self.changed += seen.changed;
        self.transferred += seen.transferred;
    }
}

impl Sum for Report {
    fn add(&mut self, other: &Self) {
        for (own, more) in self.numbers_mut().into_iter().zip(other.numbers()) {
            *own += more.1;
        }
        for (name, n) in &other.faults {
            *self.faults.entry(name).or_default() += n;
        }
        for (name, n) in &other.judged {
            *self.judged.entry(name).or_default() += n;
        }
    }

    fn numbers(&self) -> Vec<(&'static str, u64)> {
        vec![
            ("schedules", self.schedules),
            ("events", self.events),
            ("commands acknowledged", self.acknowledged),
            ("reads answered", self.answered),
            ("leaders elected", self.elected),
            ("checkpoints installed", self.installed),
            ("changes of the group", self.changed),
            ("transfers of leadership", self.transferred),
            ("histories judged", self.histories),
            ("operations in them", self.operations),
            ("with unknown outcome", self.unknown),
        ]
    }

    fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    fn judged(&self) -> &BTreeMap<&'static str, u64> {
        &self.judged
    }
}
