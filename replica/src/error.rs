//! What can go wrong with a replicated command, a barrier or a start.

use std::{io, path::Path};

use wire::NodeId;

/// A command, a barrier or a start failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// This node does not lead. The command has not happened and will not.
    #[error("this node does not lead the group{}", leader.map(|node| format!("; node {node} does")).unwrap_or_default())]
    NotLeader {
        /// Whom to ask, if known.
        leader: Option<NodeId>,
    },
    /// The deadline came first. Whether the command happens is unknown.
    #[error("no answer before the deadline; whether the command takes effect is unknown")]
    Deadline,
    /// The node fell behind and took a checkpoint over the command's place. Whether it happened is
    /// unknown.
    #[error("the command's place was covered by a checkpoint; whether it took effect is unknown")]
    Covered,
    /// The session that the call names is over: too long unused, or one of too many. This try did
    /// not take effect; whether an earlier one did is unknown.
    #[error("the client's session is over; the command was not applied by this try")]
    Expired,
    /// The call lies outside of what the session remembers: below its floor, so it was answered
    /// before, or too far above it. This try did not take effect.
    #[error("the call was answered before, or is too far ahead; it was not applied by this try")]
    Spent,
    /// The node has stopped. Whether commands under way happened is unknown.
    #[error("this node has stopped: {0}")]
    Stopped(String),
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What the operating system said.
        reason: String,
    },
    /// A file holds what this node did not write.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong, where, and the remedy.
        reason: String,
    },
    /// The settings, or the stored state as a whole, make no sense.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::File { path: path.display().to_string(), reason: error.to_string() }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), reason: reason.into() }
    }
}

/// The remedy for a node whose disk cannot be trusted. Emptying its directory is none: with a
/// forgotten vote or entry it could help to elect a leader that lacks what was acknowledged.
pub(crate) const REBUILD: &str = "a node must not take part with a hole in its memory: leave it \
                                  stopped, the other coordinators go on without it (with a single \
                                  coordinator, restore the directory from a backup)";
