//! Giving locks up: flush, tell the kernel, close the gate, flush what came in, forget.
//!
//! The order avoids the known deadlocks with the kernel: while it forgets, reads and writes are
//! still answered under the lock; nothing else is, and nobody holds the mutex meanwhile.

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use lockservice::{Holder, Mode, Name, Span};

use crate::{
    bug::{self, Bug},
    error::Error,
    fs::Fs,
    gate::Stage,
    layout::{
        geometry::{InodeNo, LOCK_INODES, LOCK_SPACE, SegmentNo},
        inode::FileType,
    },
    opens::is_of_opens,
    state::State,
    writeout::REST,
};

/// Inodes that the kernel is told to forget at once.
const ABREAST: usize = 64;
/// How often it is told again because reads went on.
const ROUNDS: usize = 100;

#[async_trait]
impl Holder for Fs {
    async fn revoke(&self, span: Span, keep: Option<Mode>) {
        if is_of_opens(span) {
            if keep.is_some() {
                self.leave_closed(span);
            }
            return;
        }
        let began = self.world.clock.now();
        let (gate, closing, mapped) = {
            let mut state = self.state.lock();
            if state.dead.is_some() {
                return;
            }
            state.counters.revocations += 1;
            (state.gates.open(span, keep), state.closing, state.mapped_in(span))
        };
        self.flush_early(span).await;
        if keep.is_none() {
            self.declare_opens(span).await;
        }
        // A mount that closes has no kernel any more. What may be mapped for writing does not stay in
        // it under a shared lock.
        if !closing && (keep.is_none() || mapped) {
            self.close_behind_kernel(span, gate, keep.is_some()).await;
        }
        self.state.lock().gates.advance(gate, Stage::Closed);
        if let Err(error) = self.flush_span(span).await {
            // Nothing can be given back that is not flushed; whoever is next must replay the log.
            self.fail(error);
        }
        {
            let mut state = self.state.lock();
            if keep.is_none() {
                state.forget(span);
            } else {
                self.give_up_unwritten(&mut state, span);
            }
            state.gates.advance(gate, Stage::Returned);
        }
        tracing::debug!(?span, ?keep, took = ?self.world.clock.now().since(began), "given up");
        self.signals.settled.notify_waiters();
    }

    fn expired(&self) {
        self.fail(Error::Expired);
    }
}

impl Fs {
    /// Writes most of what is dirty, so that little is left when the gate is closed. An error will
    /// come again then.
    async fn flush_early(&self, span: Span) {
        let dirty = self.state.lock().dirty_in(span);
        if !dirty.is_empty() && !bug::on(Bug::ReleaseUnwritten) {
            let _ = self.write_back(dirty).await;
        }
    }

    /// Writes out everything under `span`: data, log, metadata in place.
    async fn flush_span(&self, span: Span) -> Result<(), Error> {
        self.settled(|state| state.is_quiet(span)).await?;
        let dirty = self.state.lock().dirty_in(span);
        if !dirty.is_empty() && !bug::on(Bug::ReleaseUnwritten) {
            self.write_back(dirty).await?;
            self.settled(|state| state.is_quiet(span)).await?;
        }
        while self.state.lock().changed_in(span) {
            match self.push().await {
                // The next owner has to wait for space with us.
                Err(Error::NoSpace) => self.world.clock.sleep(REST).await,
                pushed => {
                    pushed?;
                    break;
                }
            }
        }
        // What another write-out has under way counts as not in place.
        while self.state.lock().away_from_home(span) && !bug::on(Bug::ReleaseUnflushed) {
            self.write_home().await?;
        }
        Ok(())
    }

    /// What still could not be written, for good, must not stay beside a lock that is only shared: it
    /// is lost, its owner is told, and everybody sees what the disk has.
    fn give_up_unwritten(&self, state: &mut State, span: Span) {
        let lost = state.dirty_in(span);
        for ino in &lost {
            tracing::error!(%ino, "what was written last cannot be written back and is lost");
            state.drop_inode(*ino);
        }
        let kernel = self.kernel.read().clone();
        if let Some(kernel) = kernel.filter(|_| !lost.is_empty()) {
            self.world.spawn("forget what is lost", async move {
                for ino in lost {
                    kernel.drop_pages(ino, None).await;
                }
            });
        }
    }

    /// Lets the kernel forget, again and again while reads slip in behind it and fill its pages, and
    /// closes the gate when none did.
    async fn close_behind_kernel(&self, span: Span, gate: u64, mapped: bool) {
        for round in 0..ROUNDS {
            tracing::debug!(?span, round, "the kernel is told to forget");
            self.state.lock().gates.watch(gate);
            self.tell_kernel(span, mapped).await;
            if self.kernel.read().is_none() || self.state.lock().gates.close_if_unused(gate) {
                return;
            }
        }
        // A reader in a tight loop. Its parked reads must not be waited for, so this is the end of it.
        tracing::warn!(
            "a file is read too busily to be given up cleanly; its reader may see old pages"
        );
    }

    /// The size of a file, if it is in memory and this mount still has its lock.
    #[must_use]
    pub fn size_of(&self, ino: InodeNo) -> Option<u64> {
        let state = self.state.lock();
        let slot = state.inodes.get(&ino).filter(|slot| slot.has_data())?;
        let ours = !state.gates.shut(ino.lock(), Mode::Shared, true)
            && self.locks.held(ino.lock(), Mode::Shared).is_some();
        ours.then_some(slot.size)
    }

    /// Lets the kernel forget what it knows under `span`, or only what of it is `mapped`.
    async fn tell_kernel(&self, span: Span, mapped: bool) {
        if bug::on(Bug::KernelKeeps) {
            return;
        }
        let Some(kernel) = self.kernel.read().clone() else { return };
        let Some((from, to)) = inodes(span) else { return };
        let known: Vec<(InodeNo, bool)> = {
            let state = self.state.lock();
            let directory = |ino: &InodeNo| {
                // Unknown here: the kernel is told both.
                let kind = state.inodes.get(ino).map(|slot| slot.inode.file_type());
                matches!(kind, None | Some(None | Some(FileType::Directory)))
            };
            state
                .lookups
                .range(from..to)
                .map(|(ino, _)| *ino)
                .chain((from <= InodeNo::ROOT && InodeNo::ROOT < to).then_some(InodeNo::ROOT))
                .filter(|ino| !mapped || state.mapped.contains_key(ino))
                .map(|ino| (ino, directory(&ino)))
                .collect()
        };
        // Only what is under the span: a page elsewhere may be held by a read that waits for a lock, and
        // two mounts could wait for each other so.
        let kernel = &kernel;
        let forget = |(ino, directory)| async move {
            if directory {
                kernel.drop_names(ino).await;
            }
            kernel.drop_pages(ino, self.size_of(ino)).await;
        };
        stream::iter(known).for_each_concurrent(ABREAST, forget).await;
    }
}

/// The numbers of the inodes whose locks are in `span`.
pub(crate) fn inodes(span: Span) -> Option<(InodeNo, InodeNo)> {
    inodes_by(span, LOCK_INODES)
}

/// The numbers of the inodes whose names of `kind` are in `span`.
pub(crate) fn inodes_by(span: Span, kind: u8) -> Option<(InodeNo, InodeNo)> {
    let low = u64::from(kind) << 56;
    let from = span.start().0.max(low);
    let to = span.end().0.min(low + (1 << 56));
    (from < to).then(|| (InodeNo(from - low), InodeNo(to - low)))
}

/// The segments of `kind` whose bitmaps' lock is in `span`, of those that `used` has.
fn segment_in(span: Span, kind: u8, segment: SegmentNo) -> bool {
    span.contains(Name::new(kind, segment.get(), 0))
}

impl State {
    /// Files under `span` with something to write back.
    fn dirty_in(&self, span: Span) -> Vec<InodeNo> {
        self.dirty.values().map(|(ino, _)| *ino).filter(|ino| span.contains(ino.lock())).collect()
    }

    /// Something under `span` may be mapped for writing.
    fn mapped_in(&self, span: Span) -> bool {
        inodes(span).is_some_and(|(from, to)| self.mapped.range(from..to).next().is_some())
    }

    /// No write-back is under way under `span`, no run of it is spoken for, and nothing of it is being freed.
    fn is_quiet(&self, span: Span) -> bool {
        if self.freeing.range(span.start()..span.end()).next().is_some() {
            return false;
        }
        if self.jobs == 0 && self.segments.reserved.is_empty() {
            return true;
        }
        let quiet = inodes(span)
            .is_none_or(|(from, to)| !self.inodes.range(from..to).any(|(_, slot)| slot.writing));
        let free = self.segments.space.is_none_or(|segment| {
            !segment_in(span, LOCK_SPACE, segment) || self.segments.reserved.is_empty()
        });
        quiet && free
    }

    /// Something under `span` was changed and is not in the log.
    fn changed_in(&self, span: Span) -> bool {
        if self.pushed >= self.serial {
            return false;
        }
        // Changes that are being pushed right now are not marked any more, so: anything at all.
        self.changed_bytes > 0
            || self.home.values().chain(self.homing.values()).any(|home| span.contains(home.lock))
    }

    /// Something under `span` is in the log and not in place.
    fn away_from_home(&self, span: Span) -> bool {
        self.dead.is_none()
            && self.home.values().chain(self.homing.values()).any(|home| span.contains(home.lock))
    }

    /// Forgets everything that is cached under `span`.
    fn forget(&mut self, span: Span) {
        if let Some((from, to)) = inodes(span) {
            let gone: Vec<InodeNo> = self.inodes.range(from..to).map(|(ino, _)| *ino).collect();
            for ino in gone {
                self.drop_inode(ino);
            }
        }
        let maps: Vec<blockstore::Offset> = self
            .pages
            .iter()
            .filter(|(_, page)| page.lock.index() == 0 && span.contains(page.lock))
            .map(|(at, _)| *at)
            .collect();
        for at in maps {
            self.remove_page(at);
        }
        if let Some(segment) = self.segments.space
            && segment_in(span, LOCK_SPACE, segment)
        {
            self.segments.space = None;
            self.segments.run_hints.clear();
        }
        if let Some(segment) = self.segments.inodes
            && span.covers(segment.inode_locks())
        {
            self.segments.inodes = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by a simulated cluster: the bitmap was flushed and forgotten, then the inode was freed, and its bits stayed.
    #[test]
    fn a_bitmap_is_not_given_up_while_what_it_covers_is_being_freed() {
        let map = SegmentNo::new(3).unwrap().inode_map_lock();
        let mut state = State::new();
        assert!(state.is_quiet(Span::one(map)));
        state.freeing.insert(map);
        assert!(!state.is_quiet(Span::one(map)));
        assert!(state.is_quiet(Span::one(Name(map.0 + 1))));
    }
}
