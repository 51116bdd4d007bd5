//! What can go wrong between two processes, and whether the call may have happened all the same.

use std::error::Error as _;

use tonic::{Code, Status};
use world::{Address, Elapsed};

/// Whether a call that failed may have been carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It was not: it may be made again as if for the first time.
    No,
    /// Nobody here knows: make it again only if doing it twice is harmless.
    Unknown,
}

/// A call, a connection or a listener failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot reach {address}: {reason}")]
    Unreachable {
        /// Where to.
        address: String,
        /// What the operating system said.
        reason: String,
    },
    /// The connection ended while the call was under way.
    #[error("the connection to {address} was lost: {reason}")]
    Lost {
        /// Where to.
        address: String,
        /// Why, as far as it is known.
        reason: String,
    },
    /// The peer refused who we are.
    #[error("{address} refuses this process: {reason}")]
    Refused {
        /// Where to, or who.
        address: String,
        /// What differs, and the remedy.
        reason: String,
    },
    /// The deadline came before the answer.
    #[error("no answer before the deadline")]
    Deadline {
        /// Whether the request had left by then.
        happened: Happened,
    },
    /// A message is larger than the transport carries.
    #[error("a message of {size} bytes is more than the {limit} that a frame may carry")]
    TooLarge {
        /// Its size.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The peer sent bytes that are no frame.
    #[error("damaged frame: {0}")]
    Damaged(&'static str),
    /// The service answered with a failure.
    #[error("{message} ({code})")]
    Answered {
        /// The gRPC code, in words.
        code: String,
        /// The service's own words.
        message: String,
        /// Whether it may have acted before it failed.
        happened: Happened,
    },
    /// The address can be reached from other machines.
    #[error(
        "{address} can be reached from other machines and the connections are not encrypted: use \
         a loopback address or a Unix socket, or allow it with the word `insecure`"
    )]
    Exposed {
        /// The address.
        address: String,
    },
    /// The listener could not be bound.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// Where.
        address: String,
        /// Why, and the remedy where there is one.
        reason: String,
    },
}

impl Error {
    /// Whether the call can have been carried out.
    #[must_use]
    pub fn happened(&self) -> Happened {
        match self {
            Self::Unreachable { .. }
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::Exposed { .. }
            | Self::Listen { .. } => Happened::No,
            Self::Lost { .. } | Self::Damaged(_) => Happened::Unknown,
            Self::Deadline { happened } | Self::Answered { happened, .. } => *happened,
        }
    }

    pub(crate) fn unreachable(address: &Address, reason: &(impl ToString + ?Sized)) -> Self {
        Self::Unreachable { address: address.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn lost(address: &Address, reason: &(impl ToString + ?Sized)) -> Self {
        Self::Lost { address: address.to_string(), reason: reason.to_string() }
    }
}

impl From<Elapsed> for Error {
    fn from(_: Elapsed) -> Self {
        Self::Deadline { happened: Happened::Unknown }
    }
}

/// The metadata key that marks a status as a refusal of the caller's identity.
pub(crate) const REFUSED: &str = "plumeria-refused";

/// Why [`crate::channel()`] could not connect; found again in the source chain of a status.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach {address}: {reason}")]
pub(crate) struct Unreached {
    pub(crate) address: String,
    pub(crate) reason: String,
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let mut source = status.source();
        while let Some(error) = source {
            if let Some(Unreached { address, reason }) = error.downcast_ref() {
                return Self::Unreachable { address: address.clone(), reason: reason.clone() };
            }
            source = error.source();
        }
        if let Some(address) = status.metadata().get(REFUSED) {
            let address = String::from_utf8_lossy(address.as_bytes()).into_owned();
            return Self::Refused { address, reason: status.message().to_owned() };
        }
        let happened = match status.code() {
            Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented => Happened::No,
            Code::DeadlineExceeded => return Self::Deadline { happened: Happened::Unknown },
            // Unavailable, Cancelled, Internal and the rest: the connection may have broken under it.
            _ => Happened::Unknown,
        };
        Self::Answered {
            code: status.code().description().to_owned(),
            message: status.message().to_owned(),
            happened,
        }
    }
}
