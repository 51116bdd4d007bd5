//! What a job tells while it runs and when it is done.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::counters::Counters;

/// The part of a job that is running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// It did not work.
    Failed,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
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
    /// Backup attempts that were made of slow ones.
    pub backups: u32,
    /// Running attempts that are slower than half the usual.
    pub stragglers: u32,
    /// Since the job began.
    pub elapsed: Duration,
    /// Input bytes a second, since the maps began.
    pub bytes_per_second: u64,
    /// How long the maps will probably still take.
    pub eta: Option<Duration>,
}

/// An attempt that runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its task.
    pub task: String,
    /// Its number.
    pub attempt: u32,
    /// What its log is called.
    pub label: String,
    /// Where it runs.
    pub worker: String,
    /// Thousandths that are done.
    pub thousandths: u32,
    /// How long it has run.
    pub since: Duration,
}

/// An attempt that failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Failure {
    /// Its task.
    pub task: String,
    /// Its number.
    pub attempt: u32,
    /// What its log is called.
    pub label: String,
    /// Where it ran.
    pub worker: String,
    /// Why.
    pub reason: String,
}

/// A record that is left out, because two attempts failed on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Skip {
    /// The task that has it in its split.
    pub task: String,
    /// Its number in the split, counted from 0.
    pub record: u64,
    /// What the last failure on it said; names the file and the place in it, as far as that is known.
    pub reason: String,
}

/// A job's account of itself, for whoever looks.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct View {
    /// The job.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Where its output goes.
    pub output: String,
    /// How far it is.
    pub progress: Progress,
    /// What was counted so far, in attempts that count.
    pub counters: Counters,
    /// What runs; the first hundred.
    pub attempts: Vec<Attempt>,
    /// The latest failures.
    pub failures: Vec<Failure>,
    /// Records that were skipped, in attempts that count.
    pub skipped: u64,
    /// Which records those are; the first thousand.
    pub skips: Vec<Skip>,
    /// Input bytes a second, at equal distances.
    pub rates: Vec<u64>,
    /// The distance of the rates.
    pub rate_every: Duration,
}
