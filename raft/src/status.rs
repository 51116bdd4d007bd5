//! What a node shows of itself, to operators, checkers and tools.
//!
//! A copy taken at one moment; nothing in it is needed to drive the node.

use std::sync::Arc;
use std::time::Duration;

use crate::configuration::Configuration;
use crate::ids::{Index, MemberId, Term};

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower {
        /// The leader of the term, if it has been heard.
        leader: Option<MemberId>,
    },
    /// Asks for pre-votes or votes.
    Candidate,
    /// Leads.
    Leader {
        /// Whether an entry of its own term is committed and applied: it knows everything that was acknowledged.
        ready: bool,
    },
}

/// A look at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// The current term.
    pub term: Term,
    /// What it is.
    pub role: Role,
    /// The leader of the term, if known; itself when it leads.
    pub leader: Option<MemberId>,
    /// The last index that is known to be committed.
    pub commit: Index,
    /// The last index given out to be applied.
    pub applied: Index,
    /// The last index in the log.
    pub last: Index,
    /// The last index on stable storage here.
    pub stable: Index,
    /// The last index that the newest checkpoint contains.
    pub checkpoint: Index,
    /// Bytes of commands in the log in memory.
    pub log_bytes: usize,
    /// The group, as the newest entry in the log says, committed or not.
    pub configuration: Arc<Configuration>,
    /// Where that entry stands; zero for the group at the beginning or in a checkpoint.
    pub configured: Index,
    /// Whether it was emptied and does not vote yet.
    pub rebuilding: bool,
    /// Until when, by its clock, it leads under a lease, so that reads need no round; perhaps that is over.
    pub lease: Option<Duration>,
    /// To whom it hands leadership on, while it does.
    pub transfer: Option<MemberId>,
    /// Whether a change of the group that was asked for here is under way.
    pub changing: bool,
    /// What a leader knows of the others, learners included; empty elsewhere.
    pub followers: Vec<FollowerStatus>,
}

/// What a leader knows of one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The follower.
    pub id: MemberId,
    /// Whether its vote counts.
    pub voter: bool,
    /// The last index known to be on its stable storage.
    pub matched: Index,
    /// The next index to be sent.
    pub next: Index,
    /// Bytes of a checkpoint that it has of how many, while one travels.
    pub chunks: Option<(u64, u64)>,
    /// Whether it said that it was emptied.
    pub rebuilding: bool,
}
