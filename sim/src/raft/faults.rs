//! The kinds of faults, which of them a schedule has, and how often each struck.
//!
//! A fault counts when it *did* something: a message was dropped, a write was lost; not when it was merely switched on.

use std::collections::BTreeMap;

use crate::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A message is lost.
    Loss,
    /// A message arrives twice.
    Duplicate,
    /// A message arrives very late.
    Delay,
    /// A message arrives after one that was sent later. Comes of itself.
    Reorder,
    /// A message between two parts of the group is lost, both ways.
    Partition,
    /// A message is lost in one direction, while the other works.
    OneWay,
    /// A member stops, and starts again later.
    Crash,
    /// A crash loses unsynced writes. Comes with crashes.
    LostWrites,
    /// All members stop at once.
    PowerLoss,
    /// A member does nothing for a while; its clock goes on.
    Pause,
    /// A sync takes long.
    SlowDisk,
    /// The clocks of the members run at different speeds. Counts once a schedule.
    Drift,
}

impl Fault {
    /// Those that are switched on.
    pub(super) const CHOSEN: [Self; 9] = [
        Self::Loss,
        Self::Duplicate,
        Self::Delay,
        Self::Partition,
        Self::OneWay,
        Self::Crash,
        Self::PowerLoss,
        Self::Pause,
        Self::SlowDisk,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Reorder => "reorder",
            Self::Partition => "partition",
            Self::OneWay => "one-way partition",
            Self::Crash => "crash",
            Self::LostWrites => "lost writes",
            Self::PowerLoss => "power loss",
            Self::Pause => "pause",
            Self::SlowDisk => "slow disk",
            Self::Drift => "clock drift",
        }
    }
}

/// How often each kind struck.
#[derive(Debug, Default)]
pub(super) struct Struck(BTreeMap<Fault, u64>);

impl Struck {
    pub(super) fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// Kinds that struck, without the one that is always there.
    pub(super) fn kinds(&self) -> usize {
        self.0.keys().filter(|f| **f != Fault::Reorder).count()
    }

    pub(super) fn named(&self) -> BTreeMap<&'static str, u64> {
        self.0.iter().map(|(f, n)| (f.name(), *n)).collect()
    }
}

/// The kinds that a schedule has; a group of one has no network.
pub(super) fn choose(dice: &mut Dice, members: usize) -> Vec<Fault> {
    if members == 1 {
        return vec![Fault::Crash, Fault::PowerLoss, Fault::Pause, Fault::SlowDisk];
    }
    loop {
        let chosen: Vec<Fault> =
            Fault::CHOSEN.iter().copied().filter(|_| dice.chance(55)).collect();
        if chosen.len() >= 4 {
            return chosen;
        }
    }
}
