//! What can go wrong for a client of the lock service.

use crate::{
    group::{LockGroup, MoveId},
    registry::{BadPath, NodePath, Refusal},
};

/// An error of the lock service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The session's lease ran out or the service ended it.
    #[error("the session's lease is lost; unmount and mount again")]
    Expired,
    /// No coordinator could answer before the deadline.
    #[error("no coordinator answered before the deadline; are the coordinators up?")]
    Unreachable,
    /// The wait for other holders reached its deadline.
    #[error("the lock was not given up before the deadline")]
    Deadline,
    /// The session holds, or waits for, as much as one session may.
    #[error("this session holds or waits for as many locks as one may; give some up first")]
    Full,
    /// The registry did not do what was asked of a node.
    #[error("registry node {path}: {why}")]
    Node {
        /// Which.
        path: NodePath,
        /// Why.
        why: Refusal,
    },
    /// No path of the registry.
    #[error(transparent)]
    Path(#[from] BadPath),
    /// The session cannot end while it recovers another.
    #[error("the session still recovers another one; close it again when that is done")]
    Recovering,
    /// The session was closed by this client.
    #[error("the session is closed")]
    Closed,
    /// This coordinator does not lead; asks go to the leader. Clerks find it by themselves.
    #[error("this coordinator does not lead the lock service (leader: {leader:?}); ask another")]
    NotLeader {
        /// The leader's node id, if known.
        leader: Option<u64>,
    },
    /// The names lie in lock groups of which not all need be at one place. Ask for each segment.
    #[error(
        "the names lie in several lock groups, which this cluster keeps apart; ask for fewer at once"
    )]
    Straddles,
    /// A group is not served at this shard; all of the call was refused. Clerks follow by themselves.
    #[error("lock group {} is not served here since move {}", .group.number(), .by.0)]
    Moved {
        /// Which.
        group: LockGroup,
        /// The move that takes it, or took it, away.
        by: MoveId,
    },
    /// This shard has not been told of the session yet.
    #[error("this shard of the lock service does not know the session yet; ask again")]
    Unmet,
    /// A peer said something that this program does not understand, or refused the call.
    #[error("the lock service and this client do not agree: {0}; do both run the same version?")]
    Protocol(String),
}
