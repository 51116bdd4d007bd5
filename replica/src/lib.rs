//! The `replica` room: hosts a deterministic state machine on every node of a group, so that it
//! survives the loss of a minority of them.
//!
//! [`Host`] drives one [`raft::Node`]: a log on disk with one sync per batch, checkpoints, restart,
//! proposals, linearizable barriers. Messages travel by a [`Transport`]: [`Mesh`] between
//! processes, [`LocalMesh`] between nodes of one process.
//!
//! It does not know what the commands mean: no lock, no block, no file.
//!
//! A command that is proposed twice is applied twice, unless it is a *call* of a client session:
//! that is applied once and every try gets the first reply ([`Host::propose_once`]), also after a
//! change of leader, a checkpoint and a restart. [`Client`] is the side that finds the leader,
//! numbers calls and tries again.

mod apply;
mod checkpoint;
mod client;
mod command;
mod config;
mod driver;
mod error;
mod host;
mod local;
mod log;
mod look;
mod machine;
mod mesh;
mod session;
mod status;
mod transport;
mod writer;

pub use client::{Client, Door};
pub use config::{GroupConfig, GroupId};
pub use error::Error;
pub use host::Host;
pub use local::{LocalMesh, LocalTransport};
pub use look::look;
pub use machine::{Damaged, Image, StateMachine, read_whole};
pub use mesh::{Mesh, PeersService};
pub use raft::{Index, Message, Term};
pub use session::{CallNumber, Caller, ClientId};
pub use status::{Follower, Role, Status};
pub use transport::{Inbox, Transport};
