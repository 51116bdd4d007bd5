//! Allocation: of inodes and runs, from segments that this mount holds whole, so that no message
//! is needed. Who asks for what, and what is written into it, is not known here.

use blockstore::{Offset, PAGE};
use lockservice::{Mode, Name, Pin, Span};

use crate::{
    error::Error,
    fs::Fs,
    layout::{
        bitmap::Bitmap,
        geometry::{
            BITS, InodeNo, LAST_CLASS, LOCK_TAKING_INODES, LOCK_TAKING_SPACE, Run, SEGMENTS,
            SegmentNo, Use, class_bytes, class_slots,
        },
        version::Version,
    },
    state::Content,
    tx::{Access, After, Need, PageKind, Stop, Tx},
};

/// Free inodes that are looked at for one whose lock is held.
const CANDIDATES: u32 = 64;

/// Bytes that a write-back under way at the death of a mount may have put behind the last run of
/// a class that the log knows.
const MARGIN_BYTES: u64 = 128 << 20;
/// And at least so many runs.
const MARGIN_RUNS: u64 = 16;

impl Tx<'_> {
    /// Takes a free inode of this mount's segment; its bit is set in this attempt.
    pub(crate) fn take_inode(&mut self) -> Result<InodeNo, Stop> {
        let segment = self.state.segments.inodes.ok_or(Need::InodeSegment)?;
        let (at, lock) = (segment.inode_map(), segment.inode_map_lock());
        let mut hint = self.state.segments.inode_hint.max(1);
        let mut first = None;
        for _ in 0..CANDIDATES {
            let found = self.map(at, lock)?.find_free(1, BITS, hint);
            let Some(bit) = found else { break };
            let Some(ino) = InodeNo::new(segment, bit) else { break };
            first.get_or_insert(ino);
            if self.is_held(ino.lock(), Mode::Exclusive) {
                self.map_mut(at, lock)?.put(bit, true);
                self.state.segments.inode_hint = bit + 1;
                return Ok(ino);
            }
            hint = bit + 1;
        }
        match first {
            Some(ino) => Err(Need::Lock(ino.lock(), Mode::Exclusive).into()),
            None => Err(Need::InodeSegment.into()),
        }
    }

    /// A free run of this mount's space segment; nothing is marked.
    fn find_run(&mut self, use_: Use, class: u8) -> Result<Run, Stop> {
        let segment = self.state.segments.space.ok_or(Need::SpaceSegment)?;
        let (at, lock) = (segment.run_map(use_, class), segment.space_lock());
        if !self.is_held(lock, Mode::Exclusive) {
            // On its way to somebody who frees a run of it. Never waited for: another will do.
            return Err(Need::SpaceSegment.into());
        }
        let key = (use_, class);
        let own = self.hints.iter().rfind(|(of, _)| *of == key).map(|(_, hint)| *hint);
        let hint = own.or_else(|| self.state.segments.run_hints.get(&key).copied()).unwrap_or(0);
        let slots = class_slots(class);
        let mut from = if hint < slots { hint } else { 0 };
        for _ in 0..=slots {
            let Some(bit) = self.map(at, lock)?.find_free(0, slots, from) else { break };
            let spoken_for = self.state.segments.reserved.contains(&(at, bit))
                || self.reserving.contains(&(at, bit));
            if !spoken_for {
                self.hints.retain(|(of, _)| *of != key);
                self.hints.push((key, bit + 1));
                let run = Run::new(use_, class, segment, bit);
                return run.ok_or_else(|| Error::Damaged("a run that cannot be".into()).into());
            }
            from = if bit + 1 < slots { bit + 1 } else { 0 };
        }
        Err(Need::SpaceSegment.into())
    }

    /// Takes a run for metadata; its bit is set in this attempt.
    pub(crate) fn take_run(&mut self, class: u8) -> Result<Run, Stop> {
        let run = self.find_run(Use::Metadata, class)?;
        self.map_mut(run.map(), run.segment().space_lock())?.put(run.slot(), true);
        Ok(run)
    }

    /// Reserves a run for data, in memory only: its bit is set when the data is on the disk.
    pub(crate) fn reserve_run(&mut self, class: u8) -> Result<Run, Stop> {
        let run = self.find_run(Use::Data, class)?;
        if self.map(run.map(), run.segment().space_lock())?.version() == Version::ZERO {
            // Whoever cleans up after this mount must see that the class was in use.
            self.map_mut(run.map(), run.segment().space_lock())?;
        }
        self.reserving.push((run.map(), run.slot()));
        Ok(run)
    }

    /// Clears the bit of `run`, whatever segment it is of.
    pub(crate) fn free_run(&mut self, run: Run) -> Result<(), Stop> {
        self.map_mut(run.map(), run.segment().space_lock())?.put(run.slot(), false);
        if run.use_() == Use::Metadata {
            // Else who gets the run next would find them, under the lock of an inode that is gone.
            self.after.push(After::Unpaged(run));
        }
        Ok(())
    }
}

impl Fs {
    /// Takes an inode segment that nobody uses: the lowest with free inodes after the current one.
    pub(crate) async fn take_inode_segment(&self) -> Result<(), Error> {
        let _one = self.taking.lock().await;
        let current = self.state.lock().segments.inodes;
        if let Some(segment) = current
            && self.has_free_inodes(segment).await?
        {
            // Another operation was faster.
            return Ok(());
        }
        let _taking = self.may_take(LOCK_TAKING_INODES).await?;
        for number in 0..SEGMENTS {
            let Some(segment) = SegmentNo::new(number) else { break };
            if Some(segment) == current {
                continue;
            }
            let span = segment.inode_locks();
            let Some(pin) = self.locks.try_acquire(span, Mode::Exclusive).await? else { continue };
            self.state.lock().gates.lift(span, pin.held.mode);
            if !self.has_free_inodes(segment).await? {
                continue;
            }
            self.adopt_orphans(segment).await?;
            // Then nobody can have a file of this segment open without this mount hearing of it.
            let opens = segment.open_locks();
            drop(self.locks.try_acquire(opens, Mode::Exclusive).await?);
            let mut state = self.state.lock();
            state.segments.inodes = Some(segment);
            state.segments.inode_hint = 1;
            return Ok(());
        }
        Err(Error::NoSpace)
    }

    /// Until this is dropped nobody counts on the segments in use staying the same ones. Whoever brings the volume to
    /// rest keeps segments that nobody uses, too; to pass them by would leave a gap that no check looks behind.
    async fn may_take(&self, of: Name) -> Result<Pin, Error> {
        let span = Span::one(of);
        Ok(self.locks.acquire(span, span, Mode::Shared).await?)
    }

    async fn has_free_inodes(&self, segment: SegmentNo) -> Result<bool, Error> {
        let map = self.bitmap(segment.inode_map(), segment.inode_map_lock()).await?;
        Ok(map.count() < BITS - 1 && map.find_free(1, BITS, 1).is_some())
    }

    /// A bitmap as this mount sees it.
    async fn bitmap(&self, at: Offset, lock: Name) -> Result<Bitmap, Error> {
        for _ in 0..16 {
            {
                let mut state = self.state.lock();
                let mut tx = Tx::new(self, &mut state, Access::Plan);
                match tx.map(at, lock) {
                    Ok(map) => return Ok(map.clone()),
                    Err(Stop::Fail(error)) => return Err(error),
                    Err(Stop::Need(Need::Lock(..))) => break,
                    Err(Stop::Need(_)) => {}
                }
            }
            self.load_page(at, lock, PageKind::Map, Access::Plan).await?;
        }
        let pin = self.locks.acquire(Span::one(lock), Span::one(lock), Mode::Exclusive).await?;
        self.state.lock().gates.lift(pin.held.span, pin.held.mode);
        loop {
            {
                let mut state = self.state.lock();
                let mut tx = Tx::new(self, &mut state, Access::Plan);
                match tx.map(at, lock) {
                    Ok(map) => return Ok(map.clone()),
                    Err(Stop::Fail(error)) => return Err(error),
                    Err(Stop::Need(_)) => {}
                }
            }
            self.load_page(at, lock, PageKind::Map, Access::Plan).await?;
        }
    }

    /// What the last owner of the segment left without a name, because it died, is freed here.
    async fn adopt_orphans(&self, segment: SegmentNo) -> Result<(), Error> {
        let map = self.bitmap(segment.orphan_map(), segment.inode_map_lock()).await?;
        let mut state = self.state.lock();
        for bit in map.ones() {
            if let Some(ino) = InodeNo::new(segment, bit)
                && !state.opens.contains_key(&ino)
            {
                state.orphans.insert(ino);
            }
        }
        if !state.orphans.is_empty() {
            self.signals.reap.notify_one();
        }
        Ok(())
    }

    /// Takes a space segment that nobody uses: the lowest after the current one.
    pub(crate) async fn take_space_segment(&self) -> Result<(), Error> {
        let _one = self.taking.lock().await;
        let _taking = self.may_take(LOCK_TAKING_SPACE).await?;
        let current = self.state.lock().segments.space;
        // The current one is full, or was lost to somebody who freed a run of it.
        let from = current.map_or(0, |segment| segment.get() + 1);
        for number in (from..SEGMENTS).chain(0..from) {
            let Some(segment) = SegmentNo::new(number) else { break };
            let lock = segment.space_lock();
            let span = Span::one(lock);
            let Some(pin) = self.locks.try_acquire(span, Mode::Exclusive).await? else { continue };
            self.state.lock().gates.lift(span, pin.held.mode);
            self.clean(segment).await?;
            let mut state = self.state.lock();
            state.segments.space = Some(segment);
            state.segments.run_hints.clear();
            return Ok(());
        }
        Err(Error::NoSpace)
    }

    /// If the last owner of the segment died, its free runs may hold bytes: discards them.
    async fn clean(&self, segment: SegmentNo) -> Result<(), Error> {
        let (head, lock) = (segment.space_head(), segment.space_lock());
        if !self.bitmap(head, lock).await?.is_dirty() {
            return Ok(());
        }
        for class in 0..=LAST_CLASS {
            let map = self.bitmap(segment.run_map(Use::Data, class), lock).await?;
            if map.version() == Version::ZERO {
                continue;
            }
            let last = map.ones().last().map_or(0, |bit| bit + 1);
            let margin = (MARGIN_BYTES / class_bytes(class)).max(MARGIN_RUNS);
            let end = (u64::from(last) + margin).min(u64::from(class_slots(class))) as u32;
            for (from, to) in map.gaps(end) {
                let Some(run) = Run::new(Use::Data, class, segment, from) else { continue };
                let bytes = u64::from(to - from) * run.bytes();
                debug_assert!(bytes % PAGE == 0);
                self.disk.discard(run.address(), bytes).await?;
            }
        }
        self.disk.flush().await?;
        let mut state = self.state.lock();
        if let Some(page) = state.pages.get_mut(&head)
            && self.locks.held(lock, Mode::Exclusive).is_some()
        {
            let base = page.content.clone();
            if let Content::Map(map) = &mut page.content {
                map.set_dirty(false);
            }
            state.page_changed(head, Some(base));
        }
        Ok(())
    }
}
