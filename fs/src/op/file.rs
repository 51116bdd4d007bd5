//! Reading and writing files. What is in memory is served from there; a page that is overwritten
//! whole, or lies where the disk has nothing, is never read.

use blockstore::PAGE;
use bytes::Bytes;
use lockservice::Mode;

use crate::{
    attributes::InodeNo,
    data::{FilePages, ZEROS, on_disk, patch, slice},
    error::Error,
    fs::Fs,
    layout::{geometry::MAX_SIZE, inode::FileType},
    state::Slot,
    tx::{Need, Stop, Tx},
};

/// The least and the most pages that are loaded ahead of a sequential reader.
const LEAST_AHEAD: u64 = 32;
const MOST_AHEAD: u64 = 1024;
/// Seconds.
const DAY: i64 = 24 * 3600;

impl Fs {
    /// Up to `length` bytes from `offset`, in pieces; fewer only at the end of the file.
    ///
    /// # Errors
    /// [`Error::IsDirectory`].
    pub async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, Error> {
        let mut ahead = None;
        let pieces = self
            .run_io(|tx| {
                if tx.state.mapped.contains_key(&ino) {
                    // What the kernel reads now it may let a mapping write to, without a word.
                    tx.hold(ino.lock(), Mode::Exclusive)?;
                }
                tx.regular(ino)?;
                tx.touch(ino);
                let slot = tx.state.inodes.get_mut(&ino).ok_or(Need::Inode(ino))?;
                let end = offset.saturating_add(length).min(slot.size);
                if offset >= end {
                    return Ok(Vec::new());
                }
                let pieces = gather(slot, ino, offset, end)?;
                ahead = read_ahead(slot, offset, end);
                Ok(pieces)
            })
            .await?;
        if let Some((first, count)) = ahead
            && let Some(fs) = self.me.upgrade()
        {
            // Failing to load ahead is no failure: the read that needs it will say so.
            self.world.spawn("read ahead", async move {
                let _ = fs.load_data(ino, first, count).await;
            });
        }
        Ok(pieces)
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoSpace`]; what went wrong with an earlier write-back of this
    /// file and was told to nobody yet.
    pub async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), Error> {
        self.told(ino)?;
        self.run_io(|tx| tx.write(ino, Some(offset), &data)).await.map(|_| ())
    }

    /// Writes all of `data` at the end of the file, wherever that is by then on any mount; returns
    /// the offset.
    ///
    /// # Errors
    /// As [`Fs::write`].
    pub async fn append(&self, ino: InodeNo, data: Bytes) -> Result<u64, Error> {
        self.told(ino)?;
        self.run_io(|tx| tx.write(ino, None, &data)).await
    }
}

/// The bytes of a file from `offset` to `end`.
fn gather(slot: &mut Slot, ino: InodeNo, offset: u64, end: u64) -> Result<Vec<Bytes>, Stop> {
    let mut pieces = Vec::with_capacity(((end - offset) / PAGE + 2) as usize);
    let mut at = offset;
    while at < end {
        let page = at / PAGE;
        let from = (at % PAGE) as usize;
        let want = (PAGE - at % PAGE).min(end - at) as usize;
        if let Some(found) = slot.data.get_mut(page) {
            found.touched = true;
            slice(&found.bytes, from, want, &mut pieces);
        } else if on_disk(&slot.inode, page) {
            let last = (end - 1) / PAGE;
            let sequential = offset == slot.data.next_read || offset == 0;
            let window = if sequential { slot.data.window.max(LEAST_AHEAD) } else { 0 };
            return Err(Need::Data(ino, page, last - page + 1 + window).into());
        } else {
            pieces.push(Bytes::from_static(&ZEROS).slice(..want));
        }
        at += want as u64;
    }
    Ok(pieces)
}

/// What to load ahead after a read from `offset` to `end`, if the reader is sequential.
fn read_ahead(slot: &mut Slot, offset: u64, end: u64) -> Option<(u64, u64)> {
    let sequential = offset == slot.data.next_read;
    let data: &mut FilePages = &mut slot.data;
    data.next_read = end;
    if !sequential {
        data.window = 0;
        return None;
    }
    data.window = (data.window * 2).clamp(LEAST_AHEAD, MOST_AHEAD);
    let (from, window) = (end.div_ceil(PAGE), data.window);
    // Loads begin where half of the window is used up, so that they overlap with the reader.
    let probe = from + window / 2;
    let missing = |page| slot.data.get(page).is_none() && on_disk(&slot.inode, page);
    (missing(probe) && offset > 0).then_some((from, window))
}

impl Tx<'_> {
    /// `ino` is a regular file that is not free.
    pub(super) fn regular(&mut self, ino: InodeNo) -> Result<(), Stop> {
        match self.live(ino)?.file_type() {
            Some(FileType::Regular) => Ok(()),
            Some(FileType::Directory) => Err(Error::IsDirectory.into()),
            _ => Err(Error::Invalid.into()),
        }
    }

    /// Writes at `offset`, or at the end; returns where.
    fn write(&mut self, ino: InodeNo, offset: Option<u64>, data: &Bytes) -> Result<u64, Stop> {
        self.changing()?;
        self.hold(ino.lock(), Mode::Exclusive)?;
        self.regular(ino)?;
        let size = self.state.inodes[&ino].size;
        let offset = offset.unwrap_or(size);
        let length = data.len() as u64;
        let end =
            offset.checked_add(length).filter(|end| *end <= MAX_SIZE).ok_or(Error::TooLarge)?;
        if length == 0 {
            return Ok(offset);
        }
        let cap = self.fs.config.cache_bytes;
        if self.state.dirty_bytes + length > cap / 4 * 3 {
            return Err(Need::Room.into());
        }
        if end > size {
            self.state.edge(ino)?;
        }
        self.edges_loaded(ino, offset, end)?;
        let takes = self.new_space(ino, offset, end);
        if takes > self.state.credit {
            return Err(Need::Space(takes).into());
        }

        // Nothing can be missing from here on.
        let (now, time) = (self.now(), self.fs.world.clock.now());
        let state = &mut *self.state;
        state.credit -= takes;
        state.drawn |= takes > 0;
        if end > size {
            state.square_edge(ino);
        }
        let number = state.number();
        let mut at = offset;
        while at < end {
            let (page, from) = (at / PAGE, (at % PAGE) as usize);
            let take = (PAGE - at % PAGE).min(end - at);
            let piece = data.slice((at - offset) as usize..(at - offset + take) as usize);
            let old = state.inodes[&ino].data.get(page).map(|page| page.bytes.clone());
            let bytes = match old {
                Some(old) if from > 0 || piece.len() < old.len() => patch(&old, from, &piece),
                None if from > 0 => patch(&[], from, &piece),
                _ => piece,
            };
            state.put_dirty(ino, page, bytes, number);
            at += take;
        }
        if let Some(slot) = state.inodes.get_mut(&ino) {
            slot.size = slot.size.max(end);
            (slot.inode.mtime, slot.inode.ctime) = (now, now);
        }
        state.inode_changed(ino);
        state.note_dirty(ino, time);
        Ok(offset)
    }

    /// Space on the disk that a write takes: of pages that it has not, and that do not wait to be
    /// written already.
    fn new_space(&self, ino: InodeNo, offset: u64, end: u64) -> u64 {
        let slot = &self.state.inodes[&ino];
        let dirty = |page| slot.data.get(page).is_some_and(|page| page.dirty.is_some());
        let pages = offset / PAGE..end.div_ceil(PAGE);
        pages.filter(|page| !dirty(*page) && !on_disk(&slot.inode, *page)).count() as u64 * PAGE
    }

    /// Notes that a file was read, if the last time that this was noted is older than its last
    /// change or a day (relatime), and only where that needs no lock.
    fn touch(&mut self, ino: InodeNo) {
        let Some(slot) = self.state.inodes.get(&ino) else { return };
        let inode = &slot.inode;
        let (seen, changed) = (inode.atime, inode.mtime.max(inode.ctime));
        let now = self.now();
        let recent = seen > changed && now.seconds.saturating_sub(seen.seconds) < DAY;
        if recent || self.fs.config.read_only || !self.is_held(ino.lock(), Mode::Exclusive) {
            return;
        }
        if let Some(slot) = self.state.inodes.get_mut(&ino) {
            slot.inode.atime = now;
        }
        self.state.inode_changed(ino);
    }

    /// The first and the last page of a write are in memory, or their old bytes do not matter.
    fn edges_loaded(&self, ino: InodeNo, offset: u64, end: u64) -> Result<(), Stop> {
        let slot = &self.state.inodes[&ino];
        for page in [offset / PAGE, (end - 1) / PAGE] {
            let start = page * PAGE;
            let stop = (start + PAGE).min(slot.size);
            let covered = offset <= start && end >= stop;
            if !covered && slot.data.get(page).is_none() && on_disk(&slot.inode, page) {
                return Err(Need::Data(ino, page, 1).into());
            }
        }
        Ok(())
    }
}
