//! What a host is told at its start. Knows nothing of files or command lines.

use std::{path::PathBuf, time::Duration};

use raft::MemberId;
use wire::{ClusterId, NodeId};

/// A consensus group of the cluster. The number is part of the log's header and of every message.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct GroupId(pub u64);

impl std::fmt::Display for GroupId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The settings of one node of a group.
#[derive(Clone, Debug)]
pub struct GroupConfig {
    /// The cluster; a log of another one is refused.
    pub cluster: ClusterId,
    /// The group.
    pub group: GroupId,
    /// This node.
    pub me: NodeId,
    /// The nodes that the group begins with: 1, 3 or 5. This node may be left out of the list.
    /// Counts only until this node has stored something of the group.
    pub peers: Vec<NodeId>,
    /// This node is none of those that the group begins with: it waits to be added.
    pub joining: bool,
    /// Where log and checkpoint lie, if the group has them for itself ([`crate::Host::open`]); made
    /// if missing. Nothing else may be in it.
    pub dir: PathBuf,
    /// The shortest election timeout.
    pub election_min: Duration,
    /// Election timeouts are drawn from `election_min..election_max`.
    pub election_max: Duration,
    /// The time between heartbeats; at most half of `election_min`.
    pub heartbeat: Duration,
    /// A checkpoint is taken after this many entries (or 32 MiB of commands).
    pub checkpoint_every: u64,
}

impl GroupConfig {
    /// Settings for a local network: a new leader within about a second.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        group: GroupId,
        me: NodeId,
        peers: Vec<NodeId>,
        dir: PathBuf,
    ) -> Self {
        Self {
            cluster,
            group,
            me,
            peers,
            joining: false,
            dir,
            election_min: Duration::from_millis(250),
            election_max: Duration::from_millis(500),
            heartbeat: Duration::from_millis(100),
            checkpoint_every: 50_000,
        }
    }

    /// The nodes that the group begins with, this one included, sorted; none if this node joins.
    pub(crate) fn founders(&self) -> Vec<NodeId> {
        if self.joining {
            return Vec::new();
        }
        let mut founders = self.peers.clone();
        founders.push(self.me);
        founders.sort_unstable();
        founders.dedup();
        founders
    }

    /// Whether there is anybody to rebuild this node from.
    pub(crate) fn has_peers(&self) -> bool {
        self.joining || self.founders().len() > 1
    }

    pub(crate) fn raft(&self, founders: &[NodeId]) -> raft::Config {
        let voters = founders.iter().copied().map(member).collect();
        let mut config = raft::Config::new(member(self.me), voters);
        config.election_min = self.election_min;
        config.election_max = self.election_max;
        config.heartbeat = self.heartbeat;
        // A lagging follower takes the checkpoint when it is farther behind than this.
        config.keep = (self.checkpoint_every / 4).min(config.keep);
        config
    }
}

/// The node as the raft room calls it.
pub(crate) fn member(node: NodeId) -> MemberId {
    MemberId(node.0)
}

/// The member as the wire room calls it.
pub(crate) fn node(member: MemberId) -> NodeId {
    NodeId(member.0)
}
