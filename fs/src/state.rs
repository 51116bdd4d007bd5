//! What a mount keeps in memory, under one mutex: inodes, metadata pages, file pages, what of it
//! is changed and not on the disk, and which locks are on their way out.
//!
//! Nothing here waits or does I/O. Who may use what is asked in `tx`; how things get in and out
//! of memory is told in `load` and `writeout`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blockstore::Offset;
use bytes::Bytes;
use lockservice::Name;
use world::Time;

use crate::{
    cache::Key,
    data::{Delta, FilePages},
    error::Error,
    gate::Gates,
    layout::{
        bitmap::Bitmap,
        dirpage::DirPage,
        geometry::{InodeNo, SegmentNo, Use},
        hash::HashKey,
        inode::{FileType, Inode},
        record::Lsn,
        text::TextPage,
        version::Version,
    },
};

/// What an inode costs in memory, about.
pub(crate) const INODE_COST: u64 = 1024;
/// What a metadata page costs in memory, about.
pub(crate) const PAGE_COST: u64 = 4096 + 256;
/// What a changed metadata page takes in the log, at most.
pub(crate) const PAGE_CHANGE: u64 = 4096 + 64;

/// An inode in memory.
pub(crate) struct Slot {
    /// As it may be written to the log: runs and size of a file cover only flushed data.
    pub inode: Inode,
    /// The size of a file as everybody sees it.
    pub size: u64,
    /// File pages.
    pub data: FilePages,
    /// Changed since the last push of the log.
    pub changed: bool,
    /// A write-back of its data is under way; runs and size must not shrink meanwhile.
    pub writing: bool,
    /// Bytes past the end may be in its runs on the disk: discard them before the size grows.
    pub ragged: bool,
    /// It is in the queue of inodes with something to write back, under this number.
    pub dirty: Option<u64>,
    /// Used since the evictor last came by.
    pub touched: bool,
    /// Changes whenever what the disk holds for it may have changed, see `load`.
    pub stamp: u64,
    /// A write-back that failed and was told to nobody yet.
    pub failed: Option<Error>,
    /// Metadata pages of this inode in memory: they leave before it does.
    pub pages: u32,
}

impl Slot {
    /// Whether it is a regular file.
    pub(crate) fn has_data(&self) -> bool {
        self.inode.file_type() == Some(FileType::Regular)
    }

    /// Whether something must be written back.
    pub(crate) fn needs_write_back(&self) -> bool {
        self.data.dirty() > 0 || (self.has_data() && self.size != self.inode.size)
    }
}

/// The content of a metadata page.
#[derive(Clone)]
pub(crate) enum Content {
    /// A page of a directory.
    Directory(DirPage),
    /// A bitmap.
    Map(Bitmap),
    /// A long symlink target, or extended attributes.
    Text(TextPage),
}

impl Content {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Directory(page) => page.bytes(),
            Self::Map(map) => map.bytes(),
            Self::Text(page) => page.bytes(),
        }
    }

    /// Whether this is a bitmap that was never in the log and has no bit set.
    pub(crate) fn is_blank(&self) -> bool {
        matches!(self, Self::Map(map) if map.version() == Version::ZERO && map.count() == 0)
    }
}

/// A metadata page in memory.
pub(crate) struct Page {
    pub content: Content,
    /// The lock that protects it.
    pub lock: Name,
    /// What the log knows of it, if it was changed since and the log knows it at all.
    pub base: Option<Content>,
    pub changed: bool,
    pub touched: bool,
}

/// A metadata block that is in the log and not in place.
#[derive(Clone)]
pub(crate) struct Home {
    /// Where the first record of it begins that is not in place.
    pub lsn: Lsn,
    /// The lock that protects it.
    pub lock: Name,
    /// The block.
    pub image: Bytes,
}

/// Segments that this mount allocates from, and where it looks first.
#[derive(Default)]
pub(crate) struct Segments {
    pub inodes: Option<SegmentNo>,
    pub inode_hint: u32,
    pub space: Option<SegmentNo>,
    pub run_hints: BTreeMap<(Use, u8), u32>,
    /// Runs that a write-back took and whose bits are not set yet, by bitmap page and bit.
    pub reserved: BTreeSet<(Offset, u32)>,
}

/// Counters.
#[derive(Default)]
pub(crate) struct Counters {
    pub operations: u64,
    pub waits: u64,
    pub pushes: u64,
    pub revocations: u64,
}

/// Everything under the mutex.
pub(crate) struct State {
    pub hash_key: HashKey,
    /// Why every call fails from now on.
    pub dead: Option<Error>,
    /// No operation is admitted any more, write-out goes on.
    pub closing: bool,
    pub inodes: BTreeMap<InodeNo, Slot>,
    pub pages: BTreeMap<Offset, Page>,
    /// Blocks in the log, not in place; those being written right now are in `homing`.
    pub home: BTreeMap<Offset, Home>,
    pub homing: BTreeMap<Offset, Home>,
    /// Moves on whenever metadata was written in place: a read that began before is not kept.
    pub homed: u64,
    /// Beats since there was something to write in place.
    pub home_beats: u64,
    pub changed_inodes: Vec<InodeNo>,
    pub changed_pages: Vec<Offset>,
    /// Bytes that the changes will take in the log, at most.
    pub changed_bytes: u64,
    /// Number of the last change.
    pub serial: u64,
    /// The changes up to this one are in the log on the disk.
    pub pushed: u64,
    /// Counter of metadata versions.
    pub versions: u64,
    /// Files with something to write back, oldest first, and since when.
    pub dirty: BTreeMap<u64, (InodeNo, Time)>,
    pub dirty_bytes: u64,
    /// Bytes of inodes, pages and file pages in memory.
    pub cached: u64,
    pub clock: VecDeque<Key>,
    /// Keys of the clock that a sweep has still to look at, and how many were left by the last.
    pub sweep: usize,
    pub swept: usize,
    pub next_number: u64,
    pub gates: Gates,
    pub segments: Segments,
    /// Write-backs under way.
    pub jobs: u32,
    /// Locks of the bitmaps that are about to be changed by what is being freed: it was begun under them and will be
    /// ended under them, so a revocation of one waits.
    pub freeing: BTreeSet<Name>,
    /// Files that were renamed while something of them was not written back: the next record waits for it, so
    /// that no crash shows the new name with nothing behind it.
    pub renamed: BTreeSet<InodeNo>,
    /// The log waits for those: renaming another such file waits for its write-back, or the log never had its turn.
    pub catching_up: bool,
    /// Inodes without a name that nobody here has open.
    pub orphans: BTreeSet<InodeNo>,
    /// Those that another mount has open, and when to look again.
    pub elsewhere: BTreeMap<InodeNo, Time>,
    /// Files whose runs past the end can be given back.
    pub trims: BTreeSet<InodeNo>,
    /// References that the kernel has.
    pub lookups: BTreeMap<InodeNo, u64>,
    /// Open handles on this mount. They outlive a lock, and with it the inode in memory.
    pub opens: BTreeMap<InodeNo, u32>,
    /// Of these, those that may be mapped for writing.
    pub mapped: BTreeMap<InodeNo, u32>,
    /// Write-backs that failed, of inodes that are open here and whose lock has gone since.
    pub untold: BTreeMap<InodeNo, Error>,
    /// Bytes that may be dirtied before the disk is asked for more space: what it granted, less what is dirty.
    pub credit: u64,
    /// Bytes that files have got on the disk since it was asked last.
    pub spent: u64,
    /// The disk granted something that was not given back, and some of it was used lately.
    pub granted: bool,
    pub drawn: bool,
    /// Beats since the grant was last looked at.
    pub grant_beats: u32,
    /// The disk has no room for metadata; write-out tries again until it has.
    pub full: bool,
    /// Open inodes whose last name went on this mount.
    pub nameless: BTreeSet<InodeNo>,
    pub counters: Counters,
}

impl State {
    pub(crate) fn new() -> Self {
        Self {
            hash_key: HashKey([0, 0]),
            dead: None,
            closing: false,
            inodes: BTreeMap::new(),
            pages: BTreeMap::new(),
            home: BTreeMap::new(),
            homing: BTreeMap::new(),
            homed: 0,
            home_beats: 0,
            changed_inodes: Vec::new(),
            changed_pages: Vec::new(),
            changed_bytes: 0,
            serial: 0,
            pushed: 0,
            versions: 0,
            dirty: BTreeMap::new(),
            dirty_bytes: 0,
            cached: 0,
            clock: VecDeque::new(),
            sweep: 0,
            swept: 0,
            next_number: 1,
            gates: Gates::default(),
            segments: Segments::default(),
            jobs: 0,
            freeing: BTreeSet::new(),
            renamed: BTreeSet::new(),
            catching_up: false,
            orphans: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            trims: BTreeSet::new(),
            lookups: BTreeMap::new(),
            opens: BTreeMap::new(),
            mapped: BTreeMap::new(),
            untold: BTreeMap::new(),
            credit: 0,
            spent: 0,
            granted: false,
            drawn: false,
            grant_beats: 0,
            full: false,
            nameless: BTreeSet::new(),
            counters: Counters::default(),
        }
    }

    /// A number that was not given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    /// Puts an inode into memory that was not there.
    pub(crate) fn add_inode(&mut self, ino: InodeNo, inode: Inode, fresh: bool) -> &mut Slot {
        let stamp = self.number();
        self.cached += INODE_COST;
        self.clock.push_back(Key::Inode(ino));
        let ragged = !fresh && inode.runs().next().is_some();
        let slot = Slot {
            size: inode.size,
            inode,
            data: FilePages::default(),
            changed: false,
            writing: false,
            ragged,
            dirty: None,
            touched: true,
            stamp,
            failed: None,
            pages: 0,
        };
        self.inodes.entry(ino).or_insert(slot)
    }

    /// Puts a metadata page into memory that was not there. A page of a directory that is not in
    /// memory itself is not kept: `false`.
    pub(crate) fn add_page(&mut self, at: Offset, content: Content, lock: Name) -> bool {
        if let Some(ino) = InodeNo::of_lock(lock) {
            match self.inodes.get_mut(&ino) {
                Some(slot) => slot.pages += 1,
                None => return false,
            }
        }
        self.cached += PAGE_COST;
        self.clock.push_back(Key::Page(at));
        let page = Page { content, lock, base: None, changed: false, touched: true };
        self.pages.insert(at, page);
        true
    }

    /// Takes a metadata page out of memory.
    pub(crate) fn remove_page(&mut self, at: Offset) {
        let Some(page) = self.pages.remove(&at) else { return };
        self.cached -= PAGE_COST;
        if let Some(slot) = InodeNo::of_lock(page.lock).and_then(|ino| self.inodes.get_mut(&ino)) {
            slot.pages -= 1;
        }
    }

    /// A block is in the log and is to be written in place. If an earlier image of it waits for that, too, the log must
    /// keep the earlier record: the later one says only what has changed since.
    pub(crate) fn go_home(&mut self, at: Offset, home: Home) {
        let lsn = self.home.get(&at).map_or(home.lsn, |earlier| earlier.lsn);
        self.home.insert(at, Home { lsn, ..home });
    }

    /// The block at `at`, if the log has it and its place has not.
    pub(crate) fn in_log(&self, at: Offset) -> Option<&Bytes> {
        self.home.get(&at).or_else(|| self.homing.get(&at)).map(|home| &home.image)
    }

    /// Notes that an inode that is in memory was changed.
    pub(crate) fn inode_changed(&mut self, ino: InodeNo) {
        self.serial += 1;
        if let Some(slot) = self.inodes.get_mut(&ino)
            && !slot.changed
        {
            slot.changed = true;
            self.changed_inodes.push(ino);
            self.changed_bytes += 576;
        }
    }

    /// Notes that a page that is in memory was changed; `base` is how it was before.
    pub(crate) fn page_changed(&mut self, at: Offset, base: Option<Content>) {
        self.serial += 1;
        if let Some(page) = self.pages.get_mut(&at)
            && !page.changed
        {
            page.changed = true;
            page.base = base;
            self.changed_pages.push(at);
            self.changed_bytes += PAGE_CHANGE;
        }
    }

    /// Brings the queue of files with something to write back up to date for `ino`.
    pub(crate) fn note_dirty(&mut self, ino: InodeNo, now: Time) {
        let number = self.next_number + 1;
        let Some(slot) = self.inodes.get_mut(&ino) else { return };
        match (slot.needs_write_back(), slot.dirty) {
            (true, None) => {
                self.next_number = number;
                slot.dirty = Some(number);
                self.dirty.insert(number, (ino, now));
            }
            (false, Some(number)) => {
                slot.dirty = None;
                self.dirty.remove(&number);
            }
            _ => {}
        }
    }

    /// Accounts for a change of file pages.
    pub(crate) fn account(&mut self, delta: Delta) {
        self.cached = self.cached.saturating_add_signed(delta.bytes);
        self.dirty_bytes = self.dirty_bytes.saturating_add_signed(delta.dirty);
    }

    /// The metadata pages of `inode` as ranges of addresses.
    pub(crate) fn page_ranges(inode: &Inode) -> Vec<(Offset, Offset)> {
        inode
            .runs()
            .map(|(_, run)| run)
            .chain(inode.xattrs)
            .filter(|run| run.use_() == Use::Metadata)
            .map(|run| (run.address(), Offset(run.address().0 + run.bytes())))
            .collect()
    }

    /// Forgets the metadata pages between two addresses, changed or not.
    pub(crate) fn drop_pages(&mut self, from: Offset, to: Offset) {
        let gone: Vec<Offset> = self.pages.range(from..to).map(|(at, _)| *at).collect();
        for at in gone {
            self.remove_page(at);
        }
    }

    /// Forgets an inode and its pages, whatever state they are in.
    pub(crate) fn drop_inode(&mut self, ino: InodeNo) {
        let Some(slot) = self.inodes.get(&ino) else { return };
        for (from, to) in Self::page_ranges(&slot.inode) {
            self.drop_pages(from, to);
        }
        let Some(slot) = self.inodes.remove(&ino) else { return };
        self.cached -= INODE_COST + slot.data.bytes();
        self.dirty_bytes -= slot.data.dirty();
        if let Some(number) = slot.dirty {
            self.dirty.remove(&number);
        }
        if let Some(error) = slot.failed
            && self.opens.contains_key(&ino)
        {
            self.untold.insert(ino, error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by a simulated cluster (`sim fs`, seed 42): a block was logged twice while others were written in place,
    /// and the log was cut before its second record, which was worth nothing without the first.
    #[test]
    fn the_log_is_kept_from_the_first_record_of_a_block_that_is_not_in_place() {
        let mut state = State::new();
        let (at, lock) = (Offset(4096), Name::new(1, 0, 1));
        let home = |lsn, byte| Home { lsn: Lsn(lsn), lock, image: Bytes::from(vec![byte; 8]) };
        state.go_home(at, home(100, 1));
        state.go_home(at, home(200, 2));
        assert_eq!(state.home[&at].lsn, Lsn(100));
        assert_eq!(state.home[&at].image[0], 2);
        // On its way now: what is logged from here on is on top of that.
        state.homing = std::mem::take(&mut state.home);
        state.go_home(at, home(300, 3));
        assert_eq!(state.home[&at].lsn, Lsn(300));
    }
}
