//! The `fs` room: a POSIX file system over two narrow traits, a virtual disk and a lock clerk.
//!
//! It knows inodes, directories, runs, a log per mount, and what must be written before a lock may
//! go. It does not know sockets, FUSE, Raft, how locks are agreed on or where bytes are kept.

mod acl;
mod alloc;
mod attributes;
pub mod bug;
mod cache;
pub mod check;
mod claims;
mod config;
mod data;
mod dir;
mod drive;
mod error;
mod fs;
mod gate;
mod kernel;
pub mod layout;
mod load;
pub mod log;
pub mod mkfs;
mod op;
mod opens;
pub mod path;
mod recover;
mod revoke;
mod state;
mod tx;
mod writeout;

pub use attributes::{
    Allocate, Attributes, Caller, DirEntry, Entry, InodeNo, Kind, Lookup, Node, RenameMode,
    SetAttributes, SetTime, Statfs, XattrMode,
};
pub use config::{Config, Numbers};
pub use error::Error;
pub use fs::Fs;
pub use kernel::KernelCache;
pub use lockservice::{
    Mode,
    advisory::{Claim, Claimant, Claimed, Patience, Stretch},
};
pub use recover::Recovery;
