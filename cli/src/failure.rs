//! What a command ends with when it does not succeed: an error for people and an exit code for
//! scripts.

use std::process::ExitCode;

/// Why a command did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The command failed.
    Failed = 1,
    /// The arguments, or the configuration, cannot be right.
    Usage = 2,
    /// The cluster does not answer.
    Unreachable = 3,
    /// A check found damage.
    Damage = 4,
}

/// An error and its exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) error: anyhow::Error,
}

/// The result of a command.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// A failure with a message of its own.
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, error: anyhow::Error::msg(message.into()) }
    }

    /// A usage error.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    /// The same with words in front.
    pub(crate) fn context(self, words: &'static str) -> Self {
        Self { error: self.error.context(words), ..self }
    }

    /// The exit code.
    pub(crate) fn code(&self) -> ExitCode {
        ExitCode::from(self.kind as u8)
    }

    /// As JSON for `--json`.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "error": format!("{:#}", self.error),
            "exit_code": self.kind as u8,
        })
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { kind: Kind::Failed, error }
    }
}

/// Turns other errors into failures of a stated kind.
pub(crate) trait OrFail<T> {
    /// `kind`, with `context` in front of the error.
    fn or_fail(self, kind: Kind, context: impl FnOnce() -> String) -> Outcome<T>;
}

impl<T, E: Into<anyhow::Error>> OrFail<T> for Result<T, E> {
    fn or_fail(self, kind: Kind, context: impl FnOnce() -> String) -> Outcome<T> {
        self.map_err(|error| Failure { kind, error: error.into().context(context()) })
    }
}
