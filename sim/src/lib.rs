//! The `sim` room: whole groups and clusters under one seed.
//!
//! A schedule is a run of a real machine of another room, with a simulated network, simulated disks and simulated time,
//! all drawn from one seed, while faults strike. After every step the invariants of [`check`] are checked by name; at
//! the end all faults are healed, and progress is demanded. The same seed gives the same run, so a failure is one line
//! to replay. Nobody depends on this room; it knows no arguments and prints nothing (the binary does).
//!
//! It simulates `raft` groups ([`mod@raft`]); on them the lock service with its servers and clerks ([`mod@lockservice`]); the
//! virtual disk ([`mod@blockstore`]); and whole clusters, with file-system clients ([`cluster`]). The tasks of all but the
//! first run on machines without an operating system ([`executor`]), with disks that fail ([`disk`]). Histories of
//! clients, of whatever machine, are judged by [`wgl`].
//! Real processes are given disks that lose power by [`faulty`].

mod agenda;
pub mod blockstore;
pub mod check;
pub mod cluster;
pub mod dice;
pub mod disk;
pub mod executor;
pub mod faulty;
pub mod lockservice;
pub mod raft;
mod simulation;
pub mod wgl;

pub use simulation::{Options, Report, Simulation, Tally};

/// Why a schedule failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An invariant does not hold.
    #[error("seed {seed}, step {step}: {invariant} is violated: {what}")]
    Violated {
        /// The seed of the schedule.
        seed: u64,
        /// The step after which it was seen.
        step: u64,
        /// The name of the invariant.
        invariant: &'static str,
        /// What was seen.
        what: String,
    },
    /// The group made no progress after everything was healed.
    #[error("seed {seed}, step {step}: no progress after healing: {what}")]
    Stuck {
        /// The seed of the schedule.
        seed: u64,
        /// The last step.
        step: u64,
        /// What was waited for.
        what: String,
    },
    /// The schedule proved nothing: too few events or too few kinds of faults.
    #[error("seed {seed}: a tame schedule: {events} events, {kinds} kinds of faults")]
    Tame {
        /// The seed of the schedule.
        seed: u64,
        /// Events handled.
        events: u64,
        /// Kinds of faults that struck.
        kinds: usize,
    },
}

impl Error {
    /// The name of what was not kept.
    #[must_use]
    pub fn invariant(&self) -> &'static str {
        match self {
            Self::Violated { invariant, .. } => invariant,
            Self::Stuck { .. } => "liveness after healing",
            Self::Tame { .. } => "faults that strike",
        }
    }
}
