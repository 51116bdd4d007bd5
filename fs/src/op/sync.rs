//! Making things durable, and telling how much space there is.

use blockstore::PAGE;

use crate::{
    attributes::{InodeNo, Statfs},
    bug::{self, Bug},
    error::Error,
    fs::Fs,
    layout::{dirpage::MAX_NAME, geometry::BITS},
};

impl Fs {
    /// Makes the data, the inode and its names durable. Also tells a write-back error that was
    /// not told yet.
    ///
    /// # Errors
    /// What went wrong with the disk.
    pub async fn fsync(&self, ino: InodeNo) -> Result<(), Error> {
        let deadline = self.world.clock.now() + self.config.patience;
        self.in_time(deadline, "the virtual disk", self.write_back(vec![ino])).await?;
        self.told(ino)?;
        if bug::on(Bug::SyncUnlogged) {
            return Ok(());
        }
        self.in_time(deadline, "the log", self.push()).await
    }

    /// Makes the directory and its ancestors durable.
    ///
    /// # Errors
    /// What went wrong with the disk.
    pub async fn fsyncdir(&self, _ino: InodeNo) -> Result<(), Error> {
        let deadline = self.world.clock.now() + self.config.patience;
        self.in_time(deadline, "the log", self.push()).await
    }

    /// Tells a write-back error of `ino` that was not told yet; costs nothing. For `close(2)`.
    ///
    /// # Errors
    /// That error.
    pub fn told(&self, ino: InodeNo) -> Result<(), Error> {
        let mut state = self.state.lock();
        let failed = state.inodes.get_mut(&ino).and_then(|slot| slot.failed.take());
        let failed = failed.or_else(|| state.untold.remove(&ino));
        failed.map_or(Ok(()), Err)
    }

    /// Makes everything durable that was done on this mount before the call.
    ///
    /// # Errors
    /// What went wrong with the disk.
    pub async fn sync(&self) -> Result<(), Error> {
        let dirty = self.state.lock().dirty.values().map(|(ino, _)| *ino).collect();
        let deadline = self.world.clock.now() + self.config.patience;
        self.in_time(deadline, "the virtual disk", self.write_back(dirty)).await?;
        self.in_time(deadline, "the log", self.push()).await
    }

    /// Space and limits.
    ///
    /// # Errors
    /// If the virtual disk does not answer.
    pub async fn statfs(&self) -> Result<Statfs, Error> {
        let space = self.disk.space().await?;
        let inodes = u64::from(BITS - 1) << 16;
        Ok(Statfs {
            block_size: PAGE as u32,
            blocks: space.total / PAGE,
            free: space.free / PAGE,
            inodes,
            free_inodes: inodes,
            name_max: MAX_NAME as u32,
        })
    }
}
