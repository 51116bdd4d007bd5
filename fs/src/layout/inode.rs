//! The inode: 512 bytes with attributes and either runs or the target of a short symlink.
//!
//! A freed inode keeps its place and its version with mode 0. What the runs hold, and the rules by
//! which attributes change, are not known here.

use blockstore::PAGE;

use super::{
    Damaged,
    bytes::{get_i64, get_u32, get_u64, put_i64, put_u32, put_u64},
    geometry::{INODE, InodeNo, LAST_FIRST_CLASS, MAX_SIZE, RUNS, Run, Use, run_class},
    version::{HEAD, Kind, Version, head, put_head},
};

const MODE: usize = HEAD;
const UID: usize = 28;
const GID: usize = 32;
const LINKS: usize = 36;
const SIZE: usize = 40;
const BLOCKS: usize = 48;
const ATIME: usize = 56;
const MTIME: usize = 68;
const CTIME: usize = 80;
const BTIME: usize = 92;
const GENERATION: usize = 104;
const FLAGS: usize = 108;
const DEVICE: usize = 112;
const QUOTA: usize = 116;
const PARENT: usize = 120;
const XATTRS: usize = 128;
const FIRST: usize = 136;
const BODY: usize = 160;

/// The longest symlink target that fits in the inode.
pub const SHORT_TARGET: usize = RUNS * 8;

const FLAG_SHORT_TARGET: u32 = 1;

/// The types of files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FileType {
    /// A named pipe.
    Fifo = 1,
    /// A character device.
    Character = 2,
    /// A directory.
    Directory = 4,
    /// A block device.
    Block = 6,
    /// A regular file.
    Regular = 8,
    /// A symbolic link.
    Symlink = 10,
    /// A socket.
    Socket = 12,
}

impl FileType {
    /// The type in the upper bits of `mode`.
    #[must_use]
    pub const fn of_mode(mode: u32) -> Option<Self> {
        Self::from_number((mode >> 12 & 0xff) as u8)
    }

    /// The type with this number, as in a directory entry.
    #[must_use]
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Fifo,
            2 => Self::Character,
            4 => Self::Directory,
            6 => Self::Block,
            8 => Self::Regular,
            10 => Self::Symlink,
            12 => Self::Socket,
            _ => return None,
        })
    }

    /// The bits of a mode that say it.
    #[must_use]
    pub const fn mode_bits(self) -> u32 {
        (self as u32) << 12
    }
}

/// A point of wall time: seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Stamp {
    /// Seconds; negative before 1970.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// The runs of an inode; `None` where nothing was written yet.
pub type Runs = [Option<Run>; RUNS];

/// What an inode holds besides attributes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// The runs of a file, a directory or a long symlink.
    Runs(Box<Runs>),
    /// The target of a symlink of at most [`SHORT_TARGET`] bytes.
    Target(Box<[u8]>),
}

impl Body {
    /// No runs.
    #[must_use]
    pub fn empty() -> Self {
        Self::Runs(Box::new([None; RUNS]))
    }
}

/// An inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    /// The metadata version of the block.
    pub version: Version,
    /// Type and permissions; 0 for a freed inode.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names; for a directory 2 and one for each directory in it.
    pub links: u32,
    /// Bytes of a file or a symlink's target; for a directory its entries.
    pub size: u64,
    /// Space in use, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Stamp,
    /// Last change of the content.
    pub mtime: Stamp,
    /// Last change of anything.
    pub ctime: Stamp,
    /// Birth.
    pub btime: Stamp,
    /// Grows each time the number is used again.
    pub generation: u32,
    /// Device number of a device.
    pub device: u32,
    /// The directory quota that it counts for; 0 if none.
    pub quota: u32,
    /// For a directory the one that holds it.
    pub parent: InodeNo,
    /// The page with extended attributes that do not fit.
    pub xattrs: Option<Run>,
    /// The class of the first run; the others follow from it.
    pub first_class: u8,
    /// Runs or target.
    pub body: Body,
}

impl Inode {
    /// A new inode of `mode`, without links, size, times or runs.
    #[must_use]
    pub fn new(mode: u32, uid: u32, gid: u32) -> Self {
        Self { mode, uid, gid, ..Self::freed(Version::ZERO, 0) }
    }

    /// A freed inode.
    #[must_use]
    pub fn freed(version: Version, generation: u32) -> Self {
        let zero = Stamp::default();
        Self {
            version,
            mode: 0,
            uid: 0,
            gid: 0,
            links: 0,
            size: 0,
            blocks: 0,
            atime: zero,
            mtime: zero,
            ctime: zero,
            btime: zero,
            generation,
            device: 0,
            quota: 0,
            parent: InodeNo(0),
            xattrs: None,
            first_class: 0,
            body: Body::empty(),
        }
    }

    /// Whether it is no file.
    #[must_use]
    pub const fn is_free(&self) -> bool {
        self.mode == 0
    }

    /// Its type; `None` if it is free.
    #[must_use]
    pub const fn file_type(&self) -> Option<FileType> {
        FileType::of_mode(self.mode)
    }

    /// Run `index`, if there is one.
    #[must_use]
    pub fn run(&self, index: usize) -> Option<Run> {
        match &self.body {
            Body::Runs(runs) => runs.get(index).copied().flatten(),
            Body::Target(_) => None,
        }
    }

    /// All its runs, with their places.
    pub fn runs(&self) -> impl Iterator<Item = (usize, Run)> + '_ {
        let runs: &[Option<Run>] = match &self.body {
            Body::Runs(runs) => runs.as_slice(),
            Body::Target(_) => &[],
        };
        runs.iter().enumerate().filter_map(|(index, run)| Some((index, (*run)?)))
    }

    /// Its block.
    #[must_use]
    pub fn encode(&self) -> [u8; INODE as usize] {
        let mut block = [0; INODE as usize];
        put_head(&mut block, Kind::Inode, self.version);
        put_u32(&mut block, MODE, self.mode);
        put_u32(&mut block, UID, self.uid);
        put_u32(&mut block, GID, self.gid);
        put_u32(&mut block, LINKS, self.links);
        put_u64(&mut block, SIZE, self.size);
        put_u64(&mut block, BLOCKS, self.blocks);
        for (at, stamp) in
            [(ATIME, self.atime), (MTIME, self.mtime), (CTIME, self.ctime), (BTIME, self.btime)]
        {
            put_i64(&mut block, at, stamp.seconds);
            put_u32(&mut block, at + 8, stamp.nanos);
        }
        put_u32(&mut block, GENERATION, self.generation);
        put_u32(&mut block, DEVICE, self.device);
        put_u32(&mut block, QUOTA, self.quota);
        put_u64(&mut block, PARENT, self.parent.0);
        put_u64(&mut block, XATTRS, self.xattrs.map_or(0, Run::number));
        block[FIRST] = self.first_class;
        match &self.body {
            Body::Runs(runs) => {
                for (i, run) in runs.iter().enumerate() {
                    put_u64(&mut block, BODY + 8 * i, run.map_or(0, Run::number));
                }
            }
            Body::Target(target) => {
                put_u32(&mut block, FLAGS, FLAG_SHORT_TARGET);
                let length = target.len().min(SHORT_TARGET);
                block[BODY..BODY + length].copy_from_slice(&target[..length]);
            }
        }
        block
    }

    /// The inode in `block`; `None` if it was never written. Freed inodes are returned.
    ///
    /// # Errors
    /// If it is no inode, or one that cannot be.
    pub fn decode(block: &[u8]) -> Result<Option<Self>, Damaged> {
        if block.len() != INODE as usize {
            return Err(Damaged("inode: not 512 bytes"));
        }
        let version = match head(block)? {
            None => return Ok(None),
            Some((Kind::Inode, version)) => version,
            Some(_) => return Err(Damaged("inode: another kind of block")),
        };
        let mut inode = Self::freed(version, get_u32(block, GENERATION));
        inode.mode = get_u32(block, MODE);
        inode.uid = get_u32(block, UID);
        inode.gid = get_u32(block, GID);
        inode.links = get_u32(block, LINKS);
        inode.size = get_u64(block, SIZE);
        inode.blocks = get_u64(block, BLOCKS);
        inode.atime = stamp(block, ATIME)?;
        inode.mtime = stamp(block, MTIME)?;
        inode.ctime = stamp(block, CTIME)?;
        inode.btime = stamp(block, BTIME)?;
        inode.device = get_u32(block, DEVICE);
        inode.quota = get_u32(block, QUOTA);
        inode.parent = InodeNo(get_u64(block, PARENT));
        inode.first_class = block[FIRST];
        let xattrs = get_u64(block, XATTRS);
        if xattrs != 0 {
            let run = Run::from_number(xattrs).ok_or(Damaged("inode: impossible xattr run"))?;
            inode.xattrs = Some(run);
        }
        inode.body = body(block, &inode)?;
        inode.check()?;
        Ok(Some(inode))
    }

    fn check(&self) -> Result<(), Damaged> {
        if self.is_free() {
            return Ok(());
        }
        let Some(kind) = self.file_type() else {
            return Err(Damaged("inode: no such file type"));
        };
        if self.size > MAX_SIZE {
            return Err(Damaged("inode: larger than a file can be"));
        }
        if kind == FileType::Directory && !self.parent.is_valid() {
            return Err(Damaged("inode: a directory whose parent cannot be"));
        }
        Ok(())
    }
}

fn stamp(block: &[u8], at: usize) -> Result<Stamp, Damaged> {
    let stamp = Stamp { seconds: get_i64(block, at), nanos: get_u32(block, at + 8) };
    if stamp.nanos < 1_000_000_000 { Ok(stamp) } else { Err(Damaged("inode: impossible time")) }
}

fn body(block: &[u8], inode: &Inode) -> Result<Body, Damaged> {
    if get_u32(block, FLAGS) & FLAG_SHORT_TARGET != 0 {
        if inode.size > SHORT_TARGET as u64 || inode.file_type() != Some(FileType::Symlink) {
            return Err(Damaged("inode: impossible short target"));
        }
        return Ok(Body::Target(block[BODY..BODY + inode.size as usize].into()));
    }
    if inode.first_class > LAST_FIRST_CLASS {
        return Err(Damaged("inode: no such first class"));
    }
    // What is in the inode for others is in metadata pages for these.
    let use_ = match inode.file_type() {
        Some(FileType::Directory | FileType::Symlink) => Use::Metadata,
        _ => Use::Data,
    };
    let mut runs: Runs = [None; RUNS];
    for (i, slot) in runs.iter_mut().enumerate() {
        let number = get_u64(block, BODY + 8 * i);
        if number == 0 {
            continue;
        }
        let run = Run::from_number(number).ok_or(Damaged("inode: impossible run"))?;
        // Long targets and the carcasses of directories may hold either use; files only data.
        let wrong_use = inode.file_type() == Some(FileType::Directory) && run.use_() != use_;
        if run.class() != run_class(inode.first_class, i) || wrong_use {
            return Err(Damaged("inode: a run of the wrong class"));
        }
        *slot = Some(run);
    }
    Ok(Body::Runs(Box::new(runs)))
}

/// Units of 512 bytes that `pages` pages are.
#[must_use]
pub const fn blocks_of_pages(pages: u64) -> u64 {
    pages * (PAGE / 512)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::layout::geometry::{SegmentNo, class_slots};

    fn sample(first: u8, slots: &[u32]) -> Inode {
        let mut inode = Inode::new(FileType::Regular.mode_bits() | 0o644, 1000, 1001);
        inode.version = Version { grant: 3, counter: 4 };
        inode.links = 1;
        inode.size = 12_345;
        inode.mtime = Stamp { seconds: -5, nanos: 999_999_999 };
        inode.first_class = first;
        let Body::Runs(runs) = &mut inode.body else { unreachable!() };
        for (i, slot) in slots.iter().enumerate() {
            let class = run_class(first, i);
            let segment = SegmentNo::new(i as u32 * 1000).unwrap();
            runs[i] = Run::new(Use::Data, class, segment, slot % class_slots(class));
        }
        inode
    }

    #[test]
    fn a_short_target_and_a_freed_inode_come_back() {
        let mut link = Inode::new(FileType::Symlink.mode_bits() | 0o777, 0, 0);
        link.size = 9;
        link.body = Body::Target((*b"../target").into());
        assert_eq!(Inode::decode(&link.encode()), Ok(Some(link)));
        let freed = Inode::freed(Version { grant: 1, counter: 1 }, 7);
        assert_eq!(Inode::decode(&freed.encode()), Ok(Some(freed)));
        assert_eq!(Inode::decode(&[0; 512]), Ok(None));
    }

    #[test]
    fn a_run_of_the_wrong_class_is_damage() {
        let mut inode = sample(2, &[1, 2, 3]);
        inode.first_class = 3;
        assert!(Inode::decode(&inode.encode()).is_err());
    }

    proptest! {
        #[test]
        fn inodes_come_back(
            first in 0..=LAST_FIRST_CLASS, slots in prop::collection::vec(any::<u32>(), 0..RUNS),
        ) {
            let inode = sample(first, &slots);
            prop_assert_eq!(Inode::decode(&inode.encode()), Ok(Some(inode)));
        }

        #[test]
        fn foreign_bytes_never_panic(at in 0..512_usize, noise in prop::collection::vec(any::<u8>(), 1..64)) {
            let mut block = sample(0, &[5, 6, 7]).encode();
            for (byte, noise) in block[at..].iter_mut().zip(noise) {
                *byte = noise;
            }
            let _ = Inode::decode(&block);
            let _ = Inode::decode(&block[..at]);
        }
    }
}
