//! What lies where on the virtual disk, and what its bytes mean: pure formats and arithmetic.
//!
//! Every decoder takes bytes that a disk gave and either returns a value that is whole or says
//! [`Damaged`]; none panics and none allocates more than its input allows. A metadata block is a
//! 512-byte inode or a 4 KiB page, never crosses a page, and begins with a magic number and its
//! `version::Version`; a block of zeros was never written and decodes as blank. Checksums are the disk's
//! business. Nothing here does I/O, waits, locks or knows the time.
//!
//! The order that keeps a scan of the whole volume cheap: whoever takes an allocation segment for
//! itself takes the *lowest* that is free. So the segments in use are dense: between two that were
//! written there are at most as many blank ones as there are mounts ([`geometry::LOG_SLOTS`]).

pub mod bitmap;
pub mod bytes;
pub mod dirpage;
pub mod geometry;
pub mod hash;
pub mod inode;
pub mod logheader;
pub mod record;
pub mod superblock;
pub mod text;
pub mod version;
pub mod xattrs;

/// Bytes of the disk that do not mean what they must.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("damaged {0}")]
pub struct Damaged(pub &'static str);
