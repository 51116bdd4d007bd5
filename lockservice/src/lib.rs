//! The `lockservice` room: sessions, leases, read/write locks on spans of names, and the registry.
//!
//! It does not know what a name stands for, what a holder flushes or what a recoverer replays: no
//! inode, no block, and nothing of `blockstore`.

pub mod advisory;
pub mod bug;
pub mod clerk;
mod convert;
pub mod engine;
mod error;
mod group;
pub mod local;
mod locks;
#[cfg(test)]
mod manual;
pub mod message;
mod name;
mod proto;
pub mod registry;
pub mod remote;
mod router;
#[cfg(test)]
mod scripts;
pub mod server;
pub mod service;
pub mod shards;
pub mod table;

pub use clerk::Clerk;
pub use error::Error;
pub use group::{LockGroup, MoveId, Shard};
pub use locks::{Held, Holder, Locks, Pin, RecoverError, Recoverer};
pub use name::{Grant, Mode, Name, SessionId, Span};
pub use registry::Registry;
pub use remote::{Remote, adapter};
pub use router::{Member, Router};
pub use server::Server;
pub use service::Service;
pub use table::Table;
