//! Addresses by arithmetic: where each region, segment, inode, bitmap page and run lies on the
//! virtual disk, and which run holds a given byte of a file. Nothing is looked up.
//!
//! ```text
//! 0          superblock (one page)
//! 2^40       logs: 64 MiB for each of 256 slots
//! 2^44       per inode segment (8 KiB): inode bitmap page, orphan bitmap page
//! 2^45       per space segment (256 KiB): run bitmap pages, metadata classes then data classes
//! 2^48       inodes: 512 bytes each, 16 MiB a segment
//! (32+c)<<57 data runs of class c: 2 TiB a segment, slots of 4 KiB << c
//! (64+c)<<57 metadata runs of class c, likewise
//! ```
//!
//! What the blocks contain is in the sibling modules; who may touch them is decided by locks,
//! whose names are given here because they follow the same arithmetic.

use std::{fmt, num::NonZeroU64};

use blockstore::{Offset, PAGE};
use lockservice::{Name, Span};

/// Bytes of an inode.
pub const INODE: u64 = 512;
/// Segments of inodes, and of space.
pub const SEGMENTS: u32 = 1 << 16;
/// Bits of one bitmap page: inodes of a segment (the first is not used), or runs of a class.
pub const BITS: u32 = 32_256;
/// Slots for logs: no more mounts than this at one time.
pub const LOG_SLOTS: u32 = 256;
/// Bytes of a log slot, its header page included.
pub const LOG_SLOT: u64 = 64 << 20;
/// The largest class of runs: 1 TiB.
pub const LAST_CLASS: u8 = 28;
/// The largest class that the first run of a file can have: 1 MiB.
pub const LAST_FIRST_CLASS: u8 = 8;
/// Runs of an inode.
pub const RUNS: usize = 44;
/// The largest size of a file: 16 TiB.
pub const MAX_SIZE: u64 = 16 << 40;

const LOGS: u64 = 1 << 40;
const INODE_MAPS: u64 = 1 << 44;
const INODE_MAPS_STRIDE: u64 = 2 * PAGE;
const SPACE_MAPS: u64 = 1 << 45;
const SPACE_MAPS_STRIDE: u64 = 64 * PAGE;
const INODES: u64 = 1 << 48;
const INODES_STRIDE: u64 = 16 << 20;
const REGION_BITS: u32 = 57;
const RUN_SEGMENT_BITS: u32 = 41;

/// The kind of lock names for the volume as a whole. Index 0 is held while it is formatted.
pub const LOCK_VOLUME: u8 = 0;
/// Held shared by whoever takes an inode segment that nobody uses, exclusively by whoever must know all that are used.
pub const LOCK_TAKING_INODES: Name = Name::new(LOCK_VOLUME, 0, 1);
/// The same for space segments. Two names, because a mount may have to take space to write back what it has of inodes.
pub const LOCK_TAKING_SPACE: Name = Name::new(LOCK_VOLUME, 0, 2);
/// The kind of lock names for inode segments: index 0 is the bitmaps, index i inode i.
pub const LOCK_INODES: u8 = 1;
/// The kind of lock names for space segments: index 0 is the run bitmaps.
pub const LOCK_SPACE: u8 = 2;
/// The kind of lock names for log slots: segment 0, the index is the slot.
pub const LOCK_LOGS: u8 = 3;

/// The kind of lock names for open inodes: whoever has one open holds its name shared when its lock
/// is elsewhere, whoever frees it holds the name exclusively.
pub const LOCK_OPENS: u8 = 4;

/// Where the superblock lies.
pub const SUPERBLOCK: Offset = Offset(0);

/// An allocation segment, of inodes or of space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct SegmentNo(u16);

impl SegmentNo {
    /// Segment `number`; `None` if there are not so many.
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        u16::try_from(number).ok().map(Self)
    }

    /// Its number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0 as u32
    }

    /// The lock of the inode bitmap and the orphan bitmap of this inode segment.
    #[must_use]
    pub const fn inode_map_lock(self) -> Name {
        Name::new(LOCK_INODES, self.get(), 0)
    }

    /// The locks of this inode segment: its bitmaps and all its inodes.
    #[must_use]
    pub const fn inode_locks(self) -> Span {
        Span::segment(LOCK_INODES, self.get(), BITS)
    }

    /// The open names of all inodes of this segment.
    #[must_use]
    pub const fn open_locks(self) -> Span {
        Span::segment(LOCK_OPENS, self.get(), BITS)
    }

    /// The lock of the run bitmaps of this space segment.
    #[must_use]
    pub const fn space_lock(self) -> Name {
        Name::new(LOCK_SPACE, self.get(), 0)
    }

    /// The bitmap of inodes in use of this inode segment: bit i is inode i.
    #[must_use]
    pub const fn inode_map(self) -> Offset {
        Offset(INODE_MAPS + self.0 as u64 * INODE_MAPS_STRIDE)
    }

    /// The bitmap of inodes of this inode segment that have no name left: bit i is inode i.
    #[must_use]
    pub const fn orphan_map(self) -> Offset {
        Offset(self.inode_map().0 + PAGE)
    }

    /// The bitmap of runs of `class` in this space segment: bit i is slot i.
    ///
    /// # Panics
    /// If there is no such class.
    #[must_use]
    pub const fn run_map(self, use_: Use, class: u8) -> Offset {
        assert!(class <= LAST_CLASS, "no such class");
        let page = use_ as u64 * 32 + class as u64;
        Offset(SPACE_MAPS + self.0 as u64 * SPACE_MAPS_STRIDE + page * PAGE)
    }

    /// The run bitmap page that also speaks for the whole space segment (its flags).
    #[must_use]
    pub const fn space_head(self) -> Offset {
        self.run_map(Use::Metadata, 0)
    }
}

/// The number of an inode; the root directory is 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InodeNo(pub u64);

impl InodeNo {
    /// The root directory.
    pub const ROOT: Self = Self(1);

    /// Inode `index` of `segment`; `None` if there is no such index.
    #[must_use]
    pub fn new(segment: SegmentNo, index: u32) -> Option<Self> {
        (index > 0 && index < BITS)
            .then(|| Self((u64::from(segment.get()) << 24) | u64::from(index)))
    }

    /// Whether there can be such an inode: ask it of every number that comes from outside.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        let index = self.0 & 0x00ff_ffff;
        self.0 >> 24 < SEGMENTS as u64 && index > 0 && index < BITS as u64
    }

    /// Its segment.
    #[must_use]
    pub const fn segment(self) -> SegmentNo {
        SegmentNo((self.0 >> 24) as u16)
    }

    /// Its index in the segment.
    #[must_use]
    pub const fn index(self) -> u32 {
        (self.0 & 0x00ff_ffff) as u32
    }

    /// Its lock: data, attributes and directory entries.
    #[must_use]
    pub const fn lock(self) -> Name {
        Name::new(LOCK_INODES, self.segment().get(), self.index())
    }

    /// The lock that says who has it open, see [`LOCK_OPENS`].
    #[must_use]
    pub const fn open_lock(self) -> Name {
        Name::new(LOCK_OPENS, self.segment().get(), self.index())
    }

    /// The inode whose lock `name` is.
    #[must_use]
    pub fn of_lock(name: Name) -> Option<Self> {
        if name.kind() != LOCK_INODES {
            return None;
        }
        Self::new(SegmentNo::new(name.segment())?, name.index())
    }

    /// Where it lies.
    #[must_use]
    pub const fn address(self) -> Offset {
        Offset(INODES + self.segment().0 as u64 * INODES_STRIDE + self.index() as u64 * INODE)
    }
}

impl fmt::Debug for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "inode {self}")
    }
}

impl fmt::Display for InodeNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 24, self.index())
    }
}

/// The lock of log slot `slot`.
///
/// # Panics
/// If there is no such slot.
#[must_use]
pub const fn log_lock(slot: u32) -> Name {
    assert!(slot < LOG_SLOTS, "no such log slot");
    Name::new(LOCK_LOGS, 0, slot)
}

/// Where log slot `slot` begins.
///
/// # Panics
/// If there is no such slot.
#[must_use]
pub const fn log_start(slot: u32) -> Offset {
    assert!(slot < LOG_SLOTS, "no such log slot");
    Offset(LOGS + slot as u64 * LOG_SLOT)
}

/// What a run holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Use {
    /// Metadata pages: directories, long symlink targets, extended attributes. Their region never holds data and is never discarded.
    Metadata = 0,
    /// Bytes of files.
    Data = 1,
}

/// Bytes of a run of `class`.
#[must_use]
pub const fn class_bytes(class: u8) -> u64 {
    PAGE << class
}

/// Runs of `class` that a space segment has.
#[must_use]
pub const fn class_slots(class: u8) -> u32 {
    let fit = 1u64 << (RUN_SEGMENT_BITS - 12 - class as u32);
    if fit < BITS as u64 { fit as u32 } else { BITS }
}

/// The smallest first class that holds `size` bytes in one run, or the largest there is.
#[must_use]
pub const fn first_class(size: u64) -> u8 {
    let mut class = 0;
    while class < LAST_FIRST_CLASS && class_bytes(class) < size {
        class += 1;
    }
    class
}

/// A contiguous piece of the disk that belongs to one inode. As a number it is stored in inodes
/// and log records; zero there means none.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Run(NonZeroU64);

impl Run {
    const VALID: u64 = 1 << 63;

    /// The run in `slot` of `class`; `None` if there is no such class or slot.
    #[must_use]
    pub fn new(use_: Use, class: u8, segment: SegmentNo, slot: u32) -> Option<Self> {
        if class > LAST_CLASS || slot >= class_slots(class) {
            return None;
        }
        let number = Self::VALID
            | (use_ as u64) << 56
            | u64::from(class) << 48
            | u64::from(segment.get()) << 24
            | u64::from(slot);
        NonZeroU64::new(number).map(Self)
    }

    /// The run with this number; `None` if there can be none.
    #[must_use]
    pub fn from_number(number: u64) -> Option<Self> {
        let use_ = if number >> 56 & 1 == 0 { Use::Metadata } else { Use::Data };
        let segment = SegmentNo::new((number >> 24 & 0x00ff_ffff) as u32)?;
        let run =
            Self::new(use_, (number >> 48 & 0xff) as u8, segment, (number & 0x00ff_ffff) as u32)?;
        (run.number() == number).then_some(run)
    }

    /// The run as a number.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0.get()
    }

    /// What it holds.
    #[must_use]
    pub const fn use_(self) -> Use {
        if self.0.get() >> 56 & 1 == 0 { Use::Metadata } else { Use::Data }
    }

    /// Its class.
    #[must_use]
    pub const fn class(self) -> u8 {
        (self.0.get() >> 48 & 0xff) as u8
    }

    /// The space segment that it lies in.
    #[must_use]
    pub const fn segment(self) -> SegmentNo {
        SegmentNo((self.0.get() >> 24 & 0xffff) as u16)
    }

    /// Its slot: its bit in the bitmap of its class.
    #[must_use]
    pub const fn slot(self) -> u32 {
        (self.0.get() & 0x00ff_ffff) as u32
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        class_bytes(self.class())
    }

    /// Where it begins.
    #[must_use]
    pub const fn address(self) -> Offset {
        let region = match self.use_() {
            Use::Data => 32,
            Use::Metadata => 64,
        } + self.class() as u64;
        Offset(
            (region << REGION_BITS)
                | ((self.segment().0 as u64) << RUN_SEGMENT_BITS)
                | (self.slot() as u64 * self.bytes()),
        )
    }

    /// The bitmap page that has its bit.
    #[must_use]
    pub const fn map(self) -> Offset {
        self.segment().run_map(self.use_(), self.class())
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let use_ = if self.use_() == Use::Data { "data" } else { "metadata" };
        write!(f, "{use_} run {}.{}.{}", self.class(), self.segment().get(), self.slot())
    }
}

/// Where a byte of a file lies: the run's place in the inode, and the byte's place in the run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Which of the inode's runs.
    pub index: usize,
    /// Offset in the run.
    pub at: u64,
}

/// The class of run `index` of a file whose first run has class `first`.
#[must_use]
pub const fn run_class(first: u8, index: usize) -> u8 {
    let class = first as usize + index;
    if class < LAST_CLASS as usize { class as u8 } else { LAST_CLASS }
}

/// The offset in the file at which run `index` begins, if the first run has class `first`.
#[must_use]
pub const fn run_start(first: u8, index: usize) -> u64 {
    let doubling = (LAST_CLASS - first) as usize + 1;
    if index <= doubling {
        class_bytes(first) * ((1 << index) - 1)
    } else {
        class_bytes(first) * ((1 << doubling) - 1)
            + (index - doubling) as u64 * class_bytes(LAST_CLASS)
    }
}

/// The run that holds byte `offset` of a file whose first run has class `first`; `None` past the
/// largest file.
#[must_use]
pub const fn locate(first: u8, offset: u64) -> Option<Place> {
    if offset >= MAX_SIZE || first > LAST_FIRST_CLASS {
        return None;
    }
    let doubling = (LAST_CLASS - first) as usize + 1;
    let plain = run_start(first, doubling);
    let index = if offset < plain {
        (offset / class_bytes(first) + 1).ilog2() as usize
    } else {
        doubling + ((offset - plain) / class_bytes(LAST_CLASS)) as usize
    };
    Some(Place { index, at: offset - run_start(first, index) })
}

/// A metadata block, as its address tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// The inode bitmap of a segment.
    InodeMap(SegmentNo),
    /// The orphan bitmap of a segment.
    OrphanMap(SegmentNo),
    /// The run bitmap of a use and class of a space segment.
    RunMap(SegmentNo, Use, u8),
    /// An inode.
    Inode(InodeNo),
    /// A page of a metadata run.
    Page(Run, u64),
}

impl Block {
    /// The metadata block that begins at `at`; `None` if none does.
    #[must_use]
    pub fn at(at: Offset) -> Option<Self> {
        let region = at.0 >> REGION_BITS;
        if region >= 64 {
            let (class, inside) = ((region - 64) as u8, at.0 & ((1 << REGION_BITS) - 1));
            let segment = SegmentNo::new((inside >> RUN_SEGMENT_BITS) as u32)?;
            let inside = inside & ((1 << RUN_SEGMENT_BITS) - 1);
            if class > LAST_CLASS {
                return None;
            }
            let slot = u32::try_from(inside / class_bytes(class)).ok()?;
            let run = Run::new(Use::Metadata, class, segment, slot)?;
            let within = inside % class_bytes(class);
            return (within.is_multiple_of(PAGE)).then_some(Self::Page(run, within / PAGE));
        }
        if let Some(inside) = within(at, INODES, INODES_STRIDE) {
            let segment = SegmentNo::new((inside / INODES_STRIDE) as u32)?;
            let no = InodeNo::new(segment, (inside % INODES_STRIDE / INODE) as u32)?;
            return (no.address() == at).then_some(Self::Inode(no));
        }
        if !at.0.is_multiple_of(PAGE) {
            return None;
        }
        if let Some(inside) = within(at, SPACE_MAPS, SPACE_MAPS_STRIDE) {
            let segment = SegmentNo::new((inside / SPACE_MAPS_STRIDE) as u32)?;
            let page = inside % SPACE_MAPS_STRIDE / PAGE;
            let use_ = if page < 32 { Use::Metadata } else { Use::Data };
            let class = (page % 32) as u8;
            return (class <= LAST_CLASS).then_some(Self::RunMap(segment, use_, class));
        }
        let inside = within(at, INODE_MAPS, INODE_MAPS_STRIDE)?;
        let segment = SegmentNo::new((inside / INODE_MAPS_STRIDE) as u32)?;
        let orphans = inside % INODE_MAPS_STRIDE != 0;
        Some(if orphans { Self::OrphanMap(segment) } else { Self::InodeMap(segment) })
    }

    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        if let Self::Inode(_) = self { INODE as usize } else { PAGE as usize }
    }

    /// The lock that protects it, if the address alone tells: pages of runs belong to an inode.
    #[must_use]
    pub const fn lock(self) -> Option<Name> {
        match self {
            Self::InodeMap(segment) | Self::OrphanMap(segment) => Some(segment.inode_map_lock()),
            Self::RunMap(segment, _, _) => Some(segment.space_lock()),
            Self::Inode(no) => Some(no.lock()),
            Self::Page(..) => None,
        }
    }
}

/// How far `at` lies in the region from `start` with one `stride` a segment.
fn within(at: Offset, start: u64, stride: u64) -> Option<u64> {
    let inside = at.0.checked_sub(start)?;
    (inside < stride * u64::from(SEGMENTS)).then_some(inside)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_root_is_inode_1_and_regions_do_not_overlap() {
        assert_eq!(InodeNo::new(SegmentNo::default(), 1), Some(InodeNo::ROOT));
        let last = SegmentNo::new(SEGMENTS - 1).unwrap();
        assert!(log_start(LOG_SLOTS - 1).0 + LOG_SLOT <= SegmentNo::default().inode_map().0);
        assert!(last.orphan_map().0 + PAGE <= SegmentNo::default().space_head().0);
        let last_inode = InodeNo::new(last, BITS - 1).unwrap();
        assert!(last.run_map(Use::Data, LAST_CLASS).0 < InodeNo::ROOT.address().0);
        assert!(last_inode.address().0 < 32 << REGION_BITS);
        assert!(!InodeNo(0).is_valid() && !InodeNo(u64::MAX).is_valid());
    }

    #[test]
    fn the_largest_file_fits_whatever_its_first_class() {
        for first in 0..=LAST_FIRST_CLASS {
            let place = locate(first, MAX_SIZE - 1).unwrap();
            assert!(place.index < RUNS, "first class {first}");
            assert_eq!(locate(first, MAX_SIZE), None);
        }
        assert_eq!((first_class(0), first_class(4096), first_class(4097)), (0, 0, 1));
        assert_eq!(first_class(u64::MAX), LAST_FIRST_CLASS);
    }

    proptest! {
        #[test]
        fn every_byte_of_a_file_has_one_place(first in 0..=LAST_FIRST_CLASS, offset in 0..MAX_SIZE) {
            let place = locate(first, offset).unwrap();
            prop_assert_eq!(run_start(first, place.index) + place.at, offset);
            prop_assert!(place.at < class_bytes(run_class(first, place.index)));
            let end = run_start(first, place.index) + class_bytes(run_class(first, place.index));
            prop_assert_eq!(run_start(first, place.index + 1), end);
        }

        #[test]
        fn runs_come_back_from_numbers_and_addresses(
            data: bool, class in 0..=LAST_CLASS, segment in 0..SEGMENTS, slot: u32, page: u64,
        ) {
            let use_ = if data { Use::Data } else { Use::Metadata };
            let segment = SegmentNo::new(segment).unwrap();
            let run = Run::new(use_, class, segment, slot % class_slots(class)).unwrap();
            prop_assert_eq!(Run::from_number(run.number()), Some(run));
            prop_assert_eq!((run.use_(), run.class(), run.segment()), (use_, class, segment));
            let page = page % (run.bytes() / PAGE);
            let block = Block::at(Offset(run.address().0 + page * PAGE));
            prop_assert_eq!(block, (!data).then_some(Block::Page(run, page)));
            prop_assert_eq!(Block::at(run.map()), Some(Block::RunMap(segment, use_, class)));
        }

        #[test]
        fn inodes_come_back_from_locks_and_addresses(segment in 0..SEGMENTS, index in 1..BITS) {
            let segment = SegmentNo::new(segment).unwrap();
            let no = InodeNo::new(segment, index).unwrap();
            prop_assert!(no.is_valid());
            prop_assert_eq!(InodeNo::of_lock(no.lock()), Some(no));
            prop_assert!(segment.inode_locks().contains(no.lock()));
            prop_assert_eq!(Block::at(no.address()), Some(Block::Inode(no)));
            prop_assert_eq!(Block::at(Offset(no.address().0 + 8)), None);
            prop_assert_eq!(Block::at(segment.inode_map()), Some(Block::InodeMap(segment)));
            prop_assert_eq!(Block::at(segment.orphan_map()), Some(Block::OrphanMap(segment)));
        }

        #[test]
        fn foreign_numbers_never_panic(number: u64) {
            if let Some(run) = Run::from_number(number) {
                prop_assert_eq!(run.number(), number);
            }
            let _ = Block::at(Offset(number));
            let _ = InodeNo(number).is_valid();
        }
    }
}
