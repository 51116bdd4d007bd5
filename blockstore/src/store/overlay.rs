//! Changes in memory that are not committed yet: dirty pages by block, and sweeps (discards of
//! many blocks). Two layers of it lie over a store's committed rows: the one being filled and the
//! one being committed. Where the rows are is not known here.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};

use super::Hashes;
use crate::{
    disk::{BLOCK, PAGE, SECTOR},
    message::{BlockContent, Change, Discard, Write, checksum},
    place::{BlockId, BlockVersion, Volume},
};

/// Bytes of a page, for indexing.
pub(crate) const PAGE_BYTES: usize = PAGE as usize;
/// Pages of a block.
pub(crate) const PAGES: usize = (BLOCK / PAGE) as usize;
const ALL_SECTORS: u8 = 0xff;
/// A discard of more blocks than this is kept as one sweep.
const SWEEP_BLOCKS: u64 = 64;

/// The order of blocks in an index: chunk hash first, so that a group lies together.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    pub(crate) hash: u64,
    pub(crate) id: BlockId,
}

impl Key {
    pub(crate) fn of(id: BlockId) -> Self {
        Self { hash: id.hash(), id }
    }

    /// The least and the greatest key of a range of hashes.
    pub(crate) fn span(hashes: Hashes) -> std::ops::RangeInclusive<Self> {
        let least = BlockId::default();
        let most = BlockId { volume: Volume(u64::MAX), block: u64::MAX };
        Self { hash: hashes.first, id: least }..=Self { hash: hashes.last, id: most }
    }
}

/// A page with changes.
#[derive(Clone)]
pub(crate) enum Page {
    /// All of it is here.
    Whole { bytes: Bytes, sum: u32 },
    /// Only the sectors in `have` are here; the others are what lies below.
    Parts { have: u8, bytes: BytesMut },
    /// Nobody has it any more; only a write of all of it makes it good.
    Lost,
}

/// A block with changes.
#[derive(Clone, Default)]
pub(crate) struct Dirty {
    pub(crate) version: BlockVersion,
    /// It was installed whole: no version below counts, even if it is higher.
    pub(crate) replaced: bool,
    /// Pages of which nothing below counts any more.
    pub(crate) cleared: u16,
    pub(crate) pages: [Option<Page>; PAGES],
}

/// A discard of a wide range, within the chunks of one group.
#[derive(Clone, Copy)]
pub(crate) struct Sweep {
    pub(crate) group: Hashes,
    pub(crate) volume: Volume,
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) version: BlockVersion,
}

impl Sweep {
    /// The pages of a block that it discards.
    pub(crate) fn covers(&self, key: Key) -> u16 {
        if key.id.volume != self.volume || !self.group.contains(key.hash) {
            return 0;
        }
        covered(key.id, self.first, self.last)
    }
}

/// The pages of a block in the byte range `first..=last` (whole pages).
fn covered(id: BlockId, first: u64, last: u64) -> u16 {
    let start = id.start();
    let end = start + (BLOCK - 1);
    if last < start || first > end {
        return 0;
    }
    let from = first.max(start) - start;
    let to = last.min(end) - start;
    let (from, to) = (from / PAGE, to / PAGE);
    let upto = |page: u64| -> u32 { (1_u32 << (page + 1)) - 1 };
    let mask = upto(to) & !(upto(from) >> 1);
    u16::try_from(mask).expect("a block has sixteen pages")
}

/// One layer of changes.
#[derive(Default)]
pub(crate) struct Layer {
    pub(crate) blocks: BTreeMap<Key, Dirty>,
    pub(crate) sweeps: Vec<Sweep>,
    pub(crate) bytes: u64,
}

/// What a layer, or a pile of them, says about a page.
pub(crate) enum Look {
    /// This.
    Whole(Bytes, u32),
    /// Zeros.
    Zero,
    /// Nobody has it any more.
    Lost,
    /// What lies below, with these sectors over it, newest first.
    Below(Vec<(u8, Bytes)>),
}

impl Layer {
    pub(crate) fn is_empty(&self) -> bool {
        self.blocks.is_empty() && self.sweeps.is_empty()
    }

    pub(crate) fn apply(&mut self, group: Hashes, change: &Change, version: BlockVersion) {
        match change {
            Change::Write(write) => self.write(write, version),
            Change::Discard(discard) => self.discard(group, *discard, version),
        }
    }

    fn write(&mut self, write: &Write, version: BlockVersion) {
        let mut offset = write.offset;
        let mut body = write.body.clone();
        let mut sums = write.sums.iter();
        while !body.is_empty() {
            let key = Key::of(BlockId::holding(write.volume, offset));
            let swept = self.swept(key);
            let dirty = self.blocks.entry(key).or_default();
            dirty.version = version;
            dirty.cleared |= swept;
            let end = key.id.start() + (BLOCK - 1);
            while !body.is_empty() && offset <= end {
                let within = usize::try_from(offset % PAGE).expect("less than a page");
                let part = body.split_to(body.len().min(PAGE_BYTES - within));
                let page = usize::try_from(offset % BLOCK / PAGE).expect("less than sixteen");
                offset = offset.wrapping_add(part.len() as u64);
                let sum = sums.next().copied().unwrap_or_default();
                self.bytes += dirty.put(page, within, part, sum);
            }
        }
    }

    /// The pages of a block that sweeps of this layer discarded.
    pub(crate) fn swept(&self, key: Key) -> u16 {
        self.sweeps.iter().fold(0, |mask, sweep| mask | sweep.covers(key))
    }

    fn discard(&mut self, group: Hashes, discard: Discard, version: BlockVersion) {
        if discard.length == 0 {
            return;
        }
        let last = discard.offset + (discard.length - 1);
        let first_block = discard.offset / BLOCK;
        if last / BLOCK - first_block < SWEEP_BLOCKS {
            for block in first_block..=last / BLOCK {
                let key = Key::of(BlockId { volume: discard.volume, block });
                if group.contains(key.hash) {
                    let mask = covered(key.id, discard.offset, last);
                    let swept = self.swept(key);
                    let dirty = self.blocks.entry(key).or_default();
                    // A block that is new in this layer has no pages that a sweep of it took.
                    dirty.cleared |= swept;
                    self.bytes -= dirty.clear(mask, version);
                }
            }
            return;
        }
        let sweep = Sweep { group, volume: discard.volume, first: discard.offset, last, version };
        for (key, dirty) in self.blocks.range_mut(Key::span(group)) {
            let mask = sweep.covers(*key);
            if mask != 0 {
                self.bytes -= dirty.clear(mask, version);
            }
        }
        self.sweeps.push(sweep);
    }

    pub(crate) fn install(&mut self, key: Key, content: &BlockContent) {
        let dirty = self.blocks.entry(key).or_default();
        self.bytes -= dirty.clear(u16::MAX, content.version);
        dirty.version = content.version;
        dirty.replaced = true;
        let mut body = content.body.clone();
        let mut sums = content.sums.iter();
        for page in (0..PAGES).filter(|page| content.pages & (1 << page) != 0) {
            let bytes = body.split_to(PAGE_BYTES.min(body.len()));
            self.bytes += dirty.put(page, 0, bytes, sums.next().copied().unwrap_or_default());
        }
        for page in (0..PAGES).filter(|page| content.lost & (1 << page) != 0) {
            dirty.pages[page] = Some(Page::Lost);
            self.bytes += PAGE;
        }
    }

    /// What this layer says of a page.
    pub(crate) fn look(&self, key: Key, page: usize) -> Look {
        if let Some(dirty) = self.blocks.get(&key) {
            match &dirty.pages[page] {
                Some(Page::Whole { bytes, sum }) => return Look::Whole(bytes.clone(), *sum),
                Some(Page::Parts { have, bytes }) => {
                    return Look::Below(vec![(*have, Bytes::copy_from_slice(bytes))]);
                }
                Some(Page::Lost) => return Look::Lost,
                None if dirty.cleared & (1 << page) != 0 => return Look::Zero,
                None => {}
            }
        }
        if self.swept(key) & (1 << page) != 0 { Look::Zero } else { Look::Below(Vec::new()) }
    }

    /// Moves what concerns the hashes of `scope` to a layer of its own, widened where a sweep
    /// concerns more: a sweep and what came after it go together.
    pub(crate) fn freeze(&mut self, scope: &[Hashes]) -> Self {
        let mut scope = scope.to_vec();
        let touches = |a: Hashes, b: Hashes| a.first <= b.last && b.first <= a.last;
        let mut frozen = Self::default();
        self.sweeps.retain(|sweep| {
            let touched = scope.iter().any(|hashes| touches(*hashes, sweep.group));
            if touched {
                scope.push(sweep.group);
                frozen.sweeps.push(*sweep);
            }
            !touched
        });
        for hashes in scope {
            for (key, dirty) in self.blocks.extract_if(Key::span(hashes), |_, _| true) {
                let bytes = dirty.bytes();
                self.bytes -= bytes;
                frozen.bytes += bytes;
                frozen.blocks.insert(key, dirty);
            }
        }
        frozen
    }

    /// Moves about `bytes` bytes of it to a layer of its own; all of it if there are sweeps.
    pub(crate) fn freeze_some(&mut self, bytes: u64) -> Self {
        if !self.sweeps.is_empty() {
            return self.freeze(&[Hashes::ALL]);
        }
        let mut frozen = Self::default();
        while frozen.bytes < bytes
            && let Some((key, dirty)) = self.blocks.pop_first()
        {
            self.bytes -= dirty.bytes();
            frozen.bytes += dirty.bytes();
            frozen.blocks.insert(key, dirty);
        }
        frozen
    }
}

impl Dirty {
    /// Puts a part of a page; returns by how many bytes of memory that grew the block.
    fn put(&mut self, page: usize, within: usize, part: Bytes, sum: u32) -> u64 {
        let slot = &mut self.pages[page];
        let grown = if slot.is_none() { PAGE } else { 0 };
        if part.len() == PAGE_BYTES {
            *slot = Some(Page::Whole { bytes: part, sum });
            return grown;
        }
        let (mut have, mut bytes) = match slot.take() {
            Some(Page::Whole { bytes, .. }) => (ALL_SECTORS, BytesMut::from(&bytes[..])),
            Some(Page::Parts { have, bytes }) => (have, bytes),
            Some(Page::Lost) => {
                *slot = Some(Page::Lost);
                return grown;
            }
            None => {
                let whole = self.cleared & (1 << page) != 0;
                (if whole { ALL_SECTORS } else { 0 }, BytesMut::zeroed(PAGE_BYTES))
            }
        };
        bytes[within..within + part.len()].copy_from_slice(&part);
        have |= sectors(within, part.len());
        *slot = Some(if have == ALL_SECTORS {
            let sum = checksum(&bytes);
            Page::Whole { bytes: bytes.freeze(), sum }
        } else {
            Page::Parts { have, bytes }
        });
        grown
    }

    /// Discards pages; returns by how many bytes of memory that shrank the block.
    fn clear(&mut self, mask: u16, version: BlockVersion) -> u64 {
        self.version = self.version.max(version);
        self.cleared |= mask;
        let mut shrunk = 0;
        for (page, slot) in self.pages.iter_mut().enumerate() {
            if mask & (1 << page) != 0 && slot.take().is_some() {
                shrunk += PAGE;
            }
        }
        shrunk
    }

    fn bytes(&self) -> u64 {
        self.pages.iter().flatten().count() as u64 * PAGE
    }

    /// The pages that have changes.
    pub(crate) fn mask(&self) -> u16 {
        (0..PAGES).fold(0, |mask, page| mask | (u16::from(self.pages[page].is_some()) << page))
    }
}

/// The sectors that a part of a page covers.
fn sectors(within: usize, length: usize) -> u8 {
    let sector = usize::try_from(SECTOR).expect("a sector is small");
    (within / sector..(within + length) / sector).fold(0, |mask, sector| mask | (1 << sector))
}

/// Lays sectors, newest first, over the bytes of a page.
pub(crate) fn lay_over(base: &mut [u8], parts: &[(u8, Bytes)]) {
    let sector = usize::try_from(SECTOR).expect("a sector is small");
    for (have, bytes) in parts.iter().rev() {
        for index in (0..8).filter(|index| have & (1 << index) != 0) {
            let range = index * sector..(index + 1) * sector;
            base[range.clone()].copy_from_slice(&bytes[range]);
        }
    }
}

/// What a pile of layers, newest first, says of a page.
pub(crate) fn look_through(layers: &[&Layer], key: Key, page: usize) -> Look {
    let mut parts = Vec::new();
    for layer in layers {
        match layer.look(key, page) {
            Look::Below(mut more) => parts.append(&mut more),
            Look::Lost => return Look::Lost,
            settled if parts.is_empty() => return settled,
            settled => {
                let mut bytes = match settled {
                    Look::Whole(bytes, _) => BytesMut::from(&bytes[..]),
                    _ => BytesMut::zeroed(PAGE_BYTES),
                };
                lay_over(&mut bytes, &parts);
                let sum = checksum(&bytes);
                return Look::Whole(bytes.freeze(), sum);
            }
        }
    }
    Look::Below(parts)
}
