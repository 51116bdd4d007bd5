//! Reads: what is in memory first, then patch rows, then slots, every page against its checksum.
//! Commits go on meanwhile: what they free is not reused while a read holds the gate, and a read
//! that saw two states looks again.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::{
    Inner, index,
    rows::{self, Entry},
};
use crate::{
    disk::{BLOCK, PAGE},
    message::{BlockContent, checksum},
    place::{BlockId, BlockVersion, Volume},
    store::{
        Found, Hashes, StoreError,
        gather::{Gather, Spot},
        overlay::{Key, Look, PAGE_BYTES, PAGES, lay_over, look_through},
    },
};

/// A page that memory does not settle, and the sectors that memory has over it.
type Open = (Spot, Vec<(u8, Bytes)>);

/// How often a read looks again before it calls a page damaged.
const LOOKS: usize = 100;

impl Inner {
    pub(super) fn try_read(&self, volume: Volume, offset: u64, length: u32) -> Option<Found> {
        let mut gather = Gather::new(volume, offset, length);
        let (open, _) = self.look(&mut gather).ok()?;
        open.is_empty().then(|| gather.finish())
    }

    pub(super) fn read(
        &self,
        volume: Volume,
        offset: u64,
        length: u32,
    ) -> Result<Found, StoreError> {
        let mut gather = Gather::new(volume, offset, length);
        self.fill(&mut gather)?;
        Ok(gather.finish())
    }

    /// Takes from memory what is there; returns the rest, and how many commits there had been.
    fn look(&self, gather: &mut Gather) -> Result<(Vec<Open>, u64), StoreError> {
        let spots = gather.spots();
        let state = self.state.lock();
        if let Some(reason) = &state.stopped {
            return Err(StoreError::Stopped(reason.clone()));
        }
        let layers = [&state.current, &*state.committing];
        let mut open = Vec::new();
        for spot in spots {
            match look_through(&layers, spot.key, spot.page) {
                Look::Whole(bytes, sum) => gather.pages[spot.index] = Some((bytes, sum)),
                Look::Zero => gather.pages[spot.index] = None,
                Look::Lost => return Err(StoreError::Damaged { offset: spot.offset() }),
                Look::Below(parts) => open.push((spot, parts)),
            }
        }
        Ok((open, state.commits))
    }

    fn fill(&self, gather: &mut Gather) -> Result<(), StoreError> {
        let mut damaged = 0;
        for _ in 0..LOOKS {
            let (open, commits) = self.look(gather)?;
            if open.is_empty() {
                return Ok(());
            }
            let _gate = self.gate.read();
            let bad = self.fill_open(gather, &open)?;
            // Sectors over a page that a commit has changed meanwhile may be older than it; and a
            // patch may have been replaced while its row was looked at.
            if self.state.lock().commits != commits
                && (bad.is_some() || open.iter().any(|(_, parts)| !parts.is_empty()))
            {
                continue;
            }
            match bad {
                None => return Ok(()),
                Some(offset) => damaged = offset,
            }
            break;
        }
        Err(StoreError::Damaged { offset: damaged })
    }

    /// Fills pages from the rows; returns where one failed its checksum, if one did.
    fn fill_open(&self, gather: &mut Gather, open: &[Open]) -> Result<Option<u64>, StoreError> {
        for block in open.chunk_by(|(a, _), (b, _)| a.key == b.key) {
            let Some(entry) = index::entry(&*self.index, block[0].0.key)? else {
                for (spot, parts) in block {
                    gather.pages[spot.index] = merged(None, parts);
                }
                continue;
            };
            let in_slot = |spot: &Spot| entry.valid & !entry.patched & (1 << spot.page) != 0;
            // Neighbours in the slot are read with one call.
            for run in
                block.chunk_by(|(a, _), (b, _)| a.page + 1 == b.page && in_slot(a) && in_slot(b))
            {
                let pages = self.base(run[0].0.key, &entry, run[0].0.page, run.len())?;
                for ((spot, parts), page) in run.iter().zip(pages) {
                    if let Some(bytes) = &page
                        && checksum(bytes) != entry.sums[spot.page]
                    {
                        return Ok(Some(spot.offset()));
                    }
                    let page = page.map(|bytes| (bytes, entry.sums[spot.page]));
                    gather.pages[spot.index] = merged(page, parts);
                }
            }
        }
        Ok(None)
    }

    /// The bytes of `count` pages of a block as the disk has them; several only from the slot.
    pub(super) fn base(
        &self,
        key: Key,
        entry: &Entry,
        page: usize,
        count: usize,
    ) -> Result<Vec<Option<Bytes>>, StoreError> {
        if entry.valid & (1 << page) == 0 {
            return Ok(vec![None; count]);
        }
        if entry.patched & (1 << page) != 0 {
            // A row that is not there, or is short, is a page that fails its checksum.
            let row = self.index.get(&rows::patch_key(key, page))?.unwrap_or_default();
            if row.len() == PAGE_BYTES {
                return Ok(vec![Some(row)]);
            }
            let mut bytes = row.to_vec();
            bytes.resize(PAGE_BYTES, 0);
            return Ok(vec![Some(bytes.into())]);
        }
        let Some(slot) = entry.slot else {
            return Ok(vec![Some(Bytes::from_static(&[0; PAGE_BYTES])); count]);
        };
        let mut bytes = BytesMut::zeroed(count * PAGE_BYTES);
        if let Err(error) = self.files.read(slot, page as u64 * PAGE, &mut bytes) {
            tracing::warn!(%error, slot = slot.0, "a slot cannot be read");
            return Err(StoreError::Damaged { offset: key.id.start() + page as u64 * PAGE });
        }
        let mut bytes = bytes.freeze();
        Ok((0..count).map(|_| Some(bytes.split_to(PAGE_BYTES))).collect())
    }

    pub(super) fn fetch(&self, id: BlockId) -> Result<BlockContent, StoreError> {
        let length = u32::try_from(BLOCK).expect("64 KiB");
        let mut gather = Gather::new(id.volume, id.start(), length);
        let mut lost = 0;
        if let Err(error) = self.fill(&mut gather) {
            let StoreError::Damaged { .. } = error else { return Err(error) };
            lost = self.fill_pages(id, &mut gather)?;
        }
        let version = self.version(Key::of(id))?;
        let mut content = BlockContent { version, lost, ..BlockContent::default() };
        let mut body = BytesMut::new();
        for (page, found) in gather.pages.iter().enumerate() {
            if let Some((bytes, sum)) = found {
                content.pages |= 1 << page;
                content.sums.push(*sum);
                body.extend_from_slice(bytes);
            }
        }
        content.body = body.freeze();
        Ok(content)
    }

    /// Fills the pages of a block one by one; returns those that are damaged.
    fn fill_pages(&self, id: BlockId, gather: &mut Gather) -> Result<u16, StoreError> {
        let mut lost = 0;
        for (page, found) in gather.pages.iter_mut().enumerate() {
            let length = u32::try_from(PAGE).expect("4 KiB");
            let mut one = Gather::new(id.volume, id.start() + page as u64 * PAGE, length);
            *found = match self.fill(&mut one) {
                Ok(()) => one.pages.remove(0),
                Err(StoreError::Damaged { .. }) => {
                    lost |= 1 << page;
                    None
                }
                Err(error) => return Err(error),
            };
        }
        Ok(lost)
    }

    pub(super) fn version(&self, key: Key) -> Result<BlockVersion, StoreError> {
        let memory = self.memory_version(key);
        Ok(memory.over(index::entry(&*self.index, key)?.map(|entry| entry.version)))
    }

    /// What memory knows of a block's version.
    fn memory_version(&self, key: Key) -> Remembered {
        let state = self.state.lock();
        let mut found = Remembered::default();
        // The older layer first: what was installed in the newer one hides it.
        for layer in [&*state.committing, &state.current] {
            if let Some(dirty) = layer.blocks.get(&key) {
                found.replaced |= dirty.replaced;
                found.block =
                    if dirty.replaced { dirty.version } else { found.block.max(dirty.version) };
            }
            for sweep in layer.sweeps.iter().filter(|sweep| sweep.covers(key) != 0) {
                found.swept = found.swept.max(sweep.version);
            }
        }
        found
    }

    pub(super) fn list(
        &self,
        group: Hashes,
        after: Option<BlockId>,
        limit: usize,
    ) -> Result<(Vec<(BlockId, BlockVersion)>, bool), StoreError> {
        let (least, most) = Key::span(group).into_inner();
        let after = after.map(Key::of);
        let from = after.map_or(least, |after| after.max(least));
        let fresh = |key: Key| after.is_none_or(|after| key > after);
        // Memory first: what is committed meanwhile is then found in the rows.
        let mut rows: Vec<(Key, BlockVersion)> = {
            let state = self.state.lock();
            [&state.current, &*state.committing]
                .iter()
                .flat_map(|layer| layer.blocks.range(from..=most))
                .filter(|(key, _)| fresh(**key))
                .map(|(key, _)| *key)
                .collect::<BTreeSet<Key>>()
        }
        .into_iter()
        .map(|key| (key, self.memory_version(key).block))
        .collect();
        let mut count = 0;
        index::each_entry(&*self.index, (from, most), |key, entry| {
            if fresh(key) {
                rows.push((key, self.memory_version(key).over(Some(entry.version))));
                count += 1;
            }
            count <= limit
        })?;
        // A row that was looked at later knows at least as much.
        rows.sort_by_key(|(key, _)| *key);
        rows.reverse();
        rows.dedup_by_key(|(key, _)| *key);
        rows.reverse();
        let more = rows.len() > limit;
        rows.truncate(limit);
        Ok((rows.into_iter().map(|(key, version)| (key.id, version)).collect(), more))
    }
}

/// What memory knows of a block's version.
#[derive(Clone, Copy, Default)]
struct Remembered {
    block: BlockVersion,
    /// The block was installed whole: the row does not count.
    replaced: bool,
    /// That of the latest sweep over it.
    swept: BlockVersion,
}

impl Remembered {
    /// The version, given that of the row.
    fn over(self, row: Option<BlockVersion>) -> BlockVersion {
        match row {
            _ if self.replaced => self.block,
            Some(row) => row.max(self.block).max(self.swept),
            None => self.block,
        }
    }
}

/// A page with the sectors that memory has over it.
pub(super) fn merged(page: Option<(Bytes, u32)>, parts: &[(u8, Bytes)]) -> Option<(Bytes, u32)> {
    if parts.is_empty() {
        return page;
    }
    let mut bytes =
        page.map_or_else(|| BytesMut::zeroed(PAGE_BYTES), |(bytes, _)| BytesMut::from(&bytes[..]));
    lay_over(&mut bytes, parts);
    let sum = checksum(&bytes);
    Some((bytes.freeze(), sum))
}

const _: () = assert!(PAGES == 16);
