//! The `fuse` room: the only one that knows the Linux kernel's FUSE interface.
//!
//! It gives a file system (the narrow trait [`FileSystem`], own types, async) a mount point: decodes requests, polls each
//! operation once on the event-loop thread and hands the same future to the runtime if it must wait,
//! replies, and tells the kernel what to forget ([`Notifier`]).
//!
//! It knows no disks, no locks, no network and nothing of what a file system does with a request.

mod adapter;
mod answer;
mod directory;
mod error;
mod init;
mod kernel;
mod notify;
mod queue;
mod session;
mod signals;
mod size;
mod system;
mod types;
pub mod watchdog;
mod windows;
mod words;

pub use error::Error;
pub use kernel::{Mounted, abort, check, mounted, mounts, unmount};
pub use notify::{Notifier, Size, Stale, Stuck};
pub use rustix::io::Errno;
pub use session::{Ended, Options, Session, Without, serve};
pub use signals::Interrupted;
pub use system::FileSystem;
pub use types::{
    Allocate, Attributes, Caller, DirEntry, Entry, FileLock, Found, Ino, Kind, LockKind, NewNode,
    OpenFlags, Opened, RenameFlags, SetAttributes, SetTime, Space, Whence, WriteHow, XattrMode,
};

/// What an operation answers.
pub type Result<T> = std::result::Result<T, Errno>;
