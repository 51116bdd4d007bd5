//! Schedules of a `raft` group: one to five members, clients, and faults.
//!
//! [`run`] makes one from a seed and [`Report`] adds up what many of them did. The driver in `member` keeps the contract
//! of the room `raft` exactly as a host must, with a disk that forgets what was not synced.

mod disk;
mod faults;
mod machine;
mod member;
mod net;
mod schedule;

use std::collections::BTreeMap;

pub use disk::Disk;
pub use faults::Fault;
pub use machine::Machine;
pub use member::Member;

use crate::Error;
use schedule::Schedule;

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
    /// How often each kind of fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// How often each invariant had something to judge.
    pub judged: BTreeMap<&'static str, u64>,
}

impl Report {
    /// Adds another report to this one.
    pub fn add(&mut self, other: &Self) {
        self.schedules += other.schedules;
        self.events += other.events;
        self.acknowledged += other.acknowledged;
        self.answered += other.answered;
        self.elected += other.elected;
        self.installed += other.installed;
        for (name, n) in &other.faults {
            *self.faults.entry(name).or_default() += n;
        }
        for (name, n) in &other.judged {
            *self.judged.entry(name).or_default() += n;
        }
    }
}

/// Runs the schedule of this seed.
///
/// # Errors
/// The first invariant that was violated, or that the group was stuck after healing, or that too little happened.
pub fn run(seed: u64) -> Result<Report, Error> {
    Schedule::new(seed, None).run().0
}

/// Runs the schedule of this seed and gives the last `lines` of what happened.
pub fn trace(seed: u64, lines: usize) -> (Result<Report, Error>, Vec<String>) {
    Schedule::new(seed, Some(lines)).run()
}
