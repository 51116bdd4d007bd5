//! A look at a host, for services that depend on the role and for operators.

use raft::{Index, Term};
use wire::NodeId;

use crate::config::GroupId;

/// What this node is in its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower {
        /// The leader, if known.
        leader: Option<NodeId>,
    },
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader {
        /// In this term.
        term: Term,
        /// An entry of its own term is applied: it knows all that was ever acknowledged.
        ready: bool,
    },
    /// Takes no part any more; the status says why.
    Stopped,
}

impl Role {
    /// Whether this node leads and knows all that was ever acknowledged.
    #[must_use]
    pub fn leads(self) -> bool {
        matches!(self, Self::Leader { ready: true, .. })
    }
}

/// A look at a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The group.
    pub group: GroupId,
    /// This node.
    pub me: NodeId,
    /// What it is.
    pub role: Role,
    /// The current term.
    pub term: Term,
    /// The leader, if known; this node itself when it leads.
    pub leader: Option<NodeId>,
    /// All nodes of the group.
    pub voters: Vec<NodeId>,
    /// The last index in the log.
    pub last: Index,
    /// The last committed index.
    pub commit: Index,
    /// The last applied index.
    pub applied: Index,
    /// The last index that the newest checkpoint contains.
    pub checkpoint: Index,
    /// Bytes of log segments on disk.
    pub log_bytes: u64,
    /// What a leader knows of the others.
    pub followers: Vec<Follower>,
    /// Why the node has stopped, if it has.
    pub stopped: Option<String>,
}

/// What a leader knows of one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    /// The follower.
    pub node: NodeId,
    /// The last index known to be on its disk.
    pub matched: Index,
}
