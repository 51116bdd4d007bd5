//! A page of a directory: a leaf with entries in hash order, or the mark that it was split.
//!
//! The pages of a directory form a binary tree in sparse space: page `prefix` of depth d holds the
//! names whose hash begins with these d bits, and a split page says: look one deeper. Entries lie
//! in a heap that grows down from the end of the page and are never moved by an insertion; sorted
//! slots point to them. So a new name changes few bytes of the page, and few bytes of the log.
//! Where a page lies, and what an entry's inode is, are not known here.

use blockstore::PAGE;

use super::{
    Damaged,
    bytes::{get_u16, get_u64, put_u16, put_u64},
    geometry::InodeNo,
    hash::{NameHash, TIE_BITS},
    inode::FileType,
    version::{HEAD, Kind, Version, head, put_head},
};

const STATE: usize = HEAD;
const COUNT: usize = 26;
const HEAP: usize = 28;
const GARBAGE: usize = 30;
const SLOTS: usize = 32;
const END: usize = PAGE as usize;
/// Bytes of an entry before its name.
const ENTRY: usize = 18;

/// The longest name.
pub const MAX_NAME: usize = 255;

/// An entry of a directory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Its stored hash: unique in the directory, and its readdir cookie.
    pub hash: NameHash,
    /// What it names.
    pub inode: InodeNo,
    /// The type of that.
    pub kind: FileType,
    /// The name.
    pub name: &'a [u8],
}

/// Why an entry was not inserted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Full {
    /// The page has no room: split it.
    Page,
    /// All hashes that this name could be stored under are taken.
    Ties,
}

/// A page of a directory.
#[derive(Clone, PartialEq, Eq)]
pub struct DirPage {
    page: Box<[u8; END]>,
}

impl DirPage {
    /// A leaf without entries.
    #[must_use]
    pub fn blank() -> Self {
        let mut page = Box::new([0; END]);
        put_head(page.as_mut_slice(), Kind::Directory, Version::ZERO);
        put_u16(page.as_mut_slice(), HEAP, END as u16);
        Self { page }
    }

    /// A page that was split.
    #[must_use]
    pub fn split_mark(version: Version) -> Self {
        let mut mark = Self::blank();
        mark.page[STATE] = 1;
        mark.set_version(version);
        mark
    }

    /// The directory page in `page`; blank if it was never written, or was part of a freed run.
    ///
    /// # Errors
    /// If it is another kind of block or not well formed.
    pub fn decode(page: &[u8]) -> Result<Self, Damaged> {
        let page: Box<[u8; END]> =
            Box::new(page.try_into().map_err(|_| Damaged("directory page: not a page"))?);
        match head(page.as_slice())? {
            None => return Ok(Self::blank()),
            Some((Kind::Freed, version)) => {
                let mut blank = Self::blank();
                blank.set_version(version);
                return Ok(blank);
            }
            Some((Kind::Directory, _)) => {}
            Some(_) => return Err(Damaged("directory page: another kind of block")),
        }
        let this = Self { page };
        this.check()?;
        Ok(this)
    }

    fn check(&self) -> Result<(), Damaged> {
        let (count, heap) = (self.len(), self.heap());
        if self.page[STATE] > 1 || (self.is_split() && count > 0) {
            return Err(Damaged("directory page: impossible state"));
        }
        if SLOTS + 2 * count > heap || heap > END {
            return Err(Damaged("directory page: slots and entries overlap"));
        }
        let mut last = NameHash(0);
        let mut used = 0;
        for i in 0..count {
            let at = self.slot(i);
            if at < heap || at + ENTRY > END {
                return Err(Damaged("directory page: an entry outside the page"));
            }
            let length = self.page[at + 17] as usize;
            if length == 0 || at + ENTRY + length > END {
                return Err(Damaged("directory page: a name outside the page"));
            }
            let hash = NameHash(get_u64(self.bytes(), at));
            if hash <= last || hash > NameHash::LAST {
                return Err(Damaged("directory page: hashes out of order"));
            }
            if FileType::from_number(self.page[at + 16]).is_none() {
                return Err(Damaged("directory page: no such file type"));
            }
            if !InodeNo(get_u64(self.bytes(), at + 8)).is_valid() {
                return Err(Damaged("directory page: no such inode"));
            }
            last = hash;
            used += ENTRY + length;
        }
        if used + get_u16(self.bytes(), GARBAGE) as usize != END - heap {
            return Err(Damaged("directory page: entries do not add up"));
        }
        Ok(())
    }

    /// The bytes of the page.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.page.as_slice()
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version { grant: get_u64(self.bytes(), 8), counter: get_u64(self.bytes(), 16) }
    }

    /// Gives it a version.
    pub fn set_version(&mut self, version: Version) {
        put_head(self.page.as_mut_slice(), Kind::Directory, version);
    }

    /// Whether its names moved one deeper.
    #[must_use]
    pub fn is_split(&self) -> bool {
        self.page[STATE] == 1
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        get_u16(self.bytes(), COUNT) as usize
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry for `name`, whose hash is `hash`.
    #[must_use]
    pub fn find(&self, hash: NameHash, name: &[u8]) -> Option<Entry<'_>> {
        self.position(hash, name).map(|i| self.entry(i))
    }

    /// The entries whose stored hash is `from` or larger, in order.
    pub fn entries_from(&self, from: NameHash) -> impl Iterator<Item = Entry<'_>> {
        (self.lower_bound(from)..self.len()).map(|i| self.entry(i))
    }

    /// Adds `name`, whose hash is `hash` and which is not there yet; returns its stored hash.
    ///
    /// # Errors
    /// If there is no room.
    ///
    /// # Panics
    /// If the page was split, or the name is empty or too long.
    pub fn insert(
        &mut self,
        hash: NameHash,
        name: &[u8],
        inode: InodeNo,
        kind: FileType,
    ) -> Result<NameHash, Full> {
        assert!(!self.is_split() && !name.is_empty() && name.len() <= MAX_NAME, "not insertable");
        let mut at = self.lower_bound(hash);
        let mut stored = hash;
        while at < self.len() && self.entry_hash(at) == stored {
            stored = NameHash(stored.0 + 1);
            at += 1;
        }
        if !stored.same_name_hash(hash) {
            return Err(Full::Ties);
        }
        let need = ENTRY + name.len();
        let taken = SLOTS + 2 * self.len() + 2;
        if taken + need > self.heap() {
            if taken + need > self.heap() + get_u16(self.bytes(), GARBAGE) as usize {
                return Err(Full::Page);
            }
            self.compact();
        }
        let start = self.heap() - need;
        put_u16(self.page.as_mut_slice(), HEAP, start as u16);
        put_u64(self.page.as_mut_slice(), start, stored.0);
        self.page[start + 17] = name.len() as u8;
        self.page[start + ENTRY..start + need].copy_from_slice(name);
        self.point(start, inode, kind);
        let (from, to) = (SLOTS + 2 * at, SLOTS + 2 * self.len());
        self.page.copy_within(from..to, from + 2);
        put_u16(self.page.as_mut_slice(), from, start as u16);
        self.set_len(self.len() + 1);
        Ok(stored)
    }

    /// Lets the entry for `name` name another inode; says whether there is one.
    pub fn replace(&mut self, hash: NameHash, name: &[u8], inode: InodeNo, kind: FileType) -> bool {
        let Some(i) = self.position(hash, name) else { return false };
        self.point(self.slot(i), inode, kind);
        true
    }

    /// Removes `name`; says whether it was there.
    pub fn remove(&mut self, hash: NameHash, name: &[u8]) -> bool {
        let Some(i) = self.position(hash, name) else { return false };
        let garbage = get_u16(self.bytes(), GARBAGE) as usize + ENTRY + name.len();
        put_u16(self.page.as_mut_slice(), GARBAGE, garbage as u16);
        let end = SLOTS + 2 * self.len();
        self.page.copy_within(SLOTS + 2 * i + 2..end, SLOTS + 2 * i);
        self.set_len(self.len() - 1);
        if self.is_empty() {
            put_u16(self.page.as_mut_slice(), HEAP, END as u16);
            put_u16(self.page.as_mut_slice(), GARBAGE, 0);
        }
        true
    }

    /// What page `depth` becomes one deeper: the leaf of the lower hashes and that of the higher.
    /// The page itself then becomes a [`DirPage::split_mark`].
    #[must_use]
    pub fn split(&self, depth: u8) -> (Self, Self) {
        let (mut low, mut high) = (Self::blank(), Self::blank());
        for entry in self.entries_from(NameHash(0)) {
            let half = if entry.hash.prefix(depth + 1) & 1 == 0 { &mut low } else { &mut high };
            half.append(entry);
        }
        (low, high)
    }

    /// Adds an entry that comes after all others and for which there is room.
    fn append(&mut self, entry: Entry<'_>) {
        let start = self.heap() - ENTRY - entry.name.len();
        put_u16(self.page.as_mut_slice(), HEAP, start as u16);
        put_u64(self.page.as_mut_slice(), start, entry.hash.0);
        self.page[start + 17] = entry.name.len() as u8;
        self.page[start + ENTRY..start + ENTRY + entry.name.len()].copy_from_slice(entry.name);
        self.point(start, entry.inode, entry.kind);
        let slot = SLOTS + 2 * self.len();
        put_u16(self.page.as_mut_slice(), slot, start as u16);
        self.set_len(self.len() + 1);
    }

    fn compact(&mut self) {
        let mut fresh = Self::blank();
        fresh.set_version(self.version());
        for entry in self.entries_from(NameHash(0)) {
            fresh.append(entry);
        }
        *self = fresh;
    }

    fn point(&mut self, at: usize, inode: InodeNo, kind: FileType) {
        put_u64(self.page.as_mut_slice(), at + 8, inode.0);
        self.page[at + 16] = kind as u8;
    }

    fn set_len(&mut self, len: usize) {
        put_u16(self.page.as_mut_slice(), COUNT, len as u16);
    }

    fn heap(&self) -> usize {
        get_u16(self.bytes(), HEAP) as usize
    }

    fn slot(&self, i: usize) -> usize {
        get_u16(self.bytes(), SLOTS + 2 * i) as usize
    }

    fn entry_hash(&self, i: usize) -> NameHash {
        NameHash(get_u64(self.bytes(), self.slot(i)))
    }

    fn entry(&self, i: usize) -> Entry<'_> {
        let at = self.slot(i);
        let length = self.page[at + 17] as usize;
        Entry {
            hash: self.entry_hash(i),
            inode: InodeNo(get_u64(self.bytes(), at + 8)),
            kind: FileType::from_number(self.page[at + 16]).expect("checked when decoded"),
            name: &self.page[at + ENTRY..at + ENTRY + length],
        }
    }

    /// The place of the first entry whose stored hash is not less than `hash`.
    fn lower_bound(&self, hash: NameHash) -> usize {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.entry_hash(middle) < hash { low = middle + 1 } else { high = middle }
        }
        low
    }

    fn position(&self, hash: NameHash, name: &[u8]) -> Option<usize> {
        let group = NameHash(hash.0 >> TIE_BITS << TIE_BITS);
        (self.lower_bound(group)..self.len())
            .take_while(|i| self.entry_hash(*i).same_name_hash(hash))
            .find(|i| self.entry(*i).name == name)
    }
}

impl std::fmt::Debug for DirPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = if self.is_split() { "split" } else { "leaf" };
        write!(f, "DirPage({state}, {} entries, {:?})", self.len(), self.version())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::layout::hash::HashKey;

    const KEY: HashKey = HashKey([1, 2]);

    fn hash(name: &[u8]) -> NameHash {
        NameHash::of(name, KEY)
    }

    #[test]
    fn names_with_the_same_hash_live_side_by_side() {
        let mut page = DirPage::blank();
        let same = NameHash(5 << TIE_BITS);
        for i in 0..64_u64 {
            let name = format!("n{i}");
            let stored = page.insert(same, name.as_bytes(), InodeNo(i + 1), FileType::Regular);
            assert_eq!(stored, Ok(NameHash(same.0 + i)));
        }
        assert_eq!(page.insert(same, b"x", InodeNo(1), FileType::Fifo), Err(Full::Ties));
        assert!(page.remove(same, b"n7"));
        assert_eq!(page.find(same, b"n8").unwrap().inode, InodeNo(9));
        assert_eq!(page.find(same, b"n7"), None);
        let again = page.insert(same, b"x", InodeNo(1), FileType::Fifo);
        assert_eq!(again, Ok(NameHash(same.0 + 7)));
        assert_eq!(DirPage::decode(page.bytes()).unwrap(), page);
    }

    #[test]
    fn a_full_page_splits_into_two_that_hold_all_of_it() {
        let mut page = DirPage::blank();
        let mut names = Vec::new();
        for i in 0.. {
            let name = format!("file number {i}").into_bytes();
            if page.insert(hash(&name), &name, InodeNo(1), FileType::Regular).is_err() {
                break;
            }
            names.push(name);
        }
        assert!(names.len() > 100);
        let (low, high) = page.split(0);
        assert_eq!(low.len() + high.len(), names.len());
        for name in &names {
            let half = if hash(name).prefix(1) == 0 { &low } else { &high };
            assert_eq!(half.find(hash(name), name).unwrap().name, name.as_slice());
        }
        let mark = DirPage::split_mark(Version { grant: 1, counter: 1 });
        assert!(DirPage::decode(mark.bytes()).unwrap().is_split());
        assert!(DirPage::decode(low.bytes()).is_ok() && DirPage::decode(high.bytes()).is_ok());
    }

    proptest! {
        #[test]
        fn a_page_is_a_map(ops in prop::collection::vec((0..3_u8, 0..60_u16, 1..255_usize), 0..300)) {
            let mut page = DirPage::blank();
            let mut model = BTreeMap::new();
            for (op, number, length) in ops {
                let name = format!("{number}-{}", "x".repeat(length % (number as usize + 1))).into_bytes();
                let h = hash(&name);
                let inode = InodeNo(u64::from(number) + 1);
                if op == 0 {
                    prop_assert_eq!(page.remove(h, &name), model.remove(&name).is_some());
                } else if let Some(known) = model.get_mut(&name) {
                    prop_assert!(page.replace(h, &name, inode, FileType::Symlink));
                    *known = (inode, FileType::Symlink);
                } else if page.insert(h, &name, inode, FileType::Regular).is_ok() {
                    model.insert(name, (inode, FileType::Regular));
                }
                page = DirPage::decode(page.bytes()).unwrap();
            }
            let found: BTreeMap<_, _> =
                page.entries_from(NameHash(0)).map(|e| (e.name.to_vec(), (e.inode, e.kind))).collect();
            prop_assert_eq!(found, model);
        }

        #[test]
        fn foreign_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 4096), at in 24..4000_usize) {
            let _ = DirPage::decode(&noise);
            let mut page = DirPage::blank();
            for i in 0..50 {
                let name = format!("name {i}").into_bytes();
                page.insert(hash(&name), &name, InodeNo(1), FileType::Regular).unwrap();
            }
            let mut bytes = page.bytes().to_vec();
            bytes[at..at + 8].copy_from_slice(&noise[..8]);
            if let Ok(page) = DirPage::decode(&bytes) {
                prop_assert_eq!(page.entries_from(NameHash(0)).count(), page.len());
                let (low, high) = page.split(3);
                prop_assert_eq!(low.len() + high.len(), page.len());
            }
        }
    }
}
