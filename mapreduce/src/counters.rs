//! Counters of a job: numbers by group and name that only grow, summed over the attempts that count. The group and
//! the names of what the framework counts are Hadoop's. Who counts is not known here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::proto;

/// Counters that one job may have; more are dropped, for they come from its programs.
const COUNTERS_MAX: usize = 1000;
/// Bytes of a group or name.
const NAME_MAX: usize = 256;

/// The group of what the framework counts.
pub(crate) const FRAMEWORK: &str = "Map-Reduce Framework";
/// The group of what was read and written.
pub(crate) const BYTES: &str = "File System Counters";

/// The group of what the scheduler counts.
pub(crate) const JOB: &str = "Job Counters";

/// The names in [`FRAMEWORK`].
pub(crate) mod name {
    pub(crate) const MAP_INPUT_RECORDS: &str = "Map input records";
    pub(crate) const MAP_OUTPUT_RECORDS: &str = "Map output records";
    pub(crate) const MAP_OUTPUT_BYTES: &str = "Map output bytes";
    pub(crate) const MATERIALIZED_BYTES: &str = "Map output materialized bytes";
    pub(crate) const COMBINE_INPUT: &str = "Combine input records";
    pub(crate) const COMBINE_OUTPUT: &str = "Combine output records";
    pub(crate) const SPILLED: &str = "Spilled Records";
    pub(crate) const SHUFFLED_BYTES: &str = "Reduce shuffle bytes";
    pub(crate) const REDUCE_GROUPS: &str = "Reduce input groups";
    pub(crate) const REDUCE_RECORDS: &str = "Reduce input records";
    pub(crate) const OUTPUT_RECORDS: &str = "Reduce output records";
    pub(crate) const SKIPPED: &str = "Map skipped records";
    /// In [`super::JOB`]: attempts of maps that began on a machine that keeps their input.
    pub(crate) const LOCAL_MAPS: &str = "Data-local map tasks";
    /// In [`super::JOB`]: those that began elsewhere, although another worker is on such a machine.
    pub(crate) const REMOTE_MAPS: &str = "Remote map tasks";
    /// In [`super::JOB`]: bytes of splits that the machine of the attempt that counts keeps.
    pub(crate) const LOCAL_BYTES: &str = "Data-local bytes";
    /// In [`super::JOB`]: the others, of splits of which it is known where they are.
    pub(crate) const REMOTE_BYTES: &str = "Remote bytes";
    /// In [`super::BYTES`].
    pub(crate) const BYTES_READ: &str = "Bytes read";
    /// In [`super::BYTES`].
    pub(crate) const BYTES_WRITTEN: &str = "Bytes written";
    /// In [`super::BYTES`].
    pub(crate) const FILES_READ: &str = "Files read";
}

/// Counters by group and name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Counters {
    groups: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Counters {
    /// What a counter stands at; 0 if it was never counted.
    #[must_use]
    pub fn get(&self, group: &str, name: &str) -> u64 {
        self.groups.get(group).and_then(|names| names.get(name)).copied().unwrap_or(0)
    }

    /// What the framework counted under `name`.
    #[must_use]
    pub fn framework(&self, name: &str) -> u64 {
        self.get(FRAMEWORK, name)
    }

    /// Input bytes read by maps.
    #[must_use]
    pub fn input_bytes(&self) -> u64 {
        self.get(BYTES, name::BYTES_READ)
    }

    /// All of them, by group and name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.groups.iter().flat_map(|(group, names)| {
            names.iter().map(move |(name, value)| (group.as_str(), name.as_str(), *value))
        })
    }

    pub(crate) fn add(&mut self, group: &str, name: &str, amount: u64) {
        if let Some(value) = self.groups.get_mut(group).and_then(|names| names.get_mut(name)) {
            *value = value.saturating_add(amount);
            return;
        }
        let known: usize = self.groups.values().map(BTreeMap::len).sum();
        if known >= COUNTERS_MAX {
            return;
        }
        let names = self.groups.entry(cut(group).to_owned()).or_default();
        let value = names.entry(cut(name).to_owned()).or_default();
        *value = value.saturating_add(amount);
    }

    pub(crate) fn count(&mut self, name: &str, amount: u64) {
        if amount > 0 {
            self.add(FRAMEWORK, name, amount);
        }
    }

    pub(crate) fn merge(&mut self, more: &Self) {
        for (group, name, value) in more.iter() {
            self.add(group, name, value);
        }
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=NAME_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

impl From<&Counters> for proto::Counters {
    fn from(counters: &Counters) -> Self {
        let counter = |(group, name, value): (&str, &str, u64)| proto::Counter {
            group: group.to_owned(),
            name: name.to_owned(),
            value,
        };
        Self { counters: counters.iter().map(counter).collect() }
    }
}

impl From<&proto::Counters> for Counters {
    fn from(counters: &proto::Counters) -> Self {
        let mut all = Self::default();
        for counter in &counters.counters {
            all.add(&counter.group, &counter.name, counter.value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNTERS_MAX, Counters, NAME_MAX};
    use crate::proto;

    #[test]
    fn counters_add_up_and_survive_the_wire() {
        let mut counters = Counters::default();
        counters.add("g", "a", 2);
        counters.add("g", "a", 3);
        counters.add("h", "a", u64::MAX);
        counters.add("h", "a", 1);
        let back = Counters::from(&proto::Counters::from(&counters));
        assert_eq!(back, counters);
        let mut twice = counters.clone();
        twice.merge(&back);
        assert_eq!(
            (twice.get("g", "a"), twice.get("h", "a"), twice.get("x", "y")),
            (10, u64::MAX, 0)
        );
    }

    #[test]
    fn a_program_cannot_flood_the_job_with_counters_or_long_names() {
        let mut counters = Counters::default();
        for number in 0..3000 {
            counters.add("g", &format!("{number}{}", "\u{e9}".repeat(400)), 1);
        }
        assert_eq!(counters.iter().count(), COUNTERS_MAX);
        assert!(counters.iter().all(|(_, name, _)| name.len() <= NAME_MAX));
    }
}
