//! Space of files: reserving, punching and zeroing ranges, and finding data and holes.
//!
//! A punched range is discarded on the disk before the call returns: what has been flushed needs
//! no entry in the log, because runs are addressed by arithmetic and stay where they are.

use std::{collections::BTreeMap, sync::Arc};

use blockstore::{CHUNK, Offset, PAGE, SpaceAsk};
use bytes::Bytes;
use lockservice::Mode;

use crate::{
    attributes::{Allocate, InodeNo},
    data::{ZEROS, on_disk, patch, runs_within},
    error::Error,
    fs::Fs,
    layout::geometry::{MAX_SIZE, run_start},
    state::{Slot, State},
    tx::{Need, Stop, Tx},
};

/// What a mount would like to have for what it will write.
const CREDIT: u64 = 256 << 20;
/// After so many beats of the background work it looks whether it still needs that.
const GRANT_BEATS: u32 = 5;

impl Fs {
    /// Reserves, punches or zeroes `length` bytes from `offset`. (Reserving only looks whether
    /// there is space now: none is set aside.)
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoSpace`], [`Error::IsDirectory`].
    pub async fn allocate(
        &self,
        ino: InodeNo,
        offset: u64,
        length: u64,
        what: Allocate,
    ) -> Result<(), Error> {
        if length == 0 {
            return Err(Error::Invalid);
        }
        let end = offset.checked_add(length).filter(|end| *end <= MAX_SIZE);
        let end = end.ok_or(Error::TooLarge)?;
        let keep_size = match what {
            Allocate::Reserve { keep_size } => {
                let deadline = self.world.clock.now() + self.config.patience;
                self.in_time(deadline, "the virtual disk", self.ask_space(length)).await?;
                keep_size
            }
            Allocate::Punch => {
                self.clear(ino, offset, end).await?;
                true
            }
            Allocate::Zero { keep_size } => {
                self.clear(ino, offset, end).await?;
                keep_size
            }
        };
        if keep_size {
            return Ok(());
        }
        self.run(|tx| tx.grow(ino, end)).await
    }

    /// The first offset from `offset` on that was written to, or that was not (`hole`; the end of
    /// the file is a hole). Told by the runs of the file and by what waits to be written: a hole
    /// within a run counts as data.
    ///
    /// # Errors
    /// [`Error::NoSuchPlace`] behind the last data, or the end.
    pub async fn seek(&self, ino: InodeNo, offset: u64, hole: bool) -> Result<u64, Error> {
        self.run_io(|tx| {
            tx.regular(ino)?;
            let slot = &tx.state.inodes[&ino];
            if offset >= slot.size {
                return Err(Error::NoSuchPlace.into());
            }
            let found = if hole { Some(hole_from(slot, offset)) } else { data_from(slot, offset) };
            Ok(found.ok_or(Error::NoSuchPlace)?)
        })
        .await
    }

    /// The hosts that keep bytes `from` to `to` of a file, each with how many of them: a hint.
    ///
    /// # Errors
    /// [`Error::IsDirectory`], or what kept its inode from being read.
    pub async fn hosts(
        &self,
        ino: InodeNo,
        from: u64,
        to: u64,
    ) -> Result<BTreeMap<String, u64>, Error> {
        let runs = self.run_io(|tx| {
            tx.regular(ino)?;
            let slot = &tx.state.inodes[&ino];
            Ok(runs_within(&slot.inode, from, to.min(slot.size)))
        });
        let mut hosts = BTreeMap::new();
        for (Offset(start), length) in runs.await? {
            let mut at = start;
            while at < start + length {
                let end = (at / CHUNK + 1).saturating_mul(CHUNK).min(start + length);
                for host in self.disk.hosts(Offset(at)) {
                    *hosts.entry(host).or_insert(0) += end - at;
                }
                at = end;
            }
        }
        Ok(hosts)
    }

    /// Lets what is dirtied from now on take at least `bytes` of space, if the disk grants them.
    ///
    /// # Errors
    /// [`Error::NoSpace`].
    pub(crate) async fn ask_space(&self, bytes: u64) -> Result<(), Error> {
        let _one = self.asking.lock().await;
        if bytes <= self.state.lock().credit {
            // Another asked meanwhile.
            return Ok(());
        }
        let granted = self.be_granted(bytes, bytes.max(CREDIT)).await?;
        if granted { Ok(()) } else { Err(Error::NoSpace) }
    }

    /// A beat has passed. Now and then gives back what was granted and is not used: all of it if none was used since
    /// the last time, else what has become too much because there is less for everybody.
    pub(crate) fn settle_space(self: &Arc<Self>) {
        let keep = {
            let mut state = self.state.lock();
            state.grant_beats += 1;
            if !state.granted || state.grant_beats < GRANT_BEATS {
                return;
            }
            state.grant_beats = 0;
            if std::mem::take(&mut state.drawn) { state.credit.min(CREDIT) } else { 0 }
        };
        let fs = Arc::clone(self);
        self.world.spawn("space grant", async move {
            let _one = fs.asking.lock().await;
            if let Err(error) = fs.be_granted(0, keep).await {
                tracing::debug!(%error, "space that is not needed is not given back yet");
            }
        });
    }

    /// Asks for `least` bytes besides what is dirty, better `most`; whether they were granted. Asked by one at a time.
    async fn be_granted(&self, least: u64, most: u64) -> Result<bool, Error> {
        let ask = {
            let mut state = self.state.lock();
            let (dirty, spent) = (state.dirty_bytes, std::mem::take(&mut state.spent));
            let [holds, least, most] =
                [state.credit, least, most].map(|more| dirty.saturating_add(more));
            SpaceAsk { spent, holds, least, most }
        };
        let answer = self.disk.reserve(ask).await;
        let mut state = self.state.lock();
        let granted = match answer {
            Ok(granted) => granted,
            Err(error) => {
                state.spent += ask.spent;
                return Err(error.into());
            }
        };
        if granted < ask.least {
            return Ok(false);
        }
        // What was dirtied meanwhile is of the credit of before; what was written meanwhile is not told yet.
        state.credit = granted.saturating_sub(state.dirty_bytes + state.spent);
        state.granted = granted > 0;
        Ok(true)
    }

    /// Makes bytes from `from` to `to` of a file read as zeros.
    async fn clear(&self, ino: InodeNo, from: u64, to: u64) -> Result<(), Error> {
        let discards = self.run_io(|tx| tx.clear(ino, from, to)).await?;
        if discards.is_empty() {
            return Ok(());
        }
        let fs = self.me.upgrade().ok_or(Error::Closed)?;
        let (done, wait) = tokio::sync::oneshot::channel();
        // A task, because the inode is claimed: who gives up waiting must not leave it so.
        self.world.spawn("punch", async move {
            let result = fs.discard_all(&discards).await;
            // Before anybody may change it again: what was read meanwhile may be older than the discard.
            fs.state.lock().drop_clean(ino, from / PAGE, to.div_ceil(PAGE));
            fs.release_claims(&[ino], None);
            let _ = done.send(result);
        });
        let deadline = self.world.clock.now() + self.config.patience;
        let done = async { wait.await.unwrap_or(Err(Error::Closed)) };
        self.in_time(deadline, "the virtual disk", done).await
    }

    async fn discard_all(&self, discards: &[(Offset, u64)]) -> Result<(), Error> {
        for (at, length) in discards {
            self.insist(|| self.disk.discard(*at, *length)).await?;
        }
        self.insist(|| self.disk.flush()).await
    }
}

/// Where the disk may have bytes of a file, by its runs.
fn extents(slot: &Slot) -> impl Iterator<Item = (u64, u64)> + '_ {
    let end = slot.inode.size.next_multiple_of(PAGE);
    slot.inode.runs().filter_map(move |(index, run)| {
        let start = run_start(slot.inode.first_class, index);
        (start < end).then(|| (start, (start + run.bytes()).min(end)))
    })
}

fn data_from(slot: &Slot, offset: u64) -> Option<u64> {
    let on_disk =
        extents(slot).filter(|(_, end)| offset < *end).map(|(start, _)| start.max(offset));
    let dirty = slot.data.next_dirty(offset / PAGE).map(|page| offset.max(page * PAGE));
    on_disk.chain(dirty).min().filter(|at| *at < slot.size)
}

fn hole_from(slot: &Slot, offset: u64) -> u64 {
    let mut at = offset;
    while at < slot.size {
        let covering = extents(slot).find(|(start, end)| (*start..*end).contains(&at));
        let page = at / PAGE;
        at = match covering {
            Some((_, end)) => end,
            None if slot.data.next_dirty(page) == Some(page) => (page + 1) * PAGE,
            None => return at,
        };
    }
    slot.size
}

/// The parts of pages at the two ends of a range that does not cover them: page, first byte, the
/// one behind the last; and the whole pages between them.
fn edges(from: u64, to: u64, size: u64) -> (Vec<(u64, usize, usize)>, std::ops::Range<u64>) {
    let first = from.div_ceil(PAGE);
    // What lies behind the end of the file in its last page does not count.
    let last = if to >= size { size.div_ceil(PAGE) } else { to / PAGE };
    if first > last {
        let start = last * PAGE;
        return (vec![(last, (from - start) as usize, (to - start) as usize)], first..first);
    }
    let mut parts = Vec::new();
    if !from.is_multiple_of(PAGE) {
        parts.push((from / PAGE, (from % PAGE) as usize, PAGE as usize));
    }
    if last * PAGE < to && to < size {
        parts.push((last, 0, (to % PAGE) as usize));
    }
    (parts, first..last)
}

impl Tx<'_> {
    /// A file grows to `end`, if it is shorter.
    fn grow(&mut self, ino: InodeNo, end: u64) -> Result<(), Stop> {
        self.changing()?;
        self.hold(ino.lock(), Mode::Exclusive)?;
        self.regular(ino)?;
        if self.state.inodes[&ino].size >= end {
            return Ok(());
        }
        self.can_resize(ino, end)?;
        let now = self.now();
        let inode = self.inode_mut(ino)?;
        (inode.mtime, inode.ctime) = (now, now);
        self.resize(ino, end)
    }

    /// Makes a range read as zeros in memory, and claims the inode if something of it is on the
    /// disk: what is to be discarded there.
    fn clear(&mut self, ino: InodeNo, from: u64, to: u64) -> Result<Vec<(Offset, u64)>, Stop> {
        self.changing()?;
        self.hold(ino.lock(), Mode::Exclusive)?;
        self.regular(ino)?;
        let slot = &self.state.inodes[&ino];
        if slot.writing {
            return Err(Need::Quiet(ino).into());
        }
        let to = to.min(slot.size);
        if from >= to {
            return Ok(Vec::new());
        }
        let (parts, whole) = edges(from, to, slot.size);
        for (page, ..) in &parts {
            if slot.data.get(*page).is_none() && on_disk(&slot.inode, *page) {
                return Err(Need::Data(ino, *page, 1).into());
            }
        }

        // Nothing can be missing from here on.
        let (now, time) = (self.now(), self.fs.world.clock.now());
        let state = &mut *self.state;
        let number = state.number();
        for (page, from, to) in parts {
            state.zero_part(ino, page, from, to, number);
        }
        let Some(slot) = state.inodes.get_mut(&ino) else { return Ok(Vec::new()) };
        let delta = slot.data.remove(whole.clone());
        let end = whole.end.min(slot.inode.size.div_ceil(PAGE));
        let discards = runs_within(&slot.inode, whole.start * PAGE, end * PAGE);
        let all = slot.inode.size.div_ceil(PAGE) * (PAGE / 512);
        if slot.inode.blocks >= all {
            // Every page was in use; of a file with holes nobody knows which.
            let gone: u64 = discards.iter().map(|(_, length)| length / 512).sum();
            slot.inode.blocks = slot.inode.blocks.saturating_sub(gone);
        }
        (slot.inode.mtime, slot.inode.ctime) = (now, now);
        if !discards.is_empty() {
            slot.writing = true;
            state.jobs += 1;
        }
        state.account(delta);
        state.inode_changed(ino);
        state.note_dirty(ino, time);
        Ok(discards)
    }
}

impl State {
    /// Zeroes a part of a page that is in memory, if it is.
    fn zero_part(&mut self, ino: InodeNo, page: u64, from: usize, to: usize, number: u64) {
        let found = self.inodes.get(&ino).and_then(|slot| slot.data.get(page));
        let Some(bytes) = found.map(|page| page.bytes.clone()) else { return };
        let to = to.min(bytes.len());
        if from < to {
            let zeros: &Bytes = &Bytes::from_static(&ZEROS);
            self.put_dirty(ino, page, patch(&bytes, from, &zeros[..to - from]), number);
        }
    }

    /// Forgets the clean pages of a range: what the disk had there is gone.
    fn drop_clean(&mut self, ino: InodeNo, first: u64, last: u64) {
        let stamp = self.number();
        let Some(slot) = self.inodes.get_mut(&ino) else { return };
        // Loads in flight may bring what was there.
        slot.stamp = stamp;
        let deltas: Vec<_> = slot
            .data
            .clean_in(first..last)
            .into_iter()
            .filter_map(|p| slot.data.evict(p))
            .collect();
        for delta in deltas {
            self.account(delta);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::edges;

    #[test]
    fn a_range_is_whole_pages_and_the_parts_at_its_ends() {
        assert_eq!(edges(0, 4096, 9000), (vec![], 0..1));
        assert_eq!(edges(100, 200, 9000), (vec![(0, 100, 200)], 1..1));
        assert_eq!(edges(100, 4096, 9000), (vec![(0, 100, 4096)], 1..1));
        assert_eq!(edges(100, 5000, 9000), (vec![(0, 100, 4096), (1, 0, 904)], 1..1));
        // To the end of the file: its last page goes whole.
        assert_eq!(edges(4096, 9000, 9000), (vec![], 1..3));
        assert_eq!(edges(8200, 9000, 9000), (vec![(2, 8, 4096)], 3..3));
    }
}
