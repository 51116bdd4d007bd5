//! The first pass of a check: inode bitmaps, orphan bitmaps and every inode. What names them is
//! not known yet.

use blockstore::{Offset, PAGE};

use super::{Check, Finding, Node};
use crate::{
    error::Error,
    layout::{
        bitmap::Bitmap,
        geometry::{BITS, INODE, InodeNo, LOG_SLOTS, SEGMENTS, SegmentNo, run_start},
        inode::{FileType, Inode},
    },
};

/// Segments whose bitmaps are read at a time.
const BATCH: u32 = 128;
/// Inodes read past the last whose bit is set, to find some whose bit is wrongly clear.
const BEYOND: u32 = 256;
/// Inodes read at a time.
const INODES: u32 = 2048;

impl Check<'_> {
    /// Looks at every inode segment until there were so many blank ones that no used one can
    /// follow.
    pub(super) async fn inodes(&mut self) -> Result<(), Error> {
        let mut blank = 0;
        let mut at = 0;
        while at < SEGMENTS && blank <= LOG_SLOTS {
            self.rest.inodes(at..at + BATCH).await?;
            let start = segment(at).inode_map();
            let pages = self.disk.read(start, u64::from(BATCH) * 2 * PAGE).await?;
            for (i, maps) in pages.chunks_exact(2 * PAGE as usize).enumerate() {
                let segment = segment(at + i as u32);
                let (map, orphans) = maps.split_at(PAGE as usize);
                let map = self.bitmap(segment.inode_map(), map);
                let orphans = self.bitmap(segment.orphan_map(), orphans);
                if map.count() == 0 && orphans.count() == 0 {
                    blank += 1;
                } else {
                    blank = 0;
                    self.report.counts.inode_segments += 1;
                    self.segment(segment, &map, &orphans).await?;
                }
            }
            at += BATCH;
        }
        Ok(())
    }

    pub(super) fn bitmap(&mut self, at: Offset, page: &[u8]) -> Bitmap {
        Bitmap::decode(page).unwrap_or_else(|damaged| {
            self.report.add(Finding::BadBlock { at, what: damaged.0 });
            Bitmap::blank()
        })
    }

    async fn segment(
        &mut self,
        segment: SegmentNo,
        map: &Bitmap,
        orphans: &Bitmap,
    ) -> Result<(), Error> {
        let last = map.ones().chain(orphans.ones()).max().unwrap_or(0);
        let end = (last + BEYOND).min(BITS - 1).next_multiple_of(8).min(BITS);
        let mut at = 0;
        while at < end {
            let count = INODES.min(end - at);
            let first = Offset(start(segment).0 + u64::from(at) * INODE);
            let bytes = self.disk.read(first, u64::from(count) * INODE).await?;
            for (i, block) in bytes.chunks_exact(INODE as usize).enumerate() {
                let index = at + i as u32;
                if let Some(ino) = InodeNo::new(segment, index) {
                    self.inode(ino, block, map.get(index), orphans.get(index));
                }
            }
            at += count;
        }
        Ok(())
    }

    fn inode(&mut self, ino: InodeNo, block: &[u8], marked: bool, orphan: bool) {
        let inode = match Inode::decode(block) {
            Ok(inode) => inode.filter(|inode| !inode.is_free()),
            Err(damaged) => return self.report.add(Finding::BadInode { ino, what: damaged.0 }),
        };
        let Some(inode) = inode else {
            if marked {
                self.report.add(Finding::FreeInMap { ino });
            }
            if orphan {
                self.report.add(Finding::OrphanFree { ino });
            }
            return;
        };
        if !marked {
            self.report.add(Finding::NotInMap { ino });
        }
        let Some(kind) = inode.file_type() else { return };
        self.count(&inode, kind, orphan);
        self.runs_of(ino, &inode, kind);
        let node = Node {
            kind,
            links: inode.links,
            parent: inode.parent,
            orphan,
            names: 0,
            subdirectories: 0,
            named_in: None,
        };
        self.nodes.insert(ino, node);
    }

    fn count(&mut self, inode: &Inode, kind: FileType, orphan: bool) {
        let counts = &mut self.report.counts;
        counts.orphans += u64::from(orphan);
        match kind {
            FileType::Regular => {
                counts.files += 1;
                counts.bytes += inode.size;
            }
            FileType::Directory => counts.directories += 1,
            FileType::Symlink => counts.symlinks += 1,
            _ => counts.others += 1,
        }
    }

    fn runs_of(&mut self, ino: InodeNo, inode: &Inode, kind: FileType) {
        let mut by_depth = Vec::new();
        for (index, run) in inode.runs() {
            self.report.counts.runs += 1;
            if let Some(one) = self.runs.insert(run, ino) {
                self.report.add(Finding::RunTwice { run, one, other: ino });
            }
            if kind == FileType::Directory {
                by_depth.resize(index, None);
                by_depth.push(Some(run));
            } else if run_start(inode.first_class, index) >= inode.size.max(1) {
                self.report.add(Finding::RunPastEnd { run, ino });
            }
        }
        if let Some(run) = inode.xattrs
            && let Some(one) = self.runs.insert(run, ino)
        {
            self.report.add(Finding::RunTwice { run, one, other: ino });
        }
        if kind == FileType::Directory {
            self.directories.insert(ino, by_depth);
        }
    }
}

/// The address of the inode with index 0, which no inode has.
fn start(segment: SegmentNo) -> Offset {
    let first = InodeNo::new(segment, 1).expect("1 is an index");
    Offset(first.address().0 - INODE)
}

pub(super) fn segment(number: u32) -> SegmentNo {
    SegmentNo::new(number).expect("the caller counts up to the number of segments")
}
