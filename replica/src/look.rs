//! Asking a node of another process how its groups are, for operators. Changes nothing.

use raft::{Index, Term};
use wire::{Identity, NodeId};
use world::{Address, Time, World};

use crate::{
    config::GroupId,
    mesh::proto::{Question, Row, peers_client::PeersClient},
    status::{Role, Status},
};

/// The groups of the node at `address`. What a leader knows of its followers is not told.
///
/// # Errors
/// If the node does not answer before the deadline.
pub async fn look(
    world: &World,
    me: Identity,
    address: &Address,
    deadline: Time,
) -> Result<Vec<Status>, wire::Error> {
    let mut client = wire::limits!(PeersClient::new(wire::channel(world, me, address)));
    let call = |request| async move { client.look(request).await };
    let answer = wire::unary(world, deadline, Question {}, call).await?;
    Ok(answer.rows.into_iter().map(status).collect())
}

/// A status as it travels.
pub(crate) fn row(status: &Status) -> Row {
    Row {
        group: status.group.0,
        node: status.me.0,
        role: match status.role {
            Role::Follower { .. } => 0,
            Role::Candidate => 1,
            Role::Leader { ready: false, .. } => 2,
            Role::Leader { ready: true, .. } => 3,
            Role::Stopped => 4,
        },
        term: status.term.0,
        leader: status.leader.map_or(0, |leader| leader.0),
        voters: status.voters.iter().map(|voter| voter.0).collect(),
        last: status.last.0,
        commit: status.commit.0,
        applied: status.applied.0,
        checkpoint: status.checkpoint.0,
        log_bytes: status.log_bytes,
        stopped: status.stopped.clone().unwrap_or_default(),
    }
}

fn status(row: Row) -> Status {
    let term = Term(row.term);
    let leader = (row.leader != 0).then_some(NodeId(row.leader));
    Status {
        group: GroupId(row.group),
        me: NodeId(row.node),
        role: match row.role {
            0 => Role::Follower { leader },
            1 => Role::Candidate,
            2 => Role::Leader { term, ready: false },
            3 => Role::Leader { term, ready: true },
            _ => Role::Stopped,
        },
        term,
        leader,
        voters: row.voters.into_iter().map(NodeId).collect(),
        last: Index(row.last),
        commit: Index(row.commit),
        applied: Index(row.applied),
        checkpoint: Index(row.checkpoint),
        log_bytes: row.log_bytes,
        followers: Vec::new(),
        stopped: Some(row.stopped).filter(|why| !why.is_empty()),
    }
}
