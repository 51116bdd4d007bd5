//! The `raft` room.
pub mod codec;
mod config;
mod effect;
mod ids;
mod message;
mod node;

pub use config::Config;
pub use effect::{Effect, Event, FollowerStatus, HardState, Persist, Role, Status, Stored};
pub use ids::{Index, MemberId, Round, Sequence, Term, Ticket};
pub use message::{
    Append, AppendReply, Body, Checkpoint, Conflict, Entry, Install, Message, Outcome, Payload,
    Position,
};
pub use node::Node;

/// What this room can refuse.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings make no sense.
    #[error("raft settings: {0}")]
    Config(&'static str),
    /// What the disk holds cannot come from this protocol; the member must be rebuilt from the others.
    #[error("stored raft state: {0}; remove this member's replica directory and let it catch up")]
    Stored(&'static str),
    /// Bytes that are not a message.
    #[error("malformed raft message: {0}")]
    Malformed(&'static str),
}
