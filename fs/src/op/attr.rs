//! Changing attributes, the size among them.

use blockstore::PAGE;
use bytes::Bytes;
use lockservice::Mode;

use super::{PERMISSIONS, SETGID, SETUID, stamp};
use crate::{
    attributes::{Entry, InodeNo, SetAttributes, SetTime},
    cache::Key,
    data::on_disk,
    error::Error,
    fs::Fs,
    layout::{
        geometry::{MAX_SIZE, run_start},
        inode::FileType,
    },
    state::State,
    tx::{After, Need, Stop, Tx},
};

impl Fs {
    /// Changes attributes, the size among them.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::IsDirectory`].
    pub async fn setattr(&self, ino: InodeNo, set: SetAttributes) -> Result<Entry, Error> {
        if set.size.is_some_and(|size| size > MAX_SIZE) {
            return Err(Error::TooLarge);
        }
        self.run(|tx| {
            tx.changing()?;
            tx.hold(ino.lock(), Mode::Exclusive)?;
            tx.live(ino)?;
            if let Some(size) = set.size {
                tx.can_resize(ino, size)?;
            }
            let now = tx.now();
            tx.set_mode(ino, &set)?;
            let inode = tx.inode_mut(ino)?;
            inode.uid = set.uid.unwrap_or(inode.uid);
            inode.gid = set.gid.unwrap_or(inode.gid);
            let time = |set: SetTime| match set {
                SetTime::Now => now,
                SetTime::At(at) => stamp(at),
            };
            inode.atime = set.atime.map_or(inode.atime, time);
            let resized = set.size.map(|_| now);
            inode.mtime = set.mtime.map(time).or(resized).unwrap_or(inode.mtime);
            inode.ctime = now;
            if let Some(size) = set.size {
                tx.resize(ino, size)?;
            }
            tx.entry(ino, self.valid_until())
        })
        .await
    }
}

impl Fs {
    /// Takes the set-user-id bit away from a file that somebody writes to, and what goes with it.
    ///
    /// # Errors
    /// [`Error::Stale`].
    pub async fn strip(&self, ino: InodeNo) -> Result<(), Error> {
        let set = SetAttributes { strip: true, ..SetAttributes::default() };
        self.setattr(ino, set).await.map(|_| ())
    }
}

impl Tx<'_> {
    /// The mode as `set` has it, and what follows from it.
    fn set_mode(&mut self, ino: InodeNo, set: &SetAttributes) -> Result<(), Stop> {
        if let Some(mode) = set.mode {
            self.relist(ino, mode)?;
            let inode = self.inode_mut(ino)?;
            inode.mode = inode.mode & !PERMISSIONS | mode & PERMISSIONS;
            return Ok(());
        }
        let strips = set.strip || set.uid.is_some() || set.gid.is_some();
        if strips && self.live(ino)?.file_type() != Some(FileType::Directory) {
            self.drop_capabilities(ino)?;
            let inode = self.inode_mut(ino)?;
            // Without the right to execute, set-group-id means mandatory locks and stays.
            let group = if inode.mode & 0o010 != 0 { SETGID } else { 0 };
            inode.mode &= !(SETUID | group);
        }
        Ok(())
    }

    /// Nothing is missing for [`Tx::resize`].
    pub(super) fn can_resize(&mut self, ino: InodeNo, size: u64) -> Result<(), Stop> {
        match self.live(ino)?.file_type() {
            Some(FileType::Regular) => {}
            Some(FileType::Directory) => return Err(Error::IsDirectory.into()),
            _ => return Err(Error::Invalid.into()),
        }
        let slot = &self.state.inodes[&ino];
        if slot.writing && size < slot.size {
            return Err(Need::Quiet(ino).into());
        }
        if size > slot.size {
            self.state.edge(ino)?;
        }
        Ok(())
    }

    /// Cuts a file off, or grows it with zeros; cannot fail after [`Tx::can_resize`].
    pub(super) fn resize(&mut self, ino: InodeNo, size: u64) -> Result<(), Stop> {
        let inode = self.inode_mut(ino)?;
        let cut = size < inode.size;
        if cut {
            inode.size = size;
            inode.blocks = inode.blocks.min(size.div_ceil(PAGE) * (PAGE / 512));
        }
        let first = inode.first_class;
        let spare = inode.runs().any(|(index, _)| run_start(first, index) >= size);
        if cut && spare {
            self.after.push(After::Trim(ino));
        }
        let now = self.fs.world.clock.now();
        let state = &mut *self.state;
        if state.inodes.get(&ino).is_some_and(|slot| size > slot.size) {
            state.square_edge(ino);
        }
        let Some(slot) = state.inodes.get_mut(&ino) else { return Ok(()) };
        let delta = slot.data.cut(size);
        slot.ragged |= cut && slot.inode.runs().next().is_some();
        slot.size = size;
        if cut {
            slot.inode.size = size;
        }
        state.account(delta);
        state.note_dirty(ino, now);
        Ok(())
    }
}

impl State {
    /// Before a file grows: if the disk may have bytes behind its end in the page that its end is
    /// in, that page must be in memory, to be written again with zeros there.
    pub(crate) fn edge(&self, ino: InodeNo) -> Result<(), Stop> {
        let Some(slot) = self.inodes.get(&ino) else { return Ok(()) };
        let page = slot.size / PAGE;
        let inside = slot.size % PAGE > 0;
        if inside && slot.ragged && slot.data.get(page).is_none() && on_disk(&slot.inode, page) {
            return Err(Need::Data(ino, page, 1).into());
        }
        Ok(())
    }

    /// A file grows: the page that its end was in is written again; see [`State::edge`].
    pub(crate) fn square_edge(&mut self, ino: InodeNo) {
        let number = self.number();
        let Some(slot) = self.inodes.get_mut(&ino) else { return };
        let page = slot.size / PAGE;
        if slot.size % PAGE == 0 || !slot.ragged {
            return;
        }
        let Some(bytes) = slot.data.get(page).map(|page| page.bytes.clone()) else { return };
        self.put_dirty(ino, page, bytes, number);
    }

    /// Puts a file page in place that the disk does not have.
    pub(crate) fn put_dirty(&mut self, ino: InodeNo, page: u64, bytes: Bytes, number: u64) {
        let Some(slot) = self.inodes.get_mut(&ino) else { return };
        if slot.data.get(page).is_none() {
            self.clock.push_back(Key::Data(ino, page, number));
        }
        let delta = slot.data.put(page, bytes, Some(number), number);
        self.account(delta);
    }
}
