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
    /// Everything on a link arrives late for a while, in order.
    Lag,
    /// A message arrives after one that was sent later. Comes of itself.
    Reorder,
    /// A message between two parts of the group is lost, both ways.
    Partition,
    /// A message is lost in one direction, while the other works.
    OneWay,
    /// A link goes down and comes back, many times.
    Flap,
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
    /// A chunk of a checkpoint is spoiled on its way to the disk.
    SpoiledChunk,
    /// A member comes back with an empty disk, and knows it.
    EmptyDisk,
    /// The clocks of the members run at different speeds. Counts once a schedule.
    Drift,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::Loss,
        Self::Duplicate,
        Self::Delay,
        Self::Lag,
        Self::Reorder,
        Self::Partition,
        Self::OneWay,
        Self::Flap,
        Self::Crash,
        Self::LostWrites,
        Self::PowerLoss,
        Self::Pause,
        Self::SlowDisk,
        Self::SpoiledChunk,
        Self::EmptyDisk,
        Self::Drift,
    ];

    /// Those that are switched on.
    const CHOSEN: [Self; 13] = [
        Self::Loss,
        Self::Duplicate,
        Self::Delay,
        Self::Lag,
        Self::Partition,
        Self::OneWay,
        Self::Flap,
        Self::Crash,
        Self::PowerLoss,
        Self::Pause,
        Self::SlowDisk,
        Self::SpoiledChunk,
        Self::EmptyDisk,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Duplicate => "duplicate",
            Self::Delay => "delay",
            Self::Lag => "lag",
            Self::Reorder => "reorder",
            Self::Partition => "partition",
            Self::OneWay => "one-way partition",
            Self::Flap => "flapping link",
            Self::Crash => "crash",
            Self::LostWrites => "lost writes",
            Self::PowerLoss => "power loss",
            Self::Pause => "pause",
            Self::SlowDisk => "slow disk",
            Self::SpoiledChunk => "spoiled chunk",
            Self::EmptyDisk => "emptied disk",
            Self::Drift => "clock drift",
        }
    }
}

/// How often each kind struck.
#[derive(Debug, Default)]
pub(crate) struct Struck(BTreeMap<Fault, u64>);

impl Struck {
    pub(crate) fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// Kinds that struck, without the one that is always there.
    pub(crate) fn kinds(&self) -> usize {
        self.0.keys().filter(|f| **f != Fault::Reorder).count()
    }

    pub(crate) fn named(&self) -> BTreeMap<&'static str, u64> {
        self.0.iter().map(|(f, n)| (f.name(), *n)).collect()
    }
}

/// The kinds that a schedule has. A group of one has no network, and a disk may be emptied only in a group that
/// outlives it and stays as it is.
pub(crate) fn choose(dice: &mut Dice, voters: usize, moves: bool) -> Vec<Fault> {
    let alone = [Fault::Crash, Fault::PowerLoss, Fault::Pause, Fault::SlowDisk];
    if voters == 1 && !moves {
        return alone.to_vec();
    }
    let empties = voters >= 3 && !moves;
    loop {
        let wanted = |fault: &Fault| {
            let any = dice.chance(50) && (*fault != Fault::EmptyDisk || empties);
            // One alone may stay so for long.
            any || (voters == 1 && alone.contains(fault))
        };
        let chosen: Vec<Fault> = Fault::CHOSEN.into_iter().filter(wanted).collect();
        // These seldom find something to spoil.
        let rare = [Fault::SpoiledChunk, Fault::EmptyDisk];
        if chosen.iter().filter(|fault| !rare.contains(fault)).count() >= 4 {
            return chosen;
        }
    }
}
