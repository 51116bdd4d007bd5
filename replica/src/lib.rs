//! The `replica` room: hosts a deterministic state machine on every node of a group, so that it
//! survives the loss of a minority of them.
//!
//! [`Host`] drives one [`raft::Node`]: a log on disk with one sync per batch, checkpoints, restart,
//! proposals, linearizable barriers. Messages travel by a [`Transport`]: [`Mesh`] between
//! processes, [`LocalMesh`] between nodes of one process.
//!
//! It does not know what the commands mean: no lock, no block, no file.
//!
//! Commands are applied once per log entry. A caller that retries after an unknown outcome may
//! have its command in the log twice; until client sessions come to this room, machines make
//! their commands harmless to repeat.

mod apply;
mod checkpoint;
mod config;
mod driver;
mod error;
mod host;
mod local;
mod log;
mod look;
mod machine;
mod mesh;
mod status;
mod transport;
mod writer;

pub use config::{GroupConfig, GroupId};
pub use error::Error;
pub use host::Host;
pub use local::{LocalMesh, LocalTransport};
pub use look::look;
pub use machine::{Damaged, StateMachine};
pub use mesh::{Mesh, PeersService};
pub use raft::{Index, Message, Term};
pub use status::{Follower, Role, Status};
pub use transport::{Inbox, Transport};
