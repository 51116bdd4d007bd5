//! The registry: a small replicated tree of versioned nodes, some of which end with the session
//! that made them, and watches that tell of changes. Mounts and workers are known by it; the
//! recipes build membership, election and the like on it.
//!
//! The state ([`Tree`]) lives in the lock service's replicated state, because nodes end with its
//! sessions. What a server does for it is in `server`, the client is [`Registry`]. It does not
//! know what any node stands for.
//!
//! The order that a client sees: its calls take effect in the order in which it made them; what it
//! reads is never older than what it read or wrote or was told before, also when it moves to
//! another server; a watch tells of a change before any later call of the client answers with it.

mod client;
pub(crate) mod convert;
mod message;
mod path;
pub mod recipes;
mod remote;
pub(crate) mod server;
mod store;
mod tree;
mod watch;

#[cfg(test)]
mod tests;

pub use client::Registry;
pub use message::{
    Answers, Change, Changed, Done, Happened, Make, Node, Op, Question, Refusal, Revision, Scope,
    Stat, Tidings, Watching, What,
};
pub use path::{BadPath, NodePath};
pub use remote::adapter;
pub use store::{Store, TidingsStream};
pub use tree::Tree;
pub use watch::Watch;
