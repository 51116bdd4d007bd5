//! The `blockstore` room: a sparse, replicated, checksummed virtual disk.
//!
//! It knows volumes, groups, chains, blocks and pages, and an opaque [`Fence`] per writer. It does
//! not know what is stored, who locks it or why: no lock, no inode, nothing of `lockservice`.

mod disk;
mod error;
pub mod link;
pub mod memory;
pub mod message;
pub mod place;

pub use disk::{
    BLOCK, CHUNK, Durability, Fence, Offset, PAGE, SECTOR, Space, Traffic, VirtualDisk,
};
pub use error::Error;
