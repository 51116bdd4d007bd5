//! Schedules of whole clusters: block servers with their engines and disks, the volume map, the lock service and several
//! file-system clients, all of them the real code, in a simulated world. The sockets are missing, and the kernel is one
//! that only keeps and forgets.
//!
//! Clients work on a handful of files while faults strike: clients, servers and the coordinator are killed, frozen and cut
//! off, messages are lost, late and repeated, clocks drift, the power of all goes. Then everything is healed, every
//! client must come to an end, and a new one must find every file. What must hold is judged by `check`, one invariant
//! a file. The coordinator is one that forgets its leases; that several agree on its state
//! is shown elsewhere ([`mod@crate::raft`]).

mod check;
mod faults;
mod judge;
mod locks;
mod mount;
mod notes;
mod schedule;
mod told;
mod view;
mod work;

pub use faults::Fault;

use crate::simulation::{self, Simulation};
use crate::{Error, Report};
use schedule::Schedule;

/// How to run a schedule.
pub type Options = simulation::Options<Fault>;

/// What must hold, by name.
pub const INVARIANTS: [&str; 6] = [
    check::locks::NAME,
    check::synced::NAME,
    check::whole::NAME,
    check::atomic::NAME,
    check::latest::NAME,
    check::foreign::NAME,
];

/// What schedules are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// Everything.
    Cluster,
    /// The file system: one block server that loses no more than power, so more happens in the same time.
    Files,
}

/// The simulation of whole clusters.
pub struct Cluster;

/// The simulation of file-system clients on one block server.
pub struct Files;

fn named_faults(scope: Scope) -> Vec<(&'static str, Fault)> {
    let all = Fault::ALL.into_iter().filter(|fault| fault.is_of(scope));
    all.map(|fault| (fault.name(), fault)).collect()
}

impl Simulation for Cluster {
    const NAME: &'static str = "cluster";
    type Fault = Fault;

    fn faults() -> Vec<(&'static str, Fault)> {
        named_faults(Scope::Cluster)
    }

    fn trace(seed: u64, options: &Options) -> (Result<Report, Error>, Vec<String>) {
        Schedule::new(seed, Scope::Cluster, options).run()
    }
}

impl Simulation for Files {
    const NAME: &'static str = "fs";
    type Fault = Fault;

    fn faults() -> Vec<(&'static str, Fault)> {
        named_faults(Scope::Files)
    }

    fn trace(seed: u64, options: &Options) -> (Result<Report, Error>, Vec<String>) {
        Schedule::new(seed, Scope::Files, options).run()
    }
}
