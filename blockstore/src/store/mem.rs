//! A store in memory, for tests of chains and servers: committed blocks in a map, changes over
//! them. A crash forgets what was not committed, or tears nothing more than that.

use std::{collections::BTreeMap, sync::Arc};

use bytes::{Bytes, BytesMut};
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;

use super::{
    Committing, Found, Hashes, Store, StoreError, Usage,
    gather::Gather,
    overlay::{Key, Layer, Look, PAGE_BYTES, PAGES, lay_over, look_through},
};
use crate::{
    disk::Space,
    message::{BlockContent, Change, checksum},
    place::{BlockId, BlockVersion, Volume},
};

#[derive(Clone, Default)]
struct Block {
    version: BlockVersion,
    pages: [Option<(Bytes, u32)>; PAGES],
}

#[derive(Default)]
struct State {
    blocks: BTreeMap<Key, Block>,
    dirty: Layer,
    commits: u64,
    clean: bool,
    stopped: bool,
}

/// A store in memory.
#[derive(Clone)]
pub struct MemStore {
    state: Arc<Mutex<State>>,
    directory: u128,
    was_clean: bool,
}

impl MemStore {
    /// An empty one, as of the directory with this number.
    #[must_use]
    pub fn new(directory: u128) -> Self {
        let state = State { clean: true, ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), directory, was_clean: true }
    }

    /// The store as the next start finds it: without what was not committed, unless it was closed.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut old = self.state.lock();
        old.stopped = true;
        let was_clean = old.clean;
        let state = State { blocks: std::mem::take(&mut old.blocks), ..State::default() };
        Self { state: Arc::new(Mutex::new(state)), directory: self.directory, was_clean }
    }

    /// Flips a bit of the committed bytes of the page at `offset`, if it is there.
    pub fn damage(&self, volume: Volume, offset: u64) -> bool {
        let gather = Gather::new(volume, offset, 512);
        let spot = gather.spots()[0];
        let mut state = self.state.lock();
        let page =
            state.blocks.get_mut(&spot.key).and_then(|block| block.pages[spot.page].as_mut());
        page.is_some_and(|(bytes, _)| {
            let mut damaged = BytesMut::from(&bytes[..]);
            damaged[7] ^= 1;
            *bytes = damaged.freeze();
            true
        })
    }

    /// How many commits there were.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.state.lock().commits
    }
}

fn damaged(key: Key, page: usize) -> StoreError {
    StoreError::Damaged { offset: key.id.start() + (page * PAGE_BYTES) as u64 }
}

impl State {
    fn live(&self) -> Result<(), StoreError> {
        if self.stopped { Err(StoreError::Stopped("it was closed".to_owned())) } else { Ok(()) }
    }

    fn page(&self, key: Key, page: usize) -> Result<Option<(Bytes, u32)>, StoreError> {
        let parts = match look_through(&[&self.dirty], key, page) {
            Look::Whole(bytes, sum) => return Ok(Some((bytes, sum))),
            Look::Zero => return Ok(None),
            Look::Lost => return Err(damaged(key, page)),
            Look::Below(parts) => parts,
        };
        let base = self.blocks.get(&key).and_then(|block| block.pages[page].clone());
        if let Some((bytes, sum)) = &base
            && checksum(bytes) != *sum
        {
            return Err(damaged(key, page));
        }
        if parts.is_empty() {
            return Ok(base);
        }
        let mut bytes = base
            .map_or_else(|| BytesMut::zeroed(PAGE_BYTES), |(bytes, _)| BytesMut::from(&bytes[..]));
        lay_over(&mut bytes, &parts);
        let sum = checksum(&bytes);
        Ok(Some((bytes.freeze(), sum)))
    }

    fn commit(&mut self, scope: &[Hashes]) -> Result<(), StoreError> {
        self.live()?;
        self.commits += 1;
        let frozen = self.dirty.freeze(scope);
        let mut changed: Vec<Key> = frozen.blocks.keys().copied().collect();
        for sweep in &frozen.sweeps {
            let rows = self.blocks.range(Key::span(sweep.group));
            changed.extend(rows.map(|(key, _)| *key).filter(|key| sweep.covers(*key) != 0));
        }
        let under =
            Self { blocks: std::mem::take(&mut self.blocks), dirty: frozen, ..Self::default() };
        let mut blocks = Vec::new();
        for key in changed {
            let mut block = Block { version: under.version(key), ..Block::default() };
            for page in 0..PAGES {
                // A damaged page stays damaged: its checksum goes on failing.
                block.pages[page] = match under.page(key, page) {
                    Ok(page) => page,
                    Err(_) => Some((Bytes::from_static(&[0; PAGE_BYTES]), 0)),
                };
            }
            blocks.push((key, block));
        }
        self.blocks = under.blocks;
        for (key, block) in blocks {
            if block.pages.iter().any(Option::is_some) {
                self.blocks.insert(key, block);
            } else {
                self.blocks.remove(&key);
            }
        }
        Ok(())
    }

    fn version(&self, key: Key) -> BlockVersion {
        let dirty = self.dirty.blocks.get(&key);
        if let Some(dirty) = dirty.filter(|dirty| dirty.replaced) {
            return dirty.version;
        }
        let dirty = dirty.map(|dirty| dirty.version);
        let base = self.blocks.get(&key).map(|block| block.version);
        let sweeps = self.dirty.sweeps.iter().filter(|sweep| sweep.covers(key) != 0);
        let swept = base.and_then(|_| sweeps.map(|sweep| sweep.version).max());
        dirty.max(base).max(swept).unwrap_or_default()
    }
}

impl Store for MemStore {
    fn apply(
        &self,
        group: Hashes,
        change: &Change,
        version: BlockVersion,
    ) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.live()?;
        state.clean = false;
        state.dirty.apply(group, change, version);
        Ok(())
    }

    fn try_read(&self, volume: Volume, offset: u64, length: u32) -> Option<Found> {
        self.read(volume, offset, length).ok()
    }

    fn read(&self, volume: Volume, offset: u64, length: u32) -> Result<Found, StoreError> {
        let state = self.state.lock();
        state.live()?;
        let mut gather = Gather::new(volume, offset, length);
        for spot in gather.spots() {
            gather.pages[spot.index] = state.page(spot.key, spot.page)?;
        }
        Ok(gather.finish())
    }

    fn commit(&self, scope: Vec<Hashes>) -> Committing {
        let done = self.state.lock().commit(&scope);
        futures_util::future::ready(done).boxed()
    }

    fn room(&self) -> BoxFuture<'static, ()> {
        futures_util::future::ready(()).boxed()
    }

    fn list(
        &self,
        group: Hashes,
        after: Option<BlockId>,
        limit: usize,
    ) -> Result<(Vec<(BlockId, BlockVersion)>, bool), StoreError> {
        let state = self.state.lock();
        state.live()?;
        let after = after.map(Key::of);
        let mut keys: Vec<Key> = state
            .blocks
            .range(Key::span(group))
            .map(|(key, _)| *key)
            .chain(state.dirty.blocks.range(Key::span(group)).map(|(key, _)| *key))
            .filter(|key| after.is_none_or(|after| *key > after))
            .collect();
        keys.sort_unstable();
        keys.dedup();
        let more = keys.len() > limit;
        keys.truncate(limit);
        Ok((keys.into_iter().map(|key| (key.id, state.version(key))).collect(), more))
    }

    fn version(&self, block: BlockId) -> Result<BlockVersion, StoreError> {
        let state = self.state.lock();
        state.live()?;
        Ok(state.version(Key::of(block)))
    }

    fn fetch(&self, block: BlockId) -> Result<BlockContent, StoreError> {
        let state = self.state.lock();
        state.live()?;
        let key = Key::of(block);
        let mut content = BlockContent { version: state.version(key), ..BlockContent::default() };
        let mut body = BytesMut::new();
        for page in 0..PAGES {
            match state.page(key, page) {
                Ok(None) => {}
                Ok(Some((bytes, sum))) => {
                    content.pages |= 1 << page;
                    content.sums.push(sum);
                    body.extend_from_slice(&bytes);
                }
                Err(StoreError::Damaged { .. }) => content.lost |= 1 << page,
                Err(error) => return Err(error),
            }
        }
        content.body = body.freeze();
        Ok(content)
    }

    fn install(&self, block: BlockId, content: &BlockContent) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.live()?;
        state.clean = false;
        state.dirty.install(Key::of(block), content);
        Ok(())
    }

    fn usage(&self) -> Usage {
        let state = self.state.lock();
        let space = Space { total: 1 << 40, free: 1 << 40 };
        Usage { space, slots: state.blocks.len() as u64, dirty: state.dirty.bytes }
    }

    fn was_clean(&self) -> bool {
        self.was_clean
    }

    fn directory(&self) -> u128 {
        self.directory
    }

    fn close(&self, clean: bool) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.commit(&[Hashes::ALL])?;
        state.clean = clean;
        state.stopped = true;
        Ok(())
    }

    fn failure(&self) -> Option<String> {
        None
    }
}
