//! What a job tells while it runs and when it is done.

use std::time::Duration;

use crate::proto;

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

/// What a job counted; failed attempts are not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Input files.
    pub input_files: u64,
    /// Input bytes.
    pub input_bytes: u64,
    /// Words in the input.
    pub words: u64,
    /// Records that the maps wrote, after combining.
    pub map_records: u64,
    /// Bytes that went from maps to reduces.
    pub shuffled_bytes: u64,
    /// Records that the reduces read.
    pub reduce_records: u64,
    /// Lines of the output.
    pub output_records: u64,
    /// Bytes of the output.
    pub output_bytes: u64,
}

impl Counters {
    pub(crate) fn add(&mut self, more: &proto::Counters) {
        self.input_files += more.input_files;
        self.input_bytes += more.input_bytes;
        self.words += more.words;
        self.map_records += more.map_records;
        self.shuffled_bytes += more.shuffled_bytes;
        self.reduce_records += more.reduce_records;
        self.output_records += more.output_records;
        self.output_bytes += more.output_bytes;
    }
}
