//! What schedules of the virtual disk did, in numbers that add up.

use std::collections::BTreeMap;

use crate::simulation::Sum;

/// What schedules did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// How many schedules ran.
    pub schedules: u64,
    /// Those of them in which all servers might lose power at once.
    pub lossy: u64,
    /// Turns of tasks.
    pub events: u64,
    /// Sectors written, or discarded, and acknowledged.
    pub acknowledged: u64,
    /// Sectors read.
    pub read: u64,
    /// Flushes done.
    pub flushes: u64,
    /// Sessions fenced.
    pub fenced: u64,
    /// Operations in histories that were judged.
    pub operations: u64,
    /// Of these, operations whose outcome is not known.
    pub unknown: u64,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant had something to judge.
    pub judged: BTreeMap<&'static str, u64>,
}

impl Report {
    fn numbers_mut(&mut self) -> [&mut u64; 9] {
        [
            &mut self.schedules,
            &mut self.lossy,
            &mut self.events,
            &mut self.acknowledged,
            &mut self.read,
            &mut self.flushes,
            &mut self.fenced,
            &mut self.operations,
            &mut self.unknown,
        ]
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
            ("with power loss of all", self.lossy),
            ("events", self.events),
            ("sectors written", self.acknowledged),
            ("sectors read", self.read),
            ("flushes", self.flushes),
            ("sessions fenced", self.fenced),
            ("operations judged", self.operations),
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
