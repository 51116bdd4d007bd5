//! The `lockservice` room: sessions, leases, read/write locks on spans of names.
//!
//! It does not know what a name stands for, what a holder flushes or what a recoverer replays: no
//! inode, no block, and nothing of `blockstore`.

mod error;
mod locks;
mod name;

pub use error::Error;
pub use locks::{Held, Holder, Locks, Pin, RecoverError, Recoverer};
pub use name::{Grant, Mode, Name, SessionId, Span};
