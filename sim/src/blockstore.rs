//! Schedules of the virtual disk: block servers, the volume map and clients, all of them the real code, in a simulated
//! world.
//!
//! The code of `blockstore` reaches clock, tasks, chance, disks and peers through `world::World` and its own traits; here
//! these are machines of an [`crate::executor::Executor`], a network of messages as bytes, and disks that lose power,
//! fail, fill and rot ([`crate::disk`]) under the real engine. [`Blockstore`] makes a schedule from a seed.

pub(crate) mod cluster;
pub(crate) mod faults;
pub(crate) mod net;
mod oracle;
mod schedule;

pub use faults::Fault;

use crate::{Error, Report, Simulation, simulation};
use schedule::Schedule;

/// How to run a schedule.
pub type Options = simulation::Options<Fault>;

/// What must hold, by name; every one is judged in the course of some hundred schedules.
pub const INVARIANTS: [&str; 9] = [
    oracle::ACKNOWLEDGED,
    oracle::FLUSHED,
    oracle::CHECKSUMS,
    oracle::STALE,
    oracle::ACTING,
    oracle::FENCED,
    oracle::HEADS,
    oracle::REGISTER,
    oracle::EQUAL,
];

/// The simulation of the virtual disk.
pub struct Blockstore;

impl Simulation for Blockstore {
    const NAME: &'static str = "blockstore";
    type Fault = Fault;

    fn faults() -> Vec<(&'static str, Fault)> {
        Fault::ALL.into_iter().map(|fault| (fault.name(), fault)).collect()
    }

    fn trace(seed: u64, options: &Options) -> (Result<Report, Error>, Vec<String>) {
        Schedule::new(seed, options).run()
    }
}
