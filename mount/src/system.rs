//! The operations of the kernel as operations of the file system.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use fs::{Claimant, Claimed, Fs, Patience};
use fuse::{
    Allocate, Attributes, Caller, DirEntry, Entry, Errno, FileLock, FileSystem, Found, Ino,
    Interrupted, NewNode, Notifier, OpenFlags, Opened, RenameFlags, Result, SetAttributes, Space,
    Stale, Whence, WriteHow, XattrMode,
};
use parking_lot::RwLock;
use world::{Time, World};

use crate::{
    claims::Claims,
    flights::{Flights, Range},
    kernel::tell_size,
    known::Known,
    words::{
        allocate_in, attributes_out, caller_in, claim_in, claimed_out, error_out, ino_in, ino_out,
        kind_in, kind_out, lock_kind_out, maker_in, set_in, xattr_mode_in,
    },
};

/// How long a page that an append left in the wrong place may take to be dropped.
const PATIENCE: Duration = Duration::from_secs(180);

pub(crate) struct System {
    pub(crate) world: World,
    pub(crate) fs: Arc<Fs>,
    pub(crate) known: Arc<Known>,
    pub(crate) flights: Arc<Flights>,
    pub(crate) claims: Claims,
    /// Whether the kernel may keep anything: only once revocations reach it.
    pub(crate) attached: AtomicBool,
    /// Whether it may keep names: only if it can be made to forget them.
    pub(crate) keep_names: AtomicBool,
    /// Every change is on stable storage when it is answered.
    pub(crate) synchronous: bool,
    /// There from when the mount is.
    pub(crate) notifier: RwLock<Option<Notifier>>,
}

impl System {
    fn entry(&self, entry: &fs::Entry) -> Entry {
        self.known.add(ino_out(entry.attributes.ino));
        let valid = self.left(entry.valid_until);
        Entry {
            attributes: attributes_out(&entry.attributes),
            name_for: self.name_for(valid),
            attributes_for: valid,
        }
    }

    fn left(&self, end: Time) -> Duration {
        // An answer that waited for the disk may be older than a lock that went meanwhile.
        let attached = self.attached.load(Ordering::Relaxed) && !self.synchronous;
        if attached { end.since(self.world.clock.now()) } else { Duration::ZERO }
    }

    fn name_for(&self, valid: Duration) -> Duration {
        if self.keep_names.load(Ordering::Relaxed) { valid } else { Duration::ZERO }
    }

    fn attributes(&self, entry: &fs::Entry) -> (Attributes, Duration) {
        (attributes_out(&entry.attributes), self.left(entry.valid_until))
    }

    /// What was done is on stable storage before it is answered, if the mount is synchronous.
    async fn settled<T>(&self, done: std::result::Result<T, fs::Error>) -> Result<T> {
        let done = done.map_err(error_out)?;
        if self.synchronous {
            // Names and attributes of all directories are in one log.
            self.fs.fsyncdir(fs::InodeNo::ROOT).await.map_err(error_out)?;
        }
        Ok(done)
    }

    /// Pages that are wrong once this request is answered: of an append that the kernel put where it
    /// thought that the file ends, or of a write that a revocation passed over.
    fn drop_later(&self, ino: Ino, (from, to): Range) {
        let Some(notifier) = self.notifier.read().clone() else { return };
        let (fs, flights) = (self.fs.clone(), self.flights.clone());
        self.world.spawn("drop-later", async move {
            let flying = flights.within(ino, (0, u64::MAX));
            tell_size(&notifier, ino, fs.size_of(ino_in(ino)), &flying).await;
            // Not awaited by the request: it holds the very page.
            let stale = Stale::pages(from, to);
            if let Err(stuck) = notifier.forget(ino, stale, PATIENCE).await {
                tracing::error!(%stuck, "a written page may be stale");
            }
        });
    }
}

/// The pages that the kernel has are right as long as nobody told it to forget them. Only who may have
/// written is told at close what became of it.
fn opened(flags: OpenFlags, handle: u64) -> Opened {
    Opened { handle, keep_cache: true, direct: flags.direct, skip_flush: !flags.write }
}

const DIRECTORY: OpenFlags = OpenFlags { read: true, write: false, direct: false };

/// Whether a file opened so can be mapped and written through the mapping, of which the kernel says nothing.
fn can_map(flags: OpenFlags) -> bool {
    flags.read && flags.write
}

impl FileSystem for System {
    async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Found> {
        match self.fs.lookup(ino_in(parent), name).await.map_err(error_out)? {
            fs::Lookup::Found(entry) => Ok(Found::Entry(self.entry(&entry))),
            fs::Lookup::Absent { valid_until } => {
                let valid = self.left(valid_until);
                Ok(Found::Nothing(self.name_for(valid)))
            }
        }
    }

    fn forget(&self, ino: Ino, count: u64) {
        self.known.take(ino, count);
        self.fs.forget(ino_in(ino), count);
    }

    async fn getattr(&self, ino: Ino) -> Result<(Attributes, Duration)> {
        let entry = self.fs.getattr(ino_in(ino)).await.map_err(error_out)?;
        Ok(self.attributes(&entry))
    }

    async fn setattr(
        &self,
        ino: Ino,
        caller: Caller,
        set: SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        let set = set_in(set, caller);
        let resized = set.size.is_some();
        let entry = self.settled(self.fs.setattr(ino_in(ino), set).await).await?;
        if resized && self.synchronous {
            self.fs.fsync(ino_in(ino)).await.map_err(error_out)?;
        }
        Ok(self.attributes(&entry))
    }

    async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        self.fs.readlink(ino_in(ino)).await.map_err(error_out)
    }

    async fn make(&self, parent: Ino, name: &[u8], new: NewNode) -> Result<Entry> {
        let node = fs::Node {
            kind: kind_in(new.kind),
            mode: u32::from(new.mode),
            rdev: new.rdev,
            target: Bytes::new(),
        };
        let made = self.fs.make(ino_in(parent), name, node, maker_in(&new)).await;
        self.settled(made).await.map(|entry| self.entry(&entry))
    }

    async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewNode,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened)> {
        let mode = u32::from(new.mode);
        let made = self.fs.create(ino_in(parent), name, mode, maker_in(&new)).await;
        let made = self.settled(made).await?;
        if can_map(flags) {
            // The kernel has no page of it yet.
            self.fs.map(made.attributes.ino);
        }
        Ok((self.entry(&made), opened(flags, self.claims.handle())))
    }

    async fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> Result<Entry> {
        let node = fs::Node::symlink(Bytes::copy_from_slice(target));
        let made = self.fs.make(ino_in(parent), name, node, caller_in(caller)).await;
        self.settled(made).await.map(|entry| self.entry(&entry))
    }

    async fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry> {
        let linked = self.fs.link(ino_in(ino), ino_in(parent), name).await;
        self.settled(linked).await.map(|entry| self.entry(&entry))
    }

    async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.settled(self.fs.unlink(ino_in(parent), name).await).await
    }

    async fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.settled(self.fs.rmdir(ino_in(parent), name).await).await
    }

    async fn rename(&self, from: (Ino, &[u8]), to: (Ino, &[u8]), flags: RenameFlags) -> Result<()> {
        let mode = match flags {
            RenameFlags { exchange: true, no_replace: true } => return Err(Errno::INVAL),
            RenameFlags { exchange: true, .. } => fs::RenameMode::Exchange,
            RenameFlags { no_replace: true, .. } => fs::RenameMode::NoReplace,
            RenameFlags { .. } => fs::RenameMode::Replace,
        };
        let (old, new) = (ino_in(from.0), ino_in(to.0));
        self.settled(self.fs.rename(old, from.1, new, to.1, mode).await).await
    }

    async fn open(&self, ino: Ino, flags: OpenFlags) -> Result<Opened> {
        let ino = ino_in(ino);
        if can_map(flags) {
            self.fs.open_mapped(ino).await.map_err(error_out)?;
        } else {
            self.fs.open(ino, false).await.map_err(error_out)?;
        }
        Ok(opened(flags, self.claims.handle()))
    }

    async fn release(&self, ino: Ino, _handle: u64, flags: OpenFlags) -> Result<()> {
        let ino = ino_in(ino);
        if can_map(flags) {
            self.fs.unmap(ino);
        }
        self.fs.release(ino);
        Ok(())
    }

    async fn read(&self, ino: Ino, _handle: u64, offset: u64, length: u32) -> Result<Vec<Bytes>> {
        let length = u64::from(length);
        let _flight = self.flights.begin(self.world.clock.now(), ino, offset, length, false);
        self.fs.read(ino_in(ino), offset, length).await.map_err(error_out)
    }

    async fn write(
        &self,
        ino: Ino,
        _handle: u64,
        offset: u64,
        bytes: Bytes,
        how: WriteHow,
    ) -> Result<u64> {
        let length = bytes.len() as u64;
        let flight = self.flights.begin(self.world.clock.now(), ino, offset, length, true);
        if how.strip {
            self.fs.strip(ino_in(ino)).await.map_err(error_out)?;
        }
        let written = if how.append {
            self.fs.append(ino_in(ino), bytes).await
        } else {
            self.fs.write(ino_in(ino), offset, bytes).await.map(|()| offset)
        };
        let written = match written {
            Ok(at) if how.sync || self.synchronous => self.fs.fsync(ino_in(ino)).await.map(|()| at),
            written => written,
        };
        let passed_over = flight.land();
        if written.as_ref().is_ok_and(|at| *at != offset) {
            self.drop_later(ino, (0, u64::MAX));
        } else if let Some(range) = passed_over {
            self.drop_later(ino, range);
        }
        written.map_err(error_out)
    }

    async fn flush(&self, ino: Ino, _handle: u64) -> Result<()> {
        self.fs.told(ino_in(ino)).map_err(error_out)
    }

    async fn getlk(&self, ino: Ino, lock: FileLock) -> Result<Option<FileLock>> {
        let claim = claim_in(ino, &lock)?;
        let claimed =
            self.fs.claim_lock(claim, Patience::Test, pending()).await.map_err(error_out)?;
        match claimed {
            Claimed::Busy(found) => Ok(Some(FileLock {
                owner: 0,
                process: found.process,
                first: found.stretch.first(),
                last: found.stretch.last(),
                kind: lock_kind_out(found.mode),
            })),
            other => claimed_out(other).map(|()| None),
        }
    }

    async fn setlk(
        &self,
        ino: Ino,
        handle: u64,
        lock: FileLock,
        wait: Option<Interrupted>,
    ) -> Result<()> {
        let claim = claim_in(ino, &lock)?;
        if claim.mode.is_some() {
            self.claims.note(ino, lock.owner, handle);
        }
        let claimed = match wait {
            Some(interrupted) => {
                self.fs.claim_lock(claim, Patience::Wait, interrupted.wait()).await
            }
            None => self.fs.claim_lock(claim, Patience::Try, pending()).await,
        };
        claimed_out(claimed.map_err(error_out)?)
    }

    async fn unlock(&self, ino: Ino, owner: Option<u64>, handle: Option<u64>) -> Result<()> {
        let mut ended = handle.map(|h| self.claims.take_through(ino, h)).unwrap_or_default();
        ended.extend(owner.filter(|owner| self.claims.take(ino, *owner)));
        for owner in ended {
            self.fs.give_up_locks(ino_in(ino), Claimant(owner)).await.map_err(error_out)?;
        }
        Ok(())
    }

    async fn fsync(&self, ino: Ino, _data_only: bool) -> Result<()> {
        self.fs.fsync(ino_in(ino)).await.map_err(error_out)
    }

    async fn opendir(&self, ino: Ino) -> Result<Opened> {
        self.fs.open(ino_in(ino), false).await.map_err(error_out)?;
        Ok(opened(DIRECTORY, self.claims.handle()))
    }

    async fn readdir(
        &self,
        ino: Ino,
        cookie: u64,
        max: usize,
        attributes: bool,
    ) -> Result<Vec<DirEntry>> {
        let lines =
            self.fs.readdir(ino_in(ino), cookie, max, attributes).await.map_err(error_out)?;
        let line = |line: fs::DirEntry| DirEntry {
            ino: ino_out(line.ino),
            kind: kind_out(line.kind),
            cookie: line.cookie,
            entry: line.entry.as_ref().map(|entry| self.entry(entry)),
            name: line.name.into(),
        };
        Ok(lines.into_iter().map(line).collect())
    }

    async fn releasedir(&self, ino: Ino, _handle: u64) -> Result<()> {
        self.fs.release(ino_in(ino));
        Ok(())
    }

    async fn fsyncdir(&self, ino: Ino) -> Result<()> {
        self.fs.fsyncdir(ino_in(ino)).await.map_err(error_out)
    }

    async fn space(&self) -> Result<Space> {
        let stat = self.fs.statfs().await.map_err(error_out)?;
        Ok(Space {
            block_size: stat.block_size,
            blocks: stat.blocks,
            free: stat.free,
            inodes: stat.inodes,
            free_inodes: stat.free_inodes,
        })
    }

    async fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes> {
        self.fs.getxattr(ino_in(ino), name).await.map_err(error_out)
    }

    async fn listxattr(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.fs.listxattr(ino_in(ino)).await.map_err(error_out)
    }

    async fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Result<()> {
        let (ino, mode, caller) = (ino_in(ino), xattr_mode_in(mode), caller_in(caller));
        self.settled(self.fs.setxattr(ino, name, value, mode, caller).await).await
    }

    async fn removexattr(&self, ino: Ino, name: &[u8]) -> Result<()> {
        self.settled(self.fs.removexattr(ino_in(ino), name).await).await
    }

    async fn allocate(&self, ino: Ino, offset: u64, length: u64, what: Allocate) -> Result<()> {
        let done = self.fs.allocate(ino_in(ino), offset, length, allocate_in(what)).await;
        self.settled(done).await?;
        if self.synchronous {
            self.fs.fsync(ino_in(ino)).await.map_err(error_out)?;
        }
        Ok(())
    }

    async fn seek(&self, ino: Ino, offset: u64, whence: Whence) -> Result<u64> {
        let hole = whence == Whence::Hole;
        self.fs.seek(ino_in(ino), offset, hole).await.map_err(error_out)
    }
}
