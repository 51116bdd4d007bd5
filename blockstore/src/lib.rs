//! The `blockstore` room: a sparse, replicated, checksummed virtual disk.
//!
//! It knows volumes, groups, chains, blocks and pages, and an opaque [`Fence`] per writer. It does
//! not know what is stored, who locks it or why: no lock, no inode, nothing of `lockservice`.

pub mod bug;
pub mod bulk;
mod chain;
pub mod client;
mod disk;
pub mod engine;
mod error;
pub mod link;
pub mod map;
pub mod memory;
pub mod message;
pub mod place;
#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::disallowed_types,
    clippy::allow_attributes_without_reason,
    clippy::wildcard_imports,
    reason = "generated from proto/blockstore.proto"
)]
pub(crate) mod pb {
    tonic::include_proto!("plumeria.blockstore");
}
#[cfg(test)]
mod script;
pub mod server;
pub mod store;

pub use disk::{
    BLOCK, CHUNK, Durability, Fence, Offset, PAGE, SECTOR, Space, SpaceAsk, Traffic, VirtualDisk,
};
pub use error::Error;
