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
    /// Bytes that are no map output.
    #[error("damaged map output: {0}")]
    Damaged(&'static str),
}

impl Error {
    pub(crate) fn files(what: impl Into<String>, error: fs::Error) -> Self {
        Self::Files { what: what.into(), error }
    }

    pub(crate) fn disk(what: impl Into<String>, error: std::io::Error) -> Self {
        Self::Disk { what: what.into(), error }
    }
}
