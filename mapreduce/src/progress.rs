//! What a job tells while it runs and when it is done.

use std::time::Duration;

/// The part of a job that is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// The input is being looked at.
    #[default]
    Planning,
    /// Map tasks run.
    Map,
    /// Reduce tasks run.
    Reduce,
    /// The output is being put in its place.
    Finishing,
    /// All is done.
    Done,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Progress {
    /// The running part.
    pub phase: Phase,
    /// Map tasks done, of all.
    pub maps: (u32, u32),
    /// Reduce tasks done, of all.
    pub reduces: (u32, u32),
    /// Input bytes read, of all.
    pub bytes: (u64, u64),
    /// Workers that answer.
    pub workers: u32,
    /// Attempts that failed.
    pub failures: u32,
    /// Since the job began.
    pub elapsed: Duration,
    /// Input bytes a second, since the maps began.
    pub bytes_per_second: u64,
    /// How long the maps will probably still take.
    pub eta: Option<Duration>,
}
