//! How messages reach the other nodes of a group. What they say is the raft room's business.

use std::sync::Arc;

use raft::Message;
use wire::NodeId;

use crate::{config::GroupId, status::Status};

/// Takes the messages that arrive for one group.
pub trait Inbox: Send + Sync {
    /// A message arrived. Does not block for longer than a state machine's `apply`.
    fn receive(&self, message: Message);

    /// A look at the node of this group; `None` once it is gone.
    fn status(&self) -> Option<Status>;
}

/// Carries messages between nodes. It may lose, repeat and reorder them.
pub trait Transport: Send + Sync {
    /// Sends without blocking, from under a lock; drops the message when too many are waiting.
    fn send(&self, group: GroupId, to: NodeId, message: Message);

    /// Messages of `group` that arrive for this node go to `inbox` from now on.
    fn attach(&self, group: GroupId, inbox: Arc<dyn Inbox>);

    /// Nobody takes the messages of `group` any more.
    fn detach(&self, group: GroupId);
}
