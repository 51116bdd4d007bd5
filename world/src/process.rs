//! Programs that a daemon runs for somebody: started with pipes, watched, and ended together with whatever they
//! started themselves. What a program does is not known here.

use std::{collections::BTreeMap, io, path::PathBuf};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::oneshot,
};

/// What to run and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// A path, or a name that is looked up in the `PATH` of `environment`.
    pub program: String,
    /// What follows the name.
    pub arguments: Vec<String>,
    /// Added to the environment of this process.
    pub environment: BTreeMap<String, String>,
    /// Where it begins.
    pub directory: PathBuf,
    /// Bytes of address space that each of its processes may have; none: no limit.
    pub memory: Option<u64>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this code; 0 is success.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
        }
    }
}

/// A running program. Dropping it kills it and all that it started in its process group.
pub struct Process {
    /// Its standard input; dropping it is the end of the input.
    pub input: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    /// Its standard output.
    pub output: Option<Box<dyn AsyncRead + Send + Unpin>>,
    /// Its standard error.
    pub errors: Option<Box<dyn AsyncRead + Send + Unpin>>,
    ended: oneshot::Receiver<io::Result<Exit>>,
    kill: Box<dyn Fn() + Send + Sync>,
}

impl Process {
    /// A process whose end comes through `ended` and which `kill` ends; `kill` may be called at any time.
    #[must_use]
    pub fn new(
        ended: oneshot::Receiver<io::Result<Exit>>,
        kill: Box<dyn Fn() + Send + Sync>,
    ) -> Self {
        Self { input: None, output: None, errors: None, ended, kill }
    }

    /// Waits for its end. To be awaited once.
    ///
    /// # Errors
    /// If it cannot be watched.
    pub async fn wait(&mut self) -> io::Result<Exit> {
        (&mut self.ended).await.unwrap_or_else(|_| Err(io::Error::other("nobody watched it")))
    }

    /// Kills it and its process group; nothing happens if it has ended.
    pub fn kill(&self) {
        (self.kill)();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
