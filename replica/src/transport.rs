//! How messages reach the other nodes of a group. What they say is the raft room's business.

use std::{collections::BTreeMap, sync::Arc};

use futures_util::future::BoxFuture;
use raft::Message;
use wire::NodeId;
use world::Time;

use crate::{config::GroupId, error::Error, members::Change, status::Status};

/// What an operator asks of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Change the members.
    Change(Change),
    /// Have another voter lead.
    Transfer(NodeId),
}

/// Takes what arrives for one group.
pub trait Inbox: Send + Sync {
    /// A message arrived. Does not block for longer than a state machine's `apply`.
    fn receive(&self, message: Message);

    /// A look at the node of this group; `None` once it is gone.
    fn status(&self) -> Option<Status>;

    /// Where the members of the group are reached, as far as it was said.
    fn book(&self) -> BTreeMap<NodeId, String>;

    /// An operator's order.
    fn order(&self, order: Order, deadline: Time) -> BoxFuture<'static, Result<(), Error>>;
}

/// Carries messages between nodes. It may lose, repeat and reorder them.
pub trait Transport: Send + Sync {
    /// Sends without blocking; drops the message when too many are waiting. May deliver, and take
    /// answers, before it returns.
    fn send(&self, group: GroupId, to: NodeId, message: Message);

    /// Messages of `group` that arrive for this node go to `inbox` from now on.
    fn attach(&self, group: GroupId, inbox: Arc<dyn Inbox>);

    /// Nobody takes the messages of `group` any more.
    fn detach(&self, group: GroupId);

    /// A look at another node of `group`; `None` if it does not answer before the deadline.
    fn peek(
        &self,
        group: GroupId,
        node: NodeId,
        deadline: Time,
    ) -> BoxFuture<'static, Option<Status>>;

    /// A node is reached at `address`, from now on.
    fn learn(&self, _node: NodeId, _address: &str) {}

    /// Where nodes are reached, as far as this transport was told; this node included.
    fn addresses(&self) -> BTreeMap<NodeId, String> {
        BTreeMap::new()
    }
}
