//! The pages of one file in memory, and where they lie on the disk. Pure: what is missing is
//! returned, loading it is the business of `load`, writing it back that of `writeout`.

use std::collections::{BTreeMap, btree_map::Entry};

use blockstore::{Offset, PAGE};
use bytes::Bytes;

use crate::layout::{
    geometry::{locate, run_start},
    inode::Inode,
};

/// What a file page costs in memory besides its bytes, about.
const OVERHEAD: u64 = 128;

/// A page of zeros.
pub(crate) static ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];

/// A page of a file. Bytes that are missing at its end are zeros.
pub(crate) struct FilePage {
    pub bytes: Bytes,
    /// The number of the write that made it dirty; `None` if the disk has it.
    pub dirty: Option<u64>,
    /// Its key in the evictor's clock.
    pub key: u64,
    pub touched: bool,
}

impl FilePage {
    fn cost(&self) -> u64 {
        cost(&self.bytes)
    }
}

fn cost(bytes: &Bytes) -> u64 {
    bytes.len() as u64 + OVERHEAD
}

/// How much the size of something counted changed.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Delta {
    pub bytes: i64,
    pub dirty: i64,
}

/// The pages of a file that are in memory.
#[derive(Default)]
pub(crate) struct FilePages {
    pages: BTreeMap<u64, FilePage>,
    bytes: u64,
    dirty: u64,
    /// Where a sequential reader would go on, and how far to load ahead of it.
    pub next_read: u64,
    pub window: u64,
}

impl FilePages {
    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of memory of dirty pages.
    pub(crate) fn dirty(&self) -> u64 {
        self.dirty
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(crate) fn get(&self, page: u64) -> Option<&FilePage> {
        self.pages.get(&page)
    }

    pub(crate) fn get_mut(&mut self, page: u64) -> Option<&mut FilePage> {
        self.pages.get_mut(&page)
    }

    /// Puts a page in place, dirty or as the disk has it; one that was not there gets `key`.
    pub(crate) fn put(&mut self, page: u64, bytes: Bytes, dirty: Option<u64>, key: u64) -> Delta {
        let (old_bytes, old_dirty) = (self.bytes, self.dirty);
        let key = self.pages.get(&page).map_or(key, |page| page.key);
        let new = FilePage { bytes, dirty, key, touched: true };
        self.bytes += new.cost();
        if dirty.is_some() {
            self.dirty += new.cost();
        }
        if let Some(old) = self.pages.insert(page, new) {
            self.bytes -= old.cost();
            if old.dirty.is_some() {
                self.dirty -= old.cost();
            }
        }
        self.delta(old_bytes, old_dirty)
    }

    /// Puts a page in place that the disk gave, unless there is one.
    pub(crate) fn put_loaded(&mut self, page: u64, bytes: Bytes, key: u64) -> Option<Delta> {
        (!self.pages.contains_key(&page)).then(|| self.put(page, bytes, None, key))
    }

    /// The disk has what write number `number` made of `page`.
    pub(crate) fn written(&mut self, page: u64, number: u64) -> Delta {
        let old = self.dirty;
        if let Some(page) = self.pages.get_mut(&page)
            && page.dirty == Some(number)
        {
            page.dirty = None;
            self.dirty -= page.cost();
        }
        self.delta(self.bytes, old)
    }

    /// Removes a page if it is clean.
    pub(crate) fn evict(&mut self, page: u64) -> Option<Delta> {
        let (old_bytes, old_dirty) = (self.bytes, self.dirty);
        let Entry::Occupied(entry) = self.pages.entry(page) else { return None };
        if entry.get().dirty.is_some() {
            return None;
        }
        self.bytes -= entry.remove().cost();
        Some(self.delta(old_bytes, old_dirty))
    }

    /// Removes everything from byte `size` on.
    pub(crate) fn cut(&mut self, size: u64) -> Delta {
        let (old_bytes, old_dirty) = (self.bytes, self.dirty);
        for page in self.pages.split_off(&size.div_ceil(PAGE)).into_values() {
            self.bytes -= page.cost();
            if page.dirty.is_some() {
                self.dirty -= page.cost();
            }
        }
        let keep = (size % PAGE) as usize;
        if keep > 0
            && let Some(page) = self.pages.get_mut(&(size / PAGE))
            && page.bytes.len() > keep
        {
            let gone = (page.bytes.len() - keep) as u64;
            page.bytes.truncate(keep);
            self.bytes -= gone;
            if page.dirty.is_some() {
                self.dirty -= gone;
            }
        }
        self.delta(old_bytes, old_dirty)
    }

    /// Removes the pages of a range, dirty or not.
    pub(crate) fn remove(&mut self, range: std::ops::Range<u64>) -> Delta {
        let (old_bytes, old_dirty) = (self.bytes, self.dirty);
        let gone: Vec<u64> = self.pages.range(range).map(|(page, _)| *page).collect();
        for page in gone {
            let Some(page) = self.pages.remove(&page) else { continue };
            self.bytes -= page.cost();
            if page.dirty.is_some() {
                self.dirty -= page.cost();
            }
        }
        self.delta(old_bytes, old_dirty)
    }

    /// The clean pages of a range.
    pub(crate) fn clean_in(&self, range: std::ops::Range<u64>) -> Vec<u64> {
        let clean = self.pages.range(range).filter(|(_, page)| page.dirty.is_none());
        clean.map(|(page, _)| *page).collect()
    }

    /// The first dirty page from `page` on.
    pub(crate) fn next_dirty(&self, page: u64) -> Option<u64> {
        self.pages.range(page..).find(|(_, page)| page.dirty.is_some()).map(|(page, _)| *page)
    }

    /// Removes everything.
    pub(crate) fn clear(&mut self) -> Delta {
        let delta = Delta { bytes: -(self.bytes as i64), dirty: -(self.dirty as i64) };
        self.pages.clear();
        (self.bytes, self.dirty) = (0, 0);
        delta
    }

    /// The dirty pages: place, bytes, number of the write.
    pub(crate) fn dirty_pages(&self) -> impl Iterator<Item = (u64, &Bytes, u64)> {
        self.pages.iter().filter_map(|(page, p)| Some((*page, &p.bytes, p.dirty?)))
    }

    fn delta(&self, bytes: u64, dirty: u64) -> Delta {
        Delta { bytes: self.bytes as i64 - bytes as i64, dirty: self.dirty as i64 - dirty as i64 }
    }
}

/// `length` bytes of a page from `from` on.
pub(crate) fn slice(bytes: &Bytes, from: usize, length: usize, out: &mut Vec<Bytes>) {
    let have = bytes.len().saturating_sub(from).min(length);
    if have > 0 {
        out.push(bytes.slice(from..from + have));
    }
    if have < length {
        out.push(Bytes::from_static(&ZEROS).slice(..length - have));
    }
}

/// `page` with `data` put in at `from`.
pub(crate) fn patch(page: &[u8], from: usize, data: &[u8]) -> Bytes {
    let mut new = vec![0; page.len().max(from + data.len())];
    new[..page.len()].copy_from_slice(page);
    new[from..from + data.len()].copy_from_slice(data);
    new.into()
}

/// Where page `page` of a file lies; `None` if its run was not allocated yet.
pub(crate) fn address(inode: &Inode, page: u64) -> Option<Offset> {
    let place = locate(inode.first_class, page * PAGE)?;
    Some(Offset(inode.run(place.index)?.address().0 + place.at))
}

/// Whether the disk may have bytes for `page`: below the size that the log knows, and in a run.
pub(crate) fn on_disk(inode: &Inode, page: u64) -> bool {
    page < inode.size.div_ceil(PAGE) && address(inode, page).is_some()
}

/// The stretches of disk that hold bytes of a file from `offset` on, to the end of its runs.
pub(crate) fn runs_from(inode: &Inode, offset: u64) -> Vec<(Offset, u64)> {
    runs_within(inode, offset, u64::MAX)
}

/// The stretches of disk that hold the bytes of a file from `from` to `to`.
pub(crate) fn runs_within(inode: &Inode, from: u64, to: u64) -> Vec<(Offset, u64)> {
    let mut stretches = Vec::new();
    for (index, run) in inode.runs() {
        let start = run_start(inode.first_class, index);
        let skip = from.saturating_sub(start).min(run.bytes());
        let end = to.saturating_sub(start).min(run.bytes());
        if skip < end {
            stretches.push((Offset(run.address().0 + skip), end - skip));
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_accounted_whatever_happens_to_them() {
        let mut pages = FilePages::default();
        let mut sum = Delta::default();
        let mut add = |delta: Delta| {
            sum.bytes += delta.bytes;
            sum.dirty += delta.dirty;
            sum
        };
        add(pages.put(0, Bytes::from_static(&ZEROS), Some(1), 1));
        add(pages.put(1, Bytes::from_static(b"abc"), Some(2), 2));
        add(pages.put(1, Bytes::from_static(b"abcdef"), Some(3), 3));
        assert_eq!(pages.put_loaded(1, Bytes::new(), 4), None);
        add(pages.written(1, 2));
        assert_eq!((pages.dirty_pages().count(), pages.get(1).unwrap().key), (2, 2));
        add(pages.written(1, 3));
        let now = add(pages.cut(4096 + 2));
        assert_eq!((now.bytes as u64, now.dirty as u64), (pages.bytes(), pages.dirty()));
        assert_eq!(pages.get(1).unwrap().bytes, "ab");
        assert_eq!(pages.evict(0), None);
        add(pages.evict(1).unwrap());
        let end = add(pages.cut(0));
        assert_eq!((end.bytes, end.dirty, pages.bytes()), (0, 0, 0));
    }

    #[test]
    fn what_is_missing_at_the_end_of_a_page_reads_as_zeros() {
        let mut out = Vec::new();
        slice(&Bytes::from_static(b"abcd"), 2, 6, &mut out);
        assert_eq!(out.concat(), b"cd\0\0\0\0");
        assert_eq!(patch(b"ab", 4, b"x"), Bytes::from_static(b"ab\0\0x"));
    }
}
