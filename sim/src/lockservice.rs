//! The lock service under faults: its real servers, clerks and registry clients on real consensus groups.
//!
//! A schedule has three or five coordinators and three to six clients on one [`executor`](crate::executor). Below each
//! coordinator is a member of a simulated group ([`crate::raft`]), which replicates the lock table; beside it runs
//! [`lockservice::Server`] as it is. Each client runs a [`lockservice::Clerk`] as it is, and in its place of a file system a
//! cache of values that it writes to a shared store, with a log that whoever recovers it replays. Clocks drift, messages
//! are late, lost, repeated and cut off, members crash and are partitioned, clients are frozen and killed, and a deposed
//! leader goes on believing. In half of the schedules there are two or three shards (`shards`), and lock groups move
//! between them.
//!
//! After every step the invariants L1 to L5 of the locks are judged by name, and those of consensus; at the end everything
//! is healed, and then every waiter must get its lock and every dead session be recovered. The histories of grants and of
//! the registry are judged for linearizability.

mod check;
mod claims;
mod client;
mod engine;
mod history;
mod machine;
mod net;
mod schedule;
mod shards;
mod store;
mod work;

use crate::{
    Error, Report, Simulation,
    raft::{Fault, Options},
};

/// The simulation of the lock service. Its faults are those of the group below it.
pub struct Lockservice;

impl Simulation for Lockservice {
    const NAME: &'static str = "lockservice";
    type Fault = Fault;

    fn faults() -> Vec<(&'static str, Fault)> {
        Fault::ALL.into_iter().map(|fault| (fault.name(), fault)).collect()
    }

    fn trace(seed: u64, options: &Options) -> (Result<Report, Error>, Vec<String>) {
        schedule::Schedule::new(seed, options).run()
    }
}
