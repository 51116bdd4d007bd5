//! Asking a node of another process how its groups are, and giving it an operator's orders.

use std::{collections::BTreeMap, time::Duration};

use raft::{Index, Term};
use tonic::Status as Failure;
use wire::{Identity, NodeId};
use world::{Address, Time, World};

use crate::{
    config::GroupId,
    error::Error,
    members::Change,
    mesh::proto::{self, Ordered, Question, Row, order::Kind, peers_client::PeersClient},
    status::{Follower, Role, Status},
    transport::Order,
};

/// An order is tried for no longer than this.
const PATIENCE: Duration = Duration::from_secs(600);

/// A group of another process's node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// How it is.
    pub status: Status,
    /// Where the group's members are reached, as far as it was said when members were added.
    pub book: BTreeMap<NodeId, String>,
}

/// The groups of the node at `address`.
///
/// # Errors
/// If the node does not answer before the deadline.
pub async fn look(
    world: &World,
    me: Identity,
    address: &Address,
    deadline: Time,
) -> Result<Vec<Look>, wire::Error> {
    let mut client = wire::limits!(PeersClient::new(wire::channel(world, me, address)));
    let call = |request| async move { client.look(request).await };
    let answer = wire::unary(world, deadline, Question {}, call).await?;
    Ok(answer.rows.into_iter().map(looked).collect())
}

/// Gives an order to the node at `address`, for one of its groups.
///
/// # Errors
/// Outside: the node was not reached, or did not answer in time. Inside: it did not do it;
/// [`Error::NotLeader`] says who may.
pub async fn order(
    world: &World,
    me: Identity,
    address: &Address,
    (group, order): (GroupId, Order),
    deadline: Time,
) -> Result<Result<(), Error>, wire::Error> {
    let mut client = wire::limits!(PeersClient::new(wire::channel(world, me, address)));
    let (kind, node, address) = match order {
        Order::Transfer(node) => (Kind::Transfer, node, String::new()),
        Order::Change(Change::Add { node, address }) => (Kind::Add, node, address),
        Order::Change(Change::Remove(node)) => (Kind::Remove, node, String::new()),
    };
    // A little less, so that the node's own word comes before this side gives up.
    let left = deadline.since(world.clock.now()) * 19 / 20;
    let message = proto::Order {
        group: group.0,
        node: node.0,
        patience_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        kind: kind.into(),
        address,
    };
    let call = |request| async move { client.order(request).await };
    let answer = wire::unary(world, deadline, message, call).await?;
    Ok(match answer {
        Ordered { elsewhere: true, leader, .. } => {
            Err(Error::NotLeader { leader: (leader != 0).then_some(NodeId(leader)) })
        }
        Ordered { failure, .. } if failure.is_empty() => Ok(()),
        Ordered { failure, .. } => Err(Error::Unchanged(failure)),
    })
}

/// How an order failed, as it travels.
pub(crate) fn failed(error: &Error) -> Ordered {
    match error {
        Error::NotLeader { leader } => Ordered {
            failure: error.to_string(),
            elsewhere: true,
            leader: leader.map_or(0, |leader| leader.0),
        },
        error => Ordered { failure: error.to_string(), ..Ordered::default() },
    }
}

/// Reads an order: what, for which group, and for how long it is to be tried.
pub(crate) fn order_of(message: proto::Order) -> Result<(Order, GroupId, Duration), Failure> {
    let node = NodeId(message.node);
    let kind = message.kind();
    let proto::Order { group, patience_ms, address, .. } = message;
    let order = match kind {
        Kind::Transfer => Order::Transfer(node),
        Kind::Add => {
            address.parse::<Address>().map_err(|odd| Failure::invalid_argument(odd.to_string()))?;
            Order::Change(Change::Add { node, address })
        }
        Kind::Remove => Order::Change(Change::Remove(node)),
        Kind::None => return Err(Failure::invalid_argument("no such order")),
    };
    Ok((order, GroupId(group), Duration::from_millis(patience_ms).min(PATIENCE)))
}

/// A status as it travels.
pub(crate) fn row(status: &Status, book: &BTreeMap<NodeId, String>) -> Row {
    let nodes = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    let follower = |follower: &Follower| proto::Follower {
        node: follower.node.0,
        voter: follower.voter,
        matched: follower.matched.0,
        rebuilding: follower.rebuilding,
        received: follower.chunks.map_or(0, |(received, _)| received),
        size: follower.chunks.map_or(0, |(_, size)| size),
    };
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
        voters: nodes(&status.voters),
        outgoing: nodes(&status.outgoing),
        learners: nodes(&status.learners),
        last: status.last.0,
        commit: status.commit.0,
        applied: status.applied.0,
        checkpoint: status.checkpoint.0,
        log_bytes: status.log_bytes,
        rebuilding: status.rebuilding,
        followers: status.followers.iter().map(follower).collect(),
        stopped: status.stopped.clone().unwrap_or_default(),
        book: book.iter().map(place).collect(),
    }
}

fn place((node, address): (&NodeId, &String)) -> proto::Place {
    proto::Place { node: node.0, address: address.clone() }
}

fn looked(row: Row) -> Look {
    let term = Term(row.term);
    let leader = (row.leader != 0).then_some(NodeId(row.leader));
    let nodes = |nodes: Vec<u64>| nodes.into_iter().map(NodeId).collect();
    let follower = |follower: proto::Follower| Follower {
        node: NodeId(follower.node),
        voter: follower.voter,
        matched: Index(follower.matched),
        chunks: (follower.size > 0).then_some((follower.received, follower.size)),
        rebuilding: follower.rebuilding,
    };
    let status = Status {
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
        voters: nodes(row.voters),
        outgoing: nodes(row.outgoing),
        learners: nodes(row.learners),
        last: Index(row.last),
        commit: Index(row.commit),
        applied: Index(row.applied),
        checkpoint: Index(row.checkpoint),
        log_bytes: row.log_bytes,
        rebuilding: row.rebuilding,
        followers: row.followers.into_iter().map(follower).collect(),
        stopped: Some(row.stopped).filter(|why| !why.is_empty()),
    };
    let book = row.book.into_iter().map(|place| (NodeId(place.node), place.address)).collect();
    Look { status, book }
}
