//! The file operations, in the words of POSIX. Each is atomic: other mounts see it whole or not
//! at all. Each is written as an attempt that first looks and then changes (see `tx`), and knows
//! nothing of waiting, of the log or of the disk.

mod attr;
mod file;
mod list;
mod look;
mod make;
mod remove;
mod rename;
mod space;
mod sync;
mod xattr;

use lockservice::Mode;
use world::{Time, Wall};

use crate::{
    attributes::{Attributes, Entry, InodeNo, Kind},
    layout::inode::{FileType, Inode, Stamp},
    tx::{After, Stop, Tx},
};

/// Bits of a mode besides the type.
const PERMISSIONS: u32 = 0o7777;
/// The setuid bit.
const SETUID: u32 = 0o4000;
/// The setgid bit.
const SETGID: u32 = 0o2000;

const fn wall(stamp: Stamp) -> Wall {
    Wall { seconds: stamp.seconds, nanos: stamp.nanos }
}

const fn stamp(wall: Wall) -> Stamp {
    Stamp { seconds: wall.seconds, nanos: wall.nanos }
}

/// A type of the layout in the words of the interface.
const fn kind_of(file_type: FileType) -> Kind {
    match file_type {
        FileType::Regular => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::Character => Kind::CharDevice,
        FileType::Block => Kind::BlockDevice,
    }
}

/// And the other way round.
const fn type_of(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::Regular,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::Character,
        Kind::BlockDevice => FileType::Block,
    }
}

fn attributes(ino: InodeNo, inode: &Inode, memory: Option<(u64, u64)>) -> Attributes {
    let directory = inode.file_type() == Some(FileType::Directory);
    // What was written and is on no run yet counts as if it were.
    let (size, dirty) = memory.unwrap_or((inode.size, 0));
    let grown = size.div_ceil(4096).saturating_sub(inode.size.div_ceil(4096));
    let coming = grown.min(dirty.div_ceil(4096)) * 8;
    Attributes {
        ino,
        generation: u64::from(inode.generation),
        kind: inode.file_type().map_or(Kind::File, kind_of),
        mode: inode.mode & PERMISSIONS,
        uid: inode.uid,
        gid: inode.gid,
        nlink: inode.links,
        // A directory's size is the number of its entries on the disk; people expect bytes.
        size: if directory { 4096.max(size * 32) } else { size },
        blocks: inode.blocks + if directory { 0 } else { coming },
        rdev: inode.device,
        atime: wall(inode.atime),
        mtime: wall(inode.mtime),
        ctime: wall(inode.ctime),
    }
}

impl Tx<'_> {
    /// The attributes of `ino`, which must not be free.
    fn entry(&mut self, ino: InodeNo, valid_until: Time) -> Result<Entry, Stop> {
        self.live(ino)?;
        let slot = self.state.inodes.get(&ino).filter(|slot| slot.has_data());
        let size = slot.map(|slot| (slot.size, slot.data.dirty()));
        let inode = self.inode(ino)?;
        Ok(Entry { attributes: attributes(ino, inode, size), valid_until })
    }

    /// `dir` got or lost a name: its times.
    fn dir_changed(&mut self, dir: InodeNo) -> Result<(), Stop> {
        let now = self.now();
        let inode = self.inode_mut(dir)?;
        (inode.mtime, inode.ctime) = (now, now);
        Ok(())
    }

    /// Takes one link away from `ino`, all of them if it is a directory; the last takes the inode.
    fn drop_link(&mut self, ino: InodeNo) -> Result<(), Stop> {
        let now = self.now();
        let inode = self.inode_mut(ino)?;
        inode.ctime = now;
        let directory = inode.file_type() == Some(FileType::Directory);
        inode.links = if directory { 0 } else { inode.links.saturating_sub(1) };
        if inode.links > 0 {
            return Ok(());
        }
        let bare = inode.runs().next().is_none() && inode.xattrs.is_none();
        let writing = self.state.inodes.get(&ino).is_some_and(|slot| slot.writing);
        let open = self.state.opens.contains_key(&ino);
        let (segment, lock) = (ino.segment(), ino.segment().inode_map_lock());
        if bare && !writing && !open && self.fs.is_sole(ino) {
            return self.free_inode(ino);
        }
        self.map_mut(segment.orphan_map(), lock)?.put(ino.index(), true);
        self.after.push(After::Nameless(ino));
        Ok(())
    }

    /// Frees an inode that has no runs any more.
    pub(crate) fn free_inode(&mut self, ino: InodeNo) -> Result<(), Stop> {
        let (segment, lock) = (ino.segment(), ino.segment().inode_map_lock());
        self.hold(ino.lock(), Mode::Exclusive)?;
        self.map_mut(segment.inode_map(), lock)?.put(ino.index(), false);
        if self.map(segment.orphan_map(), lock)?.get(ino.index()) {
            self.map_mut(segment.orphan_map(), lock)?.put(ino.index(), false);
        }
        let inode = self.inode_mut(ino)?;
        *inode = Inode::freed(inode.version, inode.generation);
        self.after.push(After::Freed(ino));
        Ok(())
    }
}
