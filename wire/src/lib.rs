//! The `wire` room: the two transports between processes, who speaks on them, and where a
//! listener may be bound.
//!
//! - **tonic** (gRPC) for everything that is not bulk data: [`Server`], [`channel()`], [`unary`].
//! - **bulk frames** for blocks: [`bulk::serve`], [`bulk::Client`]; a fixed header, vectored
//!   writes, `Bytes` end to end, pipelined, bounded by credits.
//!
//! Both begin by stating protocol version, cluster, node and role ([`Identity`]); a mismatch is
//! refused with a sentence that says what differs. Every call has a deadline, and every
//! [`Error`] tells whether the call can have happened.
//!
//! It does not know what a message means: no lock, no block, no log entry.

pub mod bulk;
mod channel;
mod cut;
mod error;
mod identity;
mod routes;
mod server;

pub use channel::{Channel, MESSAGE_LIMIT, channel, unary};
pub use error::{Error, Happened};
pub use identity::{ClusterId, ClusterIdError, Identity, NodeId, PROTOCOL, Role};
pub use routes::{ServiceError, peer};
pub use server::{Server, Serving, check_exposure, listen};
