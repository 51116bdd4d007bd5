//! The kinds of faults of a schedule of the virtual disk, and how often each struck.
//!
//! A fault counts when it *did* something: a message was dropped, a write was lost; not when it was merely switched on.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;

use crate::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A message is lost.
    Loss,
    /// A message arrives very late.
    Delay,
    /// A message arrives twice.
    Duplicate,
    /// A message between two servers, or a client and a server, is lost both ways.
    Partition,
    /// A message is lost in one direction, while the other works.
    OneWay,
    /// A server cannot reach the volume map.
    MapPartition,
    /// The coordinator that leads the map loses its memory of leases, as when another is elected.
    NewLeader,
    /// A server's process dies; its disk keeps what was written.
    Crash,
    /// Two servers' processes die at once.
    DoubleCrash,
    /// A server is stopped in order, and started again.
    CleanStop,
    /// A server loses power.
    PowerLoss,
    /// A server loses power in the middle of a write or sync of its disk.
    PowerCut,
    /// All servers lose power at once.
    PowerLossOfAll,
    /// Unsynced sectors are lost. Comes with power losses.
    LostWrites,
    /// Some unsynced sectors are lost and others are not. Comes with power losses.
    TornWrites,
    /// A server does nothing for a while; its clock goes on.
    Pause,
    /// Work on a server's disk takes long.
    SlowDisk,
    /// A sync fails.
    FailedSync,
    /// A disk has no space left for a while.
    FullDisk,
    /// A stored bit flips.
    BitRot,
    /// A write lands in the wrong place.
    Misdirected,
    /// Servers are added, drained and removed.
    Operator,
    /// The clocks run at different speeds. Counts once a schedule.
    Drift,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 23] = [
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::Partition,
        Self::OneWay,
        Self::MapPartition,
        Self::NewLeader,
        Self::Crash,
        Self::DoubleCrash,
        Self::CleanStop,
        Self::PowerLoss,
        Self::PowerCut,
        Self::PowerLossOfAll,
        Self::LostWrites,
        Self::TornWrites,
        Self::Pause,
        Self::SlowDisk,
        Self::FailedSync,
        Self::FullDisk,
        Self::BitRot,
        Self::Misdirected,
        Self::Operator,
        Self::Drift,
    ];

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Duplicate => "duplicate",
            Self::Partition => "partition",
            Self::OneWay => "one-way partition",
            Self::MapPartition => "partition from the map",
            Self::NewLeader => "new leader of the map",
            Self::Crash => "crash",
            Self::DoubleCrash => "crash of two",
            Self::CleanStop => "clean stop",
            Self::PowerLoss => "power loss",
            Self::PowerCut => "power cut in an operation",
            Self::PowerLossOfAll => "power loss of all",
            Self::LostWrites => "lost writes",
            Self::TornWrites => "torn writes",
            Self::Pause => "pause",
            Self::SlowDisk => "slow disk",
            Self::FailedSync => "failed sync",
            Self::FullDisk => "full disk",
            Self::BitRot => "bit rot",
            Self::Misdirected => "misdirected write",
            Self::Operator => "servers come and go",
            Self::Drift => "clock drift",
        }
    }

    /// Whether a server may lose what it had in memory, or be silent for so long that it is cut off.
    pub(crate) fn is_risky(self) -> bool {
        !matches!(
            self,
            Self::Duplicate | Self::SlowDisk | Self::BitRot | Self::Misdirected | Self::NewLeader
        )
    }
}

/// Those that a schedule can strike with.
const STRIKES: [Fault; 20] = [
    Fault::Loss,
    Fault::Delay,
    Fault::Duplicate,
    Fault::Partition,
    Fault::OneWay,
    Fault::MapPartition,
    Fault::NewLeader,
    Fault::Crash,
    Fault::DoubleCrash,
    Fault::CleanStop,
    Fault::PowerLoss,
    Fault::PowerCut,
    Fault::PowerLossOfAll,
    Fault::Pause,
    Fault::SlowDisk,
    Fault::FailedSync,
    Fault::FullDisk,
    Fault::BitRot,
    Fault::Misdirected,
    Fault::Operator,
];

/// The kinds that a schedule has. Where all may lose power, what was not flushed may be lost.
pub(crate) fn choose(dice: &mut Dice, lossy: bool) -> Vec<Fault> {
    let wanted = |fault: &Fault| match fault {
        Fault::PowerLossOfAll => lossy,
        _ => dice.chance(40),
    };
    let mut chosen: Vec<Fault> = STRIKES.into_iter().filter(wanted).collect();
    for fault in [Fault::Crash, Fault::PowerLoss, Fault::Pause] {
        if chosen.len() < 6 && !chosen.contains(&fault) {
            chosen.push(fault);
        }
    }
    chosen
}

/// How often each kind struck. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Struck(Arc<Mutex<BTreeMap<Fault, u64>>>);

impl Struck {
    pub(crate) fn add(&self, fault: Fault) {
        *self.0.lock().entry(fault).or_default() += 1;
    }

    /// Whether this kind struck.
    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.0.lock().contains_key(&fault)
    }

    /// How many kinds struck.
    pub(crate) fn kinds(&self) -> usize {
        self.0.lock().len()
    }

    pub(crate) fn named(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().iter().map(|(fault, n)| (fault.name(), *n)).collect()
    }
}
