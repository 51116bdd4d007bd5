//! What clients build from the registry: membership, election, mutual exclusion, a read/write
//! lock, a double barrier, configuration with a ready node, and a counter. Each is a few calls;
//! ZooKeeper's paper (Hunt et al., ATC'10, section 2.4) has most of them.
//!
//! All wait with a deadline, and whoever waits in a line watches only the one before it, so that
//! one departure wakes one client and not the herd. What a recipe holds ends with the session.

mod barrier;
mod config;
mod counter;
mod election;
mod line;
mod members;
mod mutex;
mod read_write;

#[cfg(test)]
mod tests;

pub use barrier::DoubleBarrier;
pub use config::Configuration;
pub use counter::Counter;
pub use election::{Candidate, Election};
pub use line::Place;
pub use members::Members;
pub use mutex::Mutex;
pub use read_write::ReadWriteLock;
