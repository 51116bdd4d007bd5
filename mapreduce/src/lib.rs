//! The `mapreduce` room: jobs over files of the file system, as the MapReduce paper describes them.
//!
//! A job is cut in map tasks by pieces of its input and in reduce tasks by partitions of its keys. Workers run
//! them: they read through the file-system library, keep map output on local disk, hand it to the reducers and
//! write the result under temporary names that are renamed when whole. A coordinator, at first
//! the process that submits the job, schedules by a pure machine and runs again what failed; it journals all that the
//! machine is told, and a worker that replays the journal takes its place when it is lost.
//!
//! It knows no locks' internals, no Raft, no FUSE and nothing of how blocks are kept.

mod api;
mod client;
mod counters;
mod error;
mod failover;
mod files;
mod history;
mod input;
mod job;
mod known;
mod local;
mod native;
mod page;
mod peers;
mod progress;
mod scheduler;
mod service;
mod shuffle;
mod slots;
mod spec;
mod store;
mod streaming;
mod task;
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

pub use api::{
    Combiner, Datum, Definition, Delimited, Each, Emitter, Fixed, InputFormat, Job, Key,
    KeyValueLines, Lines, Make, Mapper, NextValue, OutputFormat, Partitioner, Programs, Raw,
    Record, Reducer, Scratch, Text, TextLines, Total, Values, WholeFile,
};
pub use counters::Counters;
pub use error::Error;
pub use failover::ballots::{Ballots, Candidacy, Term};
pub use files::{Files, Line, Stat};
pub use input::record::Rule;
pub use job::{Cluster, Crew, Submission, Summary, Upload, Watch, run, upload_path};
pub use known::{Known, Log, find, history, jobs, kill, logs};
pub use local::{LocalFiles, crew, run_local};
pub use page::Page;
pub use peers::{Peers, Place};
pub use progress::{Attempt, Failure, Phase, Progress, Skip, View};
pub use service::{Server, server};
pub use spec::{JobSpec, Program, Shuffle, weight};
pub use streaming::{
    Shipped, Streaming,
    options::{Give, Options, parse as streaming_options},
};
pub use worker::{Config, Worker};
