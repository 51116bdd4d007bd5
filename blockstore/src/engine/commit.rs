//! The committer: one thread that brings changes to stable storage, many at a time. Data goes to
//! free slots and is synced, then one synced batch makes it count. Small changes ride in the batch
//! as patch rows and are folded into slots when there is time. A failure of the disk ends it.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;

use super::{
    End, Inner, Queue, Waiter,
    index::{self, Batch, Patches},
    read::merged,
    rows::{self, Entry, Slot},
    slots::{Files, Slots},
};
use crate::{
    message::checksum,
    store::{
        Hashes, StoreError,
        overlay::{Dirty, Key, Layer, PAGE_BYTES, PAGES, Page},
    },
};

/// At most this many changed pages of a block ride in the batch.
const PATCH_PAGES: u32 = 4;
/// So many times the patch rows that idle time is used for are folded even when there is other work.
const FOLD_ALWAYS: u64 = 8;
/// Blocks folded at a time.
const FOLD_BLOCKS: usize = 64;
/// Bytes of a commit that nobody waits for, so that those who come meanwhile wait less.
const PIECE: u64 = 16 << 20;
/// Bytes written with one call.
const STAGE: usize = 1 << 20;
/// How long the committer waits for work before it looks for idle work.
const IDLE: Duration = Duration::from_millis(50);
/// After so many idle waits, what nobody flushed is committed too.
const IDLE_WAITS: u32 = 100;

pub(super) struct Committer {
    inner: Arc<Inner>,
    slots: Slots,
    patches: Patches,
    patch_rows: u64,
    /// Waits without work, one after the other.
    idle: u32,
}

/// What a wait for work ended with.
enum Work {
    Asked(Vec<Hashes>, Vec<Waiter>),
    Much,
    Idle,
    End(End),
}

impl Queue {
    /// What is to be done next.
    fn next(&mut self) -> Option<Work> {
        if let Some(end) = &mut self.end {
            // The mark stays: nothing is queued any more.
            return Some(Work::End(std::mem::replace(end, End::Abrupt)));
        }
        if !self.waiting.is_empty() {
            let (scopes, waiters): (Vec<_>, Vec<_>) =
                std::mem::take(&mut self.waiting).into_iter().unzip();
            let mut scope: Vec<Hashes> = scopes.into_iter().flatten().collect();
            scope.sort_unstable();
            scope.dedup();
            return Some(Work::Asked(scope, waiters));
        }
        std::mem::take(&mut self.kick).then_some(Work::Much)
    }
}

/// A commit in the making.
struct Round {
    batch: Batch,
    files: BTreeSet<u64>,
    stage: Vec<u8>,
    stage_at: Option<Slot>,
    patches: Vec<(Key, u32)>,
}

fn failed(error: &io::Error) -> StoreError {
    StoreError::Stopped(format!("the disk failed: {error}"))
}

impl Committer {
    pub(super) fn new(inner: Arc<Inner>, slots: Slots, patches: Patches) -> Self {
        let patch_rows = patches.values().map(|count| u64::from(*count)).sum();
        Self { inner, slots, patches, patch_rows, idle: 0 }
    }

    /// Works until the engine ends.
    pub(super) fn run(mut self) {
        loop {
            let work = self.wait();
            if !self.perform(work) {
                return;
            }
        }
    }

    /// Does what there is to do, if anything, and does not wait for more.
    pub(super) fn step(&mut self) {
        let work = self.inner.queue.lock().next();
        if let Some(work) = work {
            self.perform(work);
        }
    }

    /// Does one piece of work; whether there can be more.
    fn perform(&mut self, work: Work) -> bool {
        self.idle = if matches!(work, Work::Idle) { self.idle + 1 } else { 0 };
        let (done, waiters, end) = match work {
            Work::Asked(scope, waiters) => {
                let fold = self.patch_rows > self.inner.config.fold * FOLD_ALWAYS;
                (self.round(|layer| layer.freeze(&scope), fold), waiters, None)
            }
            Work::Much => (self.round(|layer| layer.freeze_some(PIECE), false), Vec::new(), None),
            Work::Idle => (self.idle(self.idle), Vec::new(), None),
            Work::End(End::Abrupt) => return false,
            Work::End(End::Orderly(clean, waiter)) => {
                let done = self.round(|layer| layer.freeze(&[Hashes::ALL]), false);
                let done = match done {
                    Ok(()) if clean => self.inner.dir.end(&self.inner.world),
                    done => done,
                };
                (done, vec![waiter], Some("it was closed"))
            }
        };
        if let Err(error) = &done {
            self.fail(error);
        } else if let Some(reason) = end {
            self.inner.state.lock().stopped = Some(reason.to_owned());
        }
        for waiter in waiters {
            // Who does not wait any more needs no answer.
            let _ = waiter.send(done.clone());
        }
        done.is_ok() && end.is_none()
    }

    /// After a failure nothing is tried again: what the disk has is unknown.
    fn fail(&self, error: &StoreError) {
        tracing::error!(%error, "the block engine stops");
        let mut state = self.inner.state.lock();
        state.stopped = Some(error.to_string());
        state.failed = true;
        drop(state);
        let mut queue = self.inner.queue.lock();
        queue.end = Some(End::Abrupt);
        queue.waiting.clear();
        drop(queue);
        self.inner.dirty.send_replace(0);
    }

    fn wait(&self) -> Work {
        let mut queue = self.inner.queue.lock();
        loop {
            if let Some(work) = queue.next() {
                return work;
            }
            if self.inner.wake.wait_for(&mut queue, IDLE).timed_out() {
                return Work::Idle;
            }
        }
    }

    fn idle(&mut self, waits: u32) -> Result<(), StoreError> {
        if self.patch_rows > self.inner.config.fold {
            return self.round(|_| Layer::default(), true);
        }
        if waits.is_multiple_of(IDLE_WAITS) {
            return self.round(|layer| layer.freeze_some(PIECE), false);
        }
        Ok(())
    }

    /// One commit of what `freeze` takes, with some folding if `fold`.
    fn round(
        &mut self,
        freeze: impl FnOnce(&mut Layer) -> Layer,
        fold: bool,
    ) -> Result<(), StoreError> {
        let frozen = {
            let mut state = self.inner.state.lock();
            let frozen = Arc::new(freeze(&mut state.current));
            state.committing = Arc::clone(&frozen);
            frozen
        };
        let folds: Vec<Key> = if fold {
            self.patches.keys().take(FOLD_BLOCKS).copied().collect()
        } else {
            Vec::new()
        };
        if frozen.is_empty() && folds.is_empty() {
            return Ok(());
        }
        let mut round = Round {
            batch: Batch::default(),
            files: BTreeSet::new(),
            stage: Vec::new(),
            stage_at: None,
            patches: Vec::new(),
        };
        let empty = Dirty::default();
        for (key, dirty) in &frozen.blocks {
            self.block(&mut round, *key, dirty, folds.binary_search(key).is_ok())?;
        }
        let swept = self.swept(&frozen)?;
        for (key, dirty) in &swept {
            self.block(&mut round, *key, dirty, false)?;
        }
        // Each block once: what a round says of it is made from what the index had before the round.
        let rest = folds.iter().filter(|key| !frozen.blocks.contains_key(key));
        for key in rest.filter(|key| !swept.contains_key(key)) {
            self.block(&mut round, *key, &empty, true)?;
        }
        self.seal(round, &frozen)
    }

    /// Blocks whose only change is that a sweep discards pages of them.
    fn swept(&self, frozen: &Layer) -> Result<BTreeMap<Key, Dirty>, StoreError> {
        let mut found = BTreeMap::<Key, Dirty>::new();
        for sweep in &frozen.sweeps {
            let span = Key::span(sweep.group).into_inner();
            index::each_entry(&*self.inner.index, span, |key, entry| {
                let mask = sweep.covers(key) & entry.valid;
                if mask != 0 && !frozen.blocks.contains_key(&key) {
                    let dirty = found.entry(key).or_default();
                    dirty.cleared |= mask;
                    dirty.version = dirty.version.max(sweep.version);
                }
                true
            })?;
        }
        Ok(found)
    }

    /// Adds the changes of one block to the round.
    fn block(
        &mut self,
        round: &mut Round,
        key: Key,
        dirty: &Dirty,
        fold: bool,
    ) -> Result<(), StoreError> {
        let old = index::entry(&*self.inner.index, key)?;
        let changed = dirty.mask();
        let base = old.as_ref().map_or(0, |old| old.valid) & !dirty.cleared;
        let old_patched = old.as_ref().map_or(0, |old| old.patched);
        let mut entry = Entry {
            slot: old.as_ref().and_then(|old| old.slot),
            version: match &old {
                Some(old) if !dirty.replaced => old.version.max(dirty.version),
                _ => dirty.version,
            },
            valid: base | changed,
            patched: old_patched & base,
            sums: old.as_ref().map_or([0; PAGES], |old| old.sums),
        };
        if entry.valid == 0 && old.is_none() {
            return Ok(());
        }
        let pages = self.resolve(key, old.as_ref(), base, dirty)?;
        for (page, _, sum) in &pages {
            entry.sums[*page] = *sum;
        }
        let small = changed.count_ones() <= PATCH_PAGES && !(fold && entry.patched | changed != 0);
        if small || entry.valid == 0 {
            for (page, bytes, _) in &pages {
                round.batch.put(&rows::patch_key(key, *page), bytes.clone());
                entry.patched |= 1 << page;
            }
        } else {
            let slot = self.slots.take(&self.inner.files).map_err(|error| failed(&error))?;
            let mut block = [const { None }; PAGES];
            for page in (0..PAGES).filter(|page| base & !changed & (1 << page) != 0) {
                let old = old.as_ref().expect("a valid page has a row");
                block[page] = self.inner.base(key, old, page, 1)?.remove(0);
            }
            for (page, bytes, _) in pages {
                block[page] = Some(bytes);
            }
            round.put(&self.inner.files, slot, &block)?;
            entry.patched = 0;
            self.release(&mut entry);
            entry.slot = Some(slot);
        }
        for page in (0..PAGES).filter(|page| old_patched & !entry.patched & (1 << page) != 0) {
            round.batch.delete(&rows::patch_key(key, page));
        }
        if entry.valid & !entry.patched == 0 {
            self.release(&mut entry);
        }
        if entry.valid == 0 {
            round.batch.delete(&rows::block_key(key));
        } else {
            round.batch.put(&rows::block_key(key), entry.encode());
        }
        round.patches.push((key, entry.patched.count_ones()));
        Ok(())
    }

    fn release(&mut self, entry: &mut Entry) {
        if let Some(slot) = entry.slot.take() {
            self.slots.free(slot);
        }
    }

    /// The changed pages, whole: those of which only sectors changed are merged with what is below.
    fn resolve(
        &self,
        key: Key,
        old: Option<&Entry>,
        base: u16,
        dirty: &Dirty,
    ) -> Result<Vec<(usize, Bytes, u32)>, StoreError> {
        let mut pages = Vec::new();
        for (page, change) in dirty.pages.iter().enumerate() {
            match change {
                None => {}
                Some(Page::Whole { bytes, sum }) => pages.push((page, bytes.clone(), *sum)),
                Some(Page::Lost) => {
                    let zeros = Bytes::from_static(&[0; PAGE_BYTES]);
                    let never = !checksum(&zeros);
                    pages.push((page, zeros, never));
                }
                Some(Page::Parts { have, bytes }) => {
                    let below = match old {
                        Some(old) if base & (1 << page) != 0 => {
                            self.inner.base(key, old, page, 1)?.remove(0)
                        }
                        _ => None,
                    };
                    let good = below.as_ref().is_none_or(|bytes| {
                        old.is_some_and(|old| checksum(bytes) == old.sums[page])
                    });
                    let parts = [(*have, Bytes::copy_from_slice(bytes))];
                    let (bytes, sum) = merged(below.map(|bytes| (bytes, 0)), &parts)
                        .expect("there are sectors over it");
                    // What lay below was damaged and stays so: its checksum must go on failing.
                    pages.push((page, bytes, if good { sum } else { !sum }));
                }
            }
        }
        Ok(pages)
    }

    /// Makes the round durable, then true for readers.
    fn seal(&mut self, mut round: Round, frozen: &Layer) -> Result<(), StoreError> {
        round.flush(&self.inner.files)?;
        for file in &round.files {
            self.inner.files.sync(*file).map_err(|error| failed(&error))?;
        }
        for (unit, bits) in self.slots.rows() {
            round.batch.put(&rows::unit_key(unit), rows::unit_value(&bits).to_vec());
        }
        self.inner.index.write(round.batch)?;
        for (key, count) in round.patches {
            let before = if count == 0 {
                self.patches.remove(&key)
            } else {
                self.patches.insert(key, count)
            };
            self.patch_rows += u64::from(count);
            self.patch_rows -= u64::from(before.unwrap_or_default());
        }
        // Reads that still look at freed slots are over once the gate was passed.
        drop(self.inner.gate.write());
        self.slots.release();
        let mut state = self.inner.state.lock();
        state.committing = Arc::default();
        state.commits += 1;
        state.slots = (self.slots.used(), self.slots.count());
        let current = state.current.bytes;
        drop(state);
        self.inner.dirty.send_replace(current);
        if current > self.inner.config.dirty_limit {
            self.inner.queue.lock().kick = true;
        }
        tracing::trace!(blocks = frozen.blocks.len(), bytes = frozen.bytes, "commit");
        Ok(())
    }
}

impl Round {
    /// Stages a block for its slot; neighbours go with one call.
    fn put(
        &mut self,
        files: &Files,
        slot: Slot,
        pages: &[Option<Bytes>; PAGES],
    ) -> Result<(), StoreError> {
        let staged = (self.stage.len() / (PAGES * PAGE_BYTES)) as u64;
        let next = self.stage_at.is_some_and(|first| {
            Slot(first.0 + staged) == slot && Files::number(first) == Files::number(slot)
        });
        if !next || self.stage.len() >= STAGE {
            self.flush(files)?;
            self.stage_at = Some(slot);
        }
        for page in pages {
            match page {
                Some(bytes) => self.stage.extend_from_slice(bytes),
                None => self.stage.resize(self.stage.len() + PAGE_BYTES, 0),
            }
        }
        Ok(())
    }

    fn flush(&mut self, files: &Files) -> Result<(), StoreError> {
        if let Some(slot) = self.stage_at.take() {
            files.write(slot, &self.stage).map_err(|error| failed(&error))?;
            self.files.insert(Files::number(slot));
            self.stage.clear();
        }
        Ok(())
    }
}
