//! What can go wrong with a replicated command, a barrier or a start.

use std::{io, path::Path};

use raft::{MemberId, Refusal};
use wire::NodeId;

use crate::config::node;

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
    /// The group cannot take it now. It has not happened and will not.
    #[error("{0}; try again")]
    Busy(&'static str),
    /// An order to the group was not carried out.
    #[error("{0}")]
    Unchanged(String),
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
    /// Why the protocol refused something.
    pub(crate) fn refused(why: Refusal, leader: Option<MemberId>) -> Self {
        let leader = leader.map(node);
        match why {
            Refusal::NotLeader | Refusal::Transferring => Self::NotLeader { leader },
            Refusal::Busy => Self::Busy("too much waits to be committed"),
            Refusal::NotReady => Self::Busy("the leader is not ready yet"),
            Refusal::Changing => Self::Busy("another change of the group is under way"),
            Refusal::Deposed => Self::Unchanged(
                "the leader changed meanwhile: look at the group's status and try again".to_owned(),
            ),
            Refusal::Invalid(why) => {
                Self::Unchanged(format!("the group would make no sense: {why}"))
            }
            Refusal::Behind(member) => Self::Unchanged(format!(
                "node {} did not catch up and was taken out again: is it running, and does it \
                 join this cluster?",
                node(member)
            )),
            Refusal::GaveUp => Self::Unchanged(
                "the other node did not take over in time; this one leads on".to_owned(),
            ),
        }
    }

    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::File { path: path.display().to_string(), reason: error.to_string() }
    }

    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), reason: reason.into() }
    }
}

/// The remedy for a node whose disk cannot be trusted.
pub(crate) const REBUILD: &str = "a node must not take part with a hole in its memory: in a group of \
                                  three or more voters it is rebuilt by the others; one of two, or one \
                                  alone, needs a copy of its directory from before";
