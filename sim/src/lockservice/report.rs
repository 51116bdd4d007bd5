//! What schedules of the lock service did, in numbers that add up.

use std::collections::BTreeMap;

use crate::Sum;

/// What schedules did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Plain numbers, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant had something to judge.
    pub judged: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Counts this.
    pub(super) fn count(&mut self, what: &'static str, times: u64) {
        *self.counts.entry(what).or_default() += times;
    }
}

impl Sum for Report {
    fn add(&mut self, other: &Self) {
        for (own, more) in [
            (&mut self.counts, &other.counts),
            (&mut self.faults, &other.faults),
            (&mut self.judged, &other.judged),
        ] {
            for (name, n) in more {
                *own.entry(name).or_default() += n;
            }
        }
    }

    fn numbers(&self) -> Vec<(&'static str, u64)> {
        self.counts.iter().map(|(name, n)| (*name, *n)).collect()
    }

    fn faults(&self) -> &BTreeMap<&'static str, u64> {
        &self.faults
    }

    fn judged(&self) -> &BTreeMap<&'static str, u64> {
        &self.judged
    }
}
