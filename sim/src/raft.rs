//! Schedules of a `raft` group: one to seven members, clients, an operator, and faults.
//!
//! [`Raft`] makes one from a seed. The driver in `member` keeps the contract
//! of the room `raft` exactly as a host must, with a disk that forgets what was not synced. Clients use a small
//! key-value machine through sessions; their histories are judged in the end.

mod command;
mod disk;
pub(crate) mod faults;
pub(crate) mod group;
mod harm;
mod machine;
pub(crate) mod member;
pub(crate) mod net;
mod schedule;
mod store;
pub mod timing;

pub use command::{Command, Reply, Request, Step, Value};
pub use disk::Disk;
pub use faults::Fault;
pub use machine::{Applied, Machine, StateMachine};
pub use member::Member;
pub use store::{History, Store};

use crate::{Error, Report, Simulation, simulation};
use schedule::Schedule;
pub(crate) use schedule::members;

/// How to run a schedule.
pub type Options = simulation::Options<Fault>;

/// The simulation of a group.
pub struct Raft;

impl Simulation for Raft {
    const NAME: &'static str = "raft";
    type Fault = Fault;

    fn faults() -> Vec<(&'static str, Fault)> {
        Fault::ALL.into_iter().map(|fault| (fault.name(), fault)).collect()
    }

    fn trace(seed: u64, options: &Options) -> (Result<Report, Error>, Vec<String>) {
        Schedule::new(seed, options).run()
    }
}
