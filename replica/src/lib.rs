//! The `replica` room: hosts a deterministic state machine on every node of a group, so that it
//! survives the loss of a minority of them.
//!
//! [`Host`] drives one [`raft::Node`]: proposals, linearizable reads, checkpoints, restart, changes
//! of the group. Messages travel by a [`Transport`]: [`Mesh`] between processes, [`LocalMesh`]
//! between nodes of one process.
//!
//! The groups of a process share a [`Runtime`]: one log on disk with one writer thread and one sync
//! per batch, whichever groups it is of; one timer, on whose grid all leaders beat at the same
//! moments; and, by the mesh, one stream to each peer, on which what waits together travels together.
//!
//! It does not know what the commands mean: no lock, no block, no file.
//!
//! # What it promises
//! - A command that is proposed twice is applied twice, unless it is a *call* of a client session:
//!   that is applied once and every try gets the first reply ([`Host::propose_once`]), also after a
//!   change of leader, a checkpoint and a restart. [`Client`] is the side that finds the leader,
//!   numbers calls and tries again.
//! - Nothing is answered, and no message leaves that depends on it, before it is on the disk.
//! - A torn end of the log is cut. A damaged middle, a damaged checkpoint or an emptied directory
//!   make a node that neither votes nor counts until the others have brought it up to date; alone in
//!   its group it refuses to start.
//! - A checkpoint is written while commands go on, and travels in pieces: neither side holds it in
//!   memory. A transfer that broke goes on where it stopped.

mod apply;
mod checkpoint;
mod client;
mod command;
mod config;
mod driver;
mod error;
mod founding;
mod host;
mod line;
mod local;
mod log;
mod look;
mod machine;
mod members;
mod mesh;
mod runtime;
mod session;
mod status;
mod transport;

pub use client::{Client, Door};
pub use config::{GroupConfig, GroupId};
pub use error::Error;
pub use host::Host;
pub use local::{LocalMesh, LocalTransport};
pub use look::{Look, look, order};
pub use machine::{Damaged, Image, StateMachine, read_whole};
pub use members::Change;
pub use mesh::{Mesh, PeersService};
pub use raft::{Index, Message, ReadMode, Term};
pub use runtime::Runtime;
pub use session::{CallNumber, Caller, ClientId};
pub use status::{Follower, Role, Status};
pub use transport::{Inbox, Order, Transport};
