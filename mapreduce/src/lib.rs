//! The `mapreduce` room: jobs over files of the file system, as the MapReduce paper describes them.
//!
//! A job is cut in map tasks by pieces of its input and in reduce tasks by partitions of its keys. Workers run
//! them: they read through the file-system library, keep map output on local disk, hand it to the reducers and
//! write the result under temporary names that are renamed when whole. A coordinator, in the
//! process that submits the job, schedules by a pure machine and runs again what failed.
//!
//! It knows no locks' internals, no Raft, no FUSE and nothing of how blocks are kept.

mod client;
mod error;
mod fetch;
mod files;
mod job;
mod map;
mod peers;
mod plan;
mod progress;
mod reduce;
mod run;
mod scheduler;
mod service;
mod store;
mod tally;
mod words;
mod worker;

/// The generated language of the wire.
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    dead_code,
    clippy::all,
    clippy::wildcard_imports,
    clippy::allow_attributes_without_reason,
    clippy::needless_pass_by_value,
    clippy::too_many_lines,
    reason = "generated code is not held to the house rules"
)]
mod proto {
    tonic::include_proto!("plumeria.mapreduce");
}

pub use error::Error;
pub use files::{Files, Line, Stat};
pub use job::{JobKind, JobSpec, Summary, run};
pub use peers::{Peers, Place};
pub use progress::{Counters, Phase, Progress};
pub use service::{Server, server};
pub use worker::{Config, Worker};
