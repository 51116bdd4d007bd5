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
    /// The nodes whose majority decides, as the newest entry of the log says.
    pub voters: Vec<NodeId>,
    /// While the group changes, the voters of before, whose majority is needed too; else empty.
    pub outgoing: Vec<NodeId>,
    /// Nodes that get everything and decide nothing.
    pub learners: Vec<NodeId>,
    /// The last index in the log.
    pub last: Index,
    /// The last committed index.
    pub commit: Index,
    /// The last applied index.
    pub applied: Index,
    /// The last index that the newest checkpoint contains.
    pub checkpoint: Index,
    /// Bytes of log segments on disk, of all groups that share them.
    pub log_bytes: u64,
    /// It was emptied or damaged, and neither votes nor counts until it has caught up.
    pub rebuilding: bool,
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
    /// Whether its vote counts.
    pub voter: bool,
    /// The last index known to be on its disk.
    pub matched: Index,
    /// Bytes of a checkpoint that it has of how many, while one travels.
    pub chunks: Option<(u64, u64)>,
    /// It said that it was emptied or damaged.
    pub rebuilding: bool,
}
