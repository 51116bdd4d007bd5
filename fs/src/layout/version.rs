//! The version that every metadata block carries, and the head of a block that holds it.
//!
//! A version is (highest grant number given to the session, counter growing over the session), so
//! versions never fall from one holder of a block's lock to the next, and a fresh block can be
//! written without reading what was there. Who gives grants is not known here.

use super::{
    Damaged,
    bytes::{get_u32, get_u64, put_u32, put_u64},
};

/// A metadata version; of two, replay keeps the larger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Version {
    /// The newest exclusive grant of the session that made the change.
    pub grant: u64,
    /// How many changes the session had made.
    pub counter: u64,
}

impl Version {
    /// The version of a block that was never written.
    pub const ZERO: Self = Self { grant: 0, counter: 0 };
}

/// What a metadata block is: the first four bytes of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Kind {
    /// An inode, in use or freed.
    Inode = 0x504c_5501,
    /// A page of a directory.
    Directory = 0x504c_5502,
    /// A bitmap page: inodes, orphans or runs.
    Bitmap = 0x504c_5503,
    /// A page that was part of a freed metadata run.
    Freed = 0x504c_5504,
    /// A page with other bytes: a long symlink target, extended attributes.
    Text = 0x504c_5505,
}

/// Bytes of the head of a metadata block.
pub const HEAD: usize = 24;

/// What the head of `block` says: its kind and version, or `None` for a block never written.
///
/// # Errors
/// If it is no metadata block.
pub fn head(block: &[u8]) -> Result<Option<(Kind, Version)>, Damaged> {
    if block.len() < HEAD {
        return Err(Damaged("metadata block: too short"));
    }
    let version = Version { grant: get_u64(block, 8), counter: get_u64(block, 16) };
    let kind = match get_u32(block, 0) {
        0 if version == Version::ZERO => return Ok(None),
        n if n == Kind::Inode as u32 => Kind::Inode,
        n if n == Kind::Directory as u32 => Kind::Directory,
        n if n == Kind::Bitmap as u32 => Kind::Bitmap,
        n if n == Kind::Freed as u32 => Kind::Freed,
        n if n == Kind::Text as u32 => Kind::Text,
        _ => return Err(Damaged("metadata block: no such kind")),
    };
    Ok(Some((kind, version)))
}

/// The version of `block`; [`Version::ZERO`] if it was never written.
///
/// # Errors
/// If it is no metadata block.
pub fn version_of(block: &[u8]) -> Result<Version, Damaged> {
    Ok(head(block)?.map_or(Version::ZERO, |(_, version)| version))
}

/// Writes the head of a metadata block.
///
/// # Panics
/// If `block` is shorter than [`HEAD`].
pub fn put_head(block: &mut [u8], kind: Kind, version: Version) {
    put_u32(block, 0, kind as u32);
    put_u32(block, 4, 0);
    put_u64(block, 8, version.grant);
    put_u64(block, 16, version.counter);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_grant_first() {
        let old = Version { grant: 1, counter: 900 };
        let new = Version { grant: 2, counter: 3 };
        assert!(Version::ZERO < old && old < new);
    }

    #[test]
    fn a_head_comes_back_and_zeros_are_blank_and_noise_is_damage() {
        let mut block = [0; 512];
        assert_eq!(head(&block), Ok(None));
        let version = Version { grant: 7, counter: 9 };
        put_head(&mut block, Kind::Directory, version);
        assert_eq!(head(&block), Ok(Some((Kind::Directory, version))));
        block[0] ^= 0xff;
        assert!(head(&block).is_err() && head(&block[..9]).is_err());
    }
}
