//! The `mount` room: a file system of the `fs` room, served to the kernel through the `fuse` room.
//!
//! It knows how the words of the two correspond, how long the kernel may believe an answer (until the lease ends,
//! less its margin), and what the kernel has been told, so that it can be made to forget. It knows no
//! network and no disks.

mod claims;
mod error;
mod flights;
mod kernel;
mod known;
mod served;
mod system;
mod words;

pub use error::Error;
pub use fuse::{Ended, Options, Without, abort, mounted, mounts, unmount};
pub use served::{Mount, Numbers, serve};
