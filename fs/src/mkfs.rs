//! Formats a volume: a root directory, then the superblock that says so.
//!
//! A formatted volume is never formatted again. Whoever calls this makes sure that nobody else
//! does so at the same time; who that is, is not known here.

use std::sync::Arc;

use blockstore::{Durability, Offset, PAGE, VirtualDisk};
use bytes::Bytes;
use world::World;

use crate::{
    error::Error,
    layout::{
        bitmap::Bitmap,
        geometry::{InodeNo, LOG_SLOTS, SUPERBLOCK},
        hash::HashKey,
        inode::{FileType, Inode, Stamp},
        superblock::{FORMAT, Superblock},
        version::Version,
    },
};

/// Whose the root directory is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Root {
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// The superblock of the volume on `disk`.
///
/// # Errors
/// If the volume is not formatted, or in a format that this program does not know.
pub async fn superblock(disk: &Arc<dyn VirtualDisk>) -> Result<Superblock, Error> {
    find(disk).await?.ok_or_else(|| {
        Error::Format("the volume has no file system yet: format it first".to_owned())
    })
}

/// Formats the volume on `disk`, unless it is: then it changes nothing. Returns the superblock and
/// whether it is new.
///
/// # Errors
/// If there is something else on the volume, or the disk fails.
pub async fn format(
    world: &World,
    disk: &Arc<dyn VirtualDisk>,
    root: Root,
) -> Result<(Superblock, bool), Error> {
    if let Some(superblock) = find(disk).await? {
        return Ok((superblock, false));
    }
    let wall = world.clock.wall();
    let birth = Stamp { seconds: wall.seconds, nanos: wall.nanos };
    let version = Version { grant: 0, counter: 1 };

    let mut inode =
        Inode::new(FileType::Directory.mode_bits() | (root.mode & 0o7777), root.uid, root.gid);
    inode.version = version;
    inode.links = 2;
    inode.parent = InodeNo::ROOT;
    inode.generation = 1;
    (inode.atime, inode.mtime, inode.ctime, inode.btime) = (birth, birth, birth, birth);
    put(disk, InodeNo::ROOT.address(), &inode.encode(), Durability::Later).await?;

    let mut map = Bitmap::blank();
    map.set_version(version);
    map.put(InodeNo::ROOT.index(), true);
    put(disk, InodeNo::ROOT.segment().inode_map(), map.bytes(), Durability::Later).await?;
    disk.flush().await?;

    let mut volume = [0; 16];
    world.dice.fill(&mut volume);
    let superblock = Superblock {
        format: FORMAT,
        volume: u128::from_le_bytes(volume),
        log_slots: LOG_SLOTS,
        hash_key: HashKey([world.dice.roll(), world.dice.roll()]),
        birth,
    };
    put(disk, SUPERBLOCK, &superblock.encode(), Durability::Now).await?;
    Ok((superblock, true))
}

async fn find(disk: &Arc<dyn VirtualDisk>) -> Result<Option<Superblock>, Error> {
    let found = Superblock::decode(&disk.read(SUPERBLOCK, PAGE).await?)?;
    match found {
        Some(superblock) if superblock.format != FORMAT => Err(Error::Format(format!(
            "the volume has format version {}, this program knows {FORMAT}: use the program that made it",
            superblock.format
        ))),
        found => Ok(found),
    }
}

async fn put(
    disk: &Arc<dyn VirtualDisk>,
    at: Offset,
    bytes: &[u8],
    when: Durability,
) -> Result<(), Error> {
    disk.write(at, vec![Bytes::copy_from_slice(bytes)], when).await?;
    Ok(())
}
