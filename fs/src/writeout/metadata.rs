//! Metadata: changed blocks into the log, all that changed since the last push as one record; and
//! what the log has on its stable storage into its place, neighbours together.

use blockstore::{Durability, Offset};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use lockservice::Mode;
use tokio::sync::MutexGuard;

use crate::{
    bug::{self, Bug},
    error::Error,
    fs::Fs,
    layout::{
        geometry::InodeNo,
        record::{Change, Lsn, MAX_RECORD, Record},
        version::Version,
    },
    log::{Log, Purpose, Refused, passes},
    state::{Content, Home, PAGE_CHANGE, State},
};

/// The largest write.
const PIECE: usize = 1 << 20;
/// Writes under way at one time.
const PARALLEL: usize = 16;

/// What came of an attempt to append.
enum Turn {
    /// There was nothing to append.
    Nothing,
    /// All changes up to this one; the place to push.
    Appended(u64, Lsn),
    /// The log must be cut first.
    NoRoom,
    /// The lease has no margin at the moment: it is renewed, or the mount fails.
    NotNow,
    /// A file was renamed that is not written back.
    Behind,
}

impl Fs {
    /// Pushes what was changed up to now.
    pub(super) async fn push_once(&self) -> Result<(), Error> {
        let Some(log) = self.log() else { return Ok(()) };
        let (turn, appended) = self.in_turn(|fs| fs.append_changes(&log)).await?;
        let Some((serial, lsn)) = appended else {
            self.signals.settled.notify_waiters();
            return Ok(());
        };
        self.push_log(&log, lsn).await?;
        {
            let mut state = self.state.lock();
            state.pushed = state.pushed.max(serial);
        }
        drop(turn);
        self.signals.settled.notify_waiters();
        if log.used() > crate::log::RING / 4 {
            self.signals.home.notify_one();
        }
        Ok(())
    }

    /// Appends with `append` when the log has its turn and room. What was appended must be pushed before the turn
    /// goes: nothing of it may be written in place before.
    async fn in_turn(
        &self,
        append: impl Fn(&Self) -> Result<Turn, Error> + Send,
    ) -> Result<(MutexGuard<'_, ()>, Option<(u64, Lsn)>), Error> {
        loop {
            let turn = self.log_turn.lock().await;
            match append(self)? {
                Turn::Nothing => return Ok((turn, None)),
                Turn::Appended(serial, lsn) => return Ok((turn, Some((serial, lsn)))),
                Turn::NoRoom => {
                    drop(turn);
                    self.home_once().await?;
                }
                Turn::Behind => {
                    drop(turn);
                    self.catch_up().await?;
                }
                Turn::NotNow => {
                    drop(turn);
                    self.world.clock.sleep(super::REST).await;
                    if let Some(error) = &self.state.lock().dead {
                        return Err(error.clone());
                    }
                }
            }
        }
    }

    /// Writes back what was renamed before it was written. Until the log had its turn, no other such file is
    /// renamed. One whose write-back fails keeps its error for its owner and holds up nobody else.
    async fn catch_up(&self) -> Result<(), Error> {
        let renamed: Vec<InodeNo> = {
            let mut state = self.state.lock();
            state.catching_up = true;
            state.renamed.iter().copied().collect()
        };
        self.write_back(renamed.clone()).await?;
        let mut state = self.state.lock();
        for ino in &renamed {
            state.renamed.remove(ino);
        }
        Ok(())
    }

    /// Tells the log of bitmaps that it has never seen, before anything is written to runs of theirs: whoever
    /// cleans up after this mount looks for what is out of use there. They go alone, since the record with all other
    /// changes may have to wait for the very write-back that asks; and they may, since they are still empty.
    pub(super) async fn announce(&self, maps: &[Offset]) -> Result<(), Error> {
        let Some(log) = self.log() else { return Ok(()) };
        let (turn, appended) = self.in_turn(|fs| fs.append_maps(&log, maps)).await?;
        // Else the record is another's, who pushed it in its turn or failed to.
        let lsn = appended.map_or_else(|| log.end(), |(_, lsn)| lsn);
        self.push_log(&log, lsn).await?;
        drop(turn);
        Ok(())
    }

    /// Whether the record of the block at `at` is not on stable storage yet.
    pub(super) fn is_being_logged(&self, state: &State, at: Offset) -> bool {
        let Some(log) = self.log() else { return false };
        state.home.get(&at).is_some_and(|home| home.lsn >= log.pushed())
    }

    /// Appends those of `maps` that the log has not seen.
    fn append_maps(&self, log: &Log, maps: &[Offset]) -> Result<Turn, Error> {
        let mut state = self.state.lock();
        let fresh = |state: &State, at: &Offset| {
            let page = state.pages.get(at).filter(|page| page.changed);
            page.is_some_and(|page| page.content.is_blank())
        };
        let maps: Vec<Offset> = maps.iter().copied().filter(|at| fresh(&state, at)).collect();
        if maps.is_empty() {
            return Ok(Turn::Nothing);
        }
        if log.room(Purpose::Operation) < MAX_RECORD as u64 {
            return Ok(Turn::NoRoom);
        }
        if !self.may_log(&state) {
            return Ok(Turn::NotNow);
        }
        state.changed_pages.retain(|at| !maps.contains(at));
        state.changed_bytes -= PAGE_CHANGE * maps.len() as u64;
        let record = self.record_of(&mut state, Vec::new(), maps, log.end());
        let serial = state.pushed;
        append(log, &record).map(|lsn| Turn::Appended(serial, lsn))
    }

    /// Appends all changes up to now to the log.
    fn append_changes(&self, log: &Log) -> Result<Turn, Error> {
        let mut state = self.state.lock();
        if !state.renamed.is_empty() {
            return Ok(Turn::Behind);
        }
        state.catching_up = false;
        if state.changed_bytes == 0 {
            state.pushed = state.serial;
            return Ok(Turn::Nothing);
        }
        if log.room(Purpose::Operation) < MAX_RECORD as u64 {
            return Ok(Turn::NoRoom);
        }
        if !self.may_log(&state) {
            return Ok(Turn::NotNow);
        }
        let inodes = std::mem::take(&mut state.changed_inodes);
        let pages = std::mem::take(&mut state.changed_pages);
        state.changed_bytes = 0;
        let record = self.record_of(&mut state, inodes, pages, log.end());
        let lsn = append(log, &record)?;
        state.counters.pushes += 1;
        Ok(Turn::Appended(state.serial, lsn))
    }

    /// Whether everything that was changed is held, as it must be: a lease without margin says no
    /// until it is renewed.
    fn may_log(&self, state: &State) -> bool {
        let pages = state.changed_pages.iter().filter_map(|at| state.pages.get(at));
        let inodes = state.changed_inodes.iter().filter(|ino| state.inodes.contains_key(ino));
        inodes
            .map(|ino| ino.lock())
            .chain(pages.map(|page| page.lock))
            .all(|lock| self.locks.held(lock, Mode::Exclusive).is_some())
    }

    async fn push_log(&self, log: &Log, lsn: Lsn) -> Result<(), Error> {
        loop {
            let error = match log.push(lsn).await {
                Ok(()) => {
                    self.state.lock().full = false;
                    return Ok(());
                }
                Err(error) => error,
            };
            match error {
                Error::Disk(blockstore::Error::NoSpace) => self.note_full(),
                Error::Disk(blockstore::Error::Fenced(_)) => return Err(Error::Expired),
                error if passes(&error) => {
                    tracing::warn!(%error, "the disk does not answer; the log waits");
                }
                error => return Err(error),
            }
            if let Some(error) = &self.state.lock().dead {
                return Err(error.clone());
            }
            self.world.clock.sleep(super::REST).await;
        }
    }

    /// What was changed of `inodes` and `pages`, as one record that begins at `lsn`; from now on they are on their
    /// way home.
    fn record_of(
        &self,
        state: &mut State,
        inodes: Vec<InodeNo>,
        pages: Vec<Offset>,
        lsn: Lsn,
    ) -> Record {
        let newest = self.locks.newest().0;
        let mut changes = Vec::new();
        for ino in inodes {
            let Some(slot) = state.inodes.get_mut(&ino) else { continue };
            if !std::mem::take(&mut slot.changed) {
                continue;
            }
            let (at, lock) = (ino.address(), ino.lock());
            let Some(held) = self.locks.held(lock, Mode::Exclusive) else {
                tracing::error!(%ino, "an inode was changed without its lock: not written");
                continue;
            };
            state.versions += 1;
            slot.inode.version = Version { grant: newest, counter: state.versions };
            let image = slot.inode.encode();
            changes.push(Change::whole(at, lock, held.grant, &image));
            let image = Bytes::copy_from_slice(&image);
            state.go_home(at, Home { lsn, lock, image });
        }
        for at in pages {
            let Some(page) = state.pages.get_mut(&at) else { continue };
            if !std::mem::take(&mut page.changed) {
                continue;
            }
            let Some(held) = self.locks.held(page.lock, Mode::Exclusive) else {
                tracing::error!(at = at.0, "a page was changed without its lock: not written");
                continue;
            };
            state.versions += 1;
            let version = Version { grant: newest, counter: state.versions };
            match &mut page.content {
                Content::Directory(page) => page.set_version(version),
                Content::Map(map) => map.set_version(version),
                Content::Text(page) => page.set_version(version),
            }
            let bytes = page.content.bytes();
            changes.push(match page.base.take() {
                Some(old) => Change::between(at, page.lock, held.grant, old.bytes(), bytes),
                None => Change::whole(at, page.lock, held.grant, bytes),
            });
            let image = Bytes::copy_from_slice(bytes);
            let lock = page.lock;
            state.go_home(at, Home { lsn, lock, image });
        }
        Record { changes }
    }

    /// Writes what the log has in place, flushes it and cuts the log.
    pub(super) async fn home_once(&self) -> Result<(), Error> {
        let Some(log) = self.log() else { return Ok(()) };
        let _one = self.home_turn.lock().await;
        let images: Vec<(Offset, Bytes)> = {
            let _pushed = self.log_turn.lock().await;
            let mut state = self.state.lock();
            if state.home.is_empty() {
                return Ok(());
            }
            state.homing = std::mem::take(&mut state.home);
            state.homing.iter().map(|(at, home)| (*at, home.image.clone())).collect()
        };
        stream::iter(pieces(images).into_iter().map(Ok))
            .try_for_each_concurrent(PARALLEL, |(at, data)| async move {
                self.insist_on_space(|| self.disk.write(at, data.clone(), Durability::Later)).await
            })
            .await?;
        if !bug::on(Bug::TrimEarly) {
            self.insist(|| self.disk.flush()).await?;
        }
        let keep = {
            let mut state = self.state.lock();
            state.homing.clear();
            state.homed += 1;
            // Metadata that the log has again since then begins later in it.
            state.home.values().map(|home| home.lsn).min().unwrap_or_else(|| log.pushed())
        };
        self.signals.settled.notify_waiters();
        match log.trim(keep).await {
            // The header is written again with the next trim.
            Ok(()) => Ok(()),
            Err(error) if passes(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn append(log: &Log, record: &Record) -> Result<Lsn, Error> {
    log.append(record, Purpose::WriteOut).map_err(|refused| match refused {
        Refused::Full => Error::Damaged("the log has no room".into()),
        Refused::Failed(error) => error,
    })
}

/// Neighbours together, in pieces of at most [`PIECE`].
fn pieces(images: Vec<(Offset, Bytes)>) -> Vec<(Offset, Vec<Bytes>)> {
    let mut all: Vec<(Offset, Vec<Bytes>)> = Vec::new();
    let mut length = 0;
    for (at, image) in images {
        match all.last_mut() {
            Some((start, piece))
                if start.0 + length as u64 == at.0 && length + image.len() <= PIECE =>
            {
                length += image.len();
                piece.push(image);
            }
            _ => {
                length = image.len();
                all.push((at, vec![image]));
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_written_together() {
        let block = |at: u64| (Offset(at), Bytes::from(vec![0; 512]));
        let all = pieces(vec![block(0), block(512), block(2048), block(2560), block(3072)]);
        let shape: Vec<_> = all.iter().map(|(at, data)| (at.0, data.len())).collect();
        assert_eq!(shape, [(0, 2), (2048, 3)]);
        let many = pieces((0..4096).map(|i| block(i * 512)).collect());
        assert_eq!(many.len(), 2);
    }
}
