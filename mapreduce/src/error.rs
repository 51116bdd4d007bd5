//! What can go wrong with a job, in sentences for whoever submitted it.

/// A job could not be run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The output directory is there already.
    #[error("the output directory {0} exists already: choose another, or remove it first")]
    OutputExists(String),
    /// An input is missing.
    #[error("the input {0} does not exist")]
    NoInput(String),
    /// A pattern of inputs matches nothing.
    #[error("no input matches {0}")]
    NoMatch(String),
    /// An input that cannot be read as it should be.
    #[error("the input {path}: {reason}")]
    Input {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// A specification that makes no sense.
    #[error("{0}")]
    Spec(String),
    /// No worker could be reached.
    #[error(
        "no worker answers ({0}): start workers (plumeria worker), or check their addresses in the configuration"
    )]
    NoWorkers(String),
    /// A task failed too often.
    #[error("{task} failed {attempts} times, the last time: {reason}")]
    Task {
        /// Which.
        task: String,
        /// How often.
        attempts: u32,
        /// What was said.
        reason: String,
    },
    /// A worker answered nonsense or not at all.
    #[error("worker {place}: {reason}")]
    Worker {
        /// Where.
        place: String,
        /// What was said.
        reason: String,
    },
    /// The file system failed.
    #[error("{what}: {error}")]
    Files {
        /// What was being done.
        what: String,
        /// What it said.
        #[source]
        error: fs::Error,
    },
    /// The local disk failed.
    #[error("{what}: {error}")]
    Disk {
        /// What was being done.
        what: String,
        /// What it said.
        #[source]
        error: std::io::Error,
    },
    /// A function or program failed on a record.
    #[error("the record at byte {offset} of {path} (number {number} of its split): {reason}")]
    Record {
        /// The file.
        path: String,
        /// Where the record begins.
        offset: u64,
        /// Which record of its split it is.
        number: u64,
        /// What went wrong.
        reason: String,
    },
    /// A program failed on a split.
    #[error("the split of {length} bytes at byte {offset} of {path}{}: {reason}", number.map_or(String::new(), |number| format!(", record {number}")))]
    Split {
        /// The file.
        path: String,
        /// Where the split begins.
        offset: u64,
        /// Its bytes.
        length: u64,
        /// The record of the split, if the program told how far it was.
        number: Option<u64>,
        /// What went wrong.
        reason: String,
    },
    /// A program of a streaming job failed.
    #[error("{program} ended with {end}{said}")]
    Program {
        /// Its command line.
        program: String,
        /// How it ended.
        end: String,
        /// Its last lines of standard error, each on a line of its own.
        said: String,
    },
    /// A program of a streaming job cannot be run.
    #[error("{program} cannot be run: {reason}")]
    Start {
        /// Its command line.
        program: String,
        /// Why.
        reason: String,
    },
    /// No worker knows the native job.
    #[error("there is no job {name:?} here, but {known}: a job's own workers know it")]
    NoProgram {
        /// Which.
        name: String,
        /// Those that are known.
        known: String,
    },
    /// Somebody ended the job.
    #[error("the job was killed")]
    Killed,
    /// There is no such job.
    #[error("no worker knows a job {0}: `plumeria mr ls` lists those that run")]
    NoJob(String),
    /// The attempt is not wanted any more.
    #[error("the attempt was given up")]
    Cancelled,
    /// Another coordinator leads the job.
    #[error(
        "another coordinator leads the job by now, because this one was taken for dead: `plumeria mr ls` shows how it goes on"
    )]
    Deposed,
    /// The registry did not let stand for election.
    #[error("the election of the job's coordinator: {0}")]
    Election(String),
    /// A journal that cannot be.
    #[error("the journal of the job: {0}")]
    Journal(String),
    /// The same events led to something else.
    #[error(
        "replaying the journal of the job diverges at entry {entry} ({event}): another version of this program has written it, or there is a bug; the job stops"
    )]
    Diverged {
        /// Which entry, counted from 1.
        entry: u64,
        /// What it was told there.
        event: String,
    },
    /// A standby found what must not be.
    #[error("the standby at {place}: {reason}")]
    Standby {
        /// Where.
        place: String,
        /// What.
        reason: String,
    },
    /// What a job's own function reports.
    #[error("{0}")]
    Job(String),
    /// Bytes that are no map output.
    #[error("damaged map output: {0}")]
    Damaged(&'static str),
}

impl Error {
    /// Whether it is of the framework, and not of a function of the job.
    pub(crate) fn is_ours(&self) -> bool {
        !matches!(self, Self::Job(_) | Self::Damaged(_))
    }

    /// The record of its split that an attempt failed on, if it is known.
    pub(crate) fn record(&self) -> Option<u64> {
        match self {
            Self::Record { number, .. } => Some(*number),
            Self::Split { number, .. } => *number,
            _ => None,
        }
    }

    pub(crate) fn files(what: impl Into<String>, error: fs::Error) -> Self {
        Self::Files { what: what.into(), error }
    }

    pub(crate) fn disk(what: impl Into<String>, error: std::io::Error) -> Self {
        Self::Disk { what: what.into(), error }
    }
}
