//! Whole jobs with real workers, in this process and over sockets: what they make, also when a worker or the coordinator
//! is lost.
#![expect(clippy::unwrap_used, reason = "tests")]

mod early;
mod failover;
mod harness;
mod history;
mod memory;
mod near;
mod urn;
mod wordcount;
