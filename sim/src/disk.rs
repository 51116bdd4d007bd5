//! A disk with a will of its own: it forgets what was not synced, tears writes between sectors, loses power in the middle
//! of any operation, fails a sync, is full, lets bits rot, and writes to the wrong place.
//!
//! It stands in for the operating system behind [`world::Disk`], and for the database behind the engine's index, whose
//! batches are whole or not there. All chance comes from its dice. What the bytes mean is not known here.

mod files;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::Bound,
    path::{Path, PathBuf},
    sync::Arc,
};

use blockstore::{
    engine::{Batch, Index},
    store::StoreError,
};
use bytes::Bytes;
use parking_lot::Mutex;
use world::{Disk, File, OpenMode, disk::Space};

use crate::dice::Dice;
use files::{Bytes512, Content, SECTOR};

/// Ordered rows.
type Rows = BTreeMap<Vec<u8>, Bytes>;

/// What is to go wrong with an operation to come.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mishap {
    /// The next sync fails, and what it was to save is kept or lost, sector by sector.
    FailedSync,
    /// The next write of a page or more lands on other pages of the same file.
    Misdirected,
}

/// What a loss of power took.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Loss {
    /// Sectors that went back to what they were at the last sync.
    pub lost: u64,
    /// Sectors that were kept though nobody had synced them.
    pub kept: u64,
}

impl Loss {
    /// Whether some of what was not synced was kept and some was lost.
    #[must_use]
    pub fn is_torn(self) -> bool {
        self.lost > 0 && self.kept > 0
    }
}

struct State {
    dice: Dice,
    /// What was opened before the last loss of power is dead.
    epoch: u64,
    files: Vec<Content>,
    names: BTreeMap<PathBuf, usize>,
    stable: BTreeMap<PathBuf, usize>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<usize>,
    rows: Rows,
    /// Writes and syncs so far.
    operations: u64,
    /// Power goes in the middle of this one.
    cut: Option<u64>,
    dead: bool,
    capacity: u64,
    mishaps: BTreeSet<Mishap>,
    struck: Vec<Mishap>,
}

/// A disk. Clones are the same one.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

fn power_is_gone() -> io::Error {
    io::Error::other("the power went")
}

impl State {
    fn alive(&self, epoch: u64) -> io::Result<()> {
        if self.dead || self.epoch != epoch { Err(power_is_gone()) } else { Ok(()) }
    }

    /// Counts an operation that changes something; whether power goes in the middle of it.
    fn operate(&mut self, epoch: u64) -> io::Result<bool> {
        self.alive(epoch)?;
        self.operations += 1;
        self.dead = self.cut.is_some_and(|cut| cut <= self.operations);
        Ok(self.dead)
    }

    /// Whether this mishap is due; it is then over.
    fn befalls(&mut self, mishap: Mishap) -> bool {
        let due = self.mishaps.remove(&mishap);
        if due {
            self.struck.push(mishap);
        }
        due
    }

    fn used(&self) -> u64 {
        self.files.iter().map(Content::allocated).sum()
    }
}

impl SimDisk {
    /// An empty disk of `capacity` bytes.
    #[must_use]
    pub fn new(dice: Dice, capacity: u64) -> Self {
        let state = State {
            dice,
            epoch: 0,
            files: Vec::new(),
            names: BTreeMap::new(),
            stable: BTreeMap::new(),
            dirs: BTreeSet::new(),
            locked: BTreeSet::new(),
            rows: Rows::new(),
            operations: 0,
            cut: None,
            dead: false,
            capacity,
            mishaps: BTreeSet::new(),
            struck: Vec::new(),
        };
        Self(Arc::new(Mutex::new(state)))
    }

    /// The database on this disk, until power goes.
    #[must_use]
    pub fn index(&self) -> Arc<dyn Index> {
        let epoch = self.0.lock().epoch;
        Arc::new(SimIndex { disk: self.clone(), epoch })
    }

    /// Writes and syncs so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.0.lock().operations
    }

    /// Power goes in the middle of the operation after `more` others.
    pub fn cut_after(&self, more: u64) {
        let mut state = self.0.lock();
        state.cut = Some(state.operations + more + 1);
    }

    /// Whether power is gone: nothing works any more.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.0.lock().dead
    }

    /// Whoever used the disk is gone, and with it what it had open. What it wrote is there.
    pub fn let_go(&self) {
        let mut state = self.0.lock();
        state.epoch += 1;
        state.locked.clear();
        state.mishaps.clear();
        (state.cut, state.dead) = (None, false);
    }

    /// Nothing goes wrong any more, but for what has gone wrong.
    pub fn disarm(&self) {
        let mut state = self.0.lock();
        state.mishaps.clear();
        state.cut = None;
    }

    /// Power goes, if it is not gone already, and comes back. Of what was not synced, `percent` of the sectors are kept.
    pub fn lose_power(&self, percent: u64) -> Loss {
        self.let_go();
        let mut guard = self.0.lock();
        let state = &mut *guard;
        state.names = state.stable.clone();
        let mut loss = Loss::default();
        for file in &mut state.files {
            file.lose(&mut || state.dice.chance(percent), &mut loss);
        }
        loss
    }

    /// This goes wrong next.
    pub fn arrange(&self, mishap: Mishap) {
        self.0.lock().mishaps.insert(mishap);
    }

    /// Whether something is arranged that can end whoever uses the disk.
    #[must_use]
    pub fn is_armed(&self) -> bool {
        let state = self.0.lock();
        state.cut.is_some() || state.mishaps.contains(&Mishap::FailedSync)
    }

    /// The mishaps that struck since this was asked last.
    #[must_use]
    pub fn struck(&self) -> Vec<Mishap> {
        std::mem::take(&mut self.0.lock().struck)
    }

    /// From now on the disk has so many bytes, however many are in use.
    pub fn resize(&self, capacity: u64) {
        self.0.lock().capacity = capacity;
    }

    /// Flips a bit of a stored sector, anywhere in the files below `dir`; whether there was one. Where: file and byte.
    pub fn rot(&self, dir: &Path) -> Option<(PathBuf, u64)> {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        let below = |(name, _): &(&PathBuf, &usize)| name.starts_with(dir);
        let names: Vec<(&PathBuf, &usize)> = state.names.iter().filter(below).collect();
        let counts: Vec<usize> =
            names.iter().map(|(_, file)| state.files[**file].sectors()).collect();
        let all: usize = counts.iter().sum();
        if all == 0 {
            return None;
        }
        let mut place = state.dice.pick(all);
        let mut found = None;
        for ((name, file), count) in names.into_iter().zip(counts) {
            if place < count {
                found = Some((name.clone(), *file));
                break;
            }
            place -= count;
        }
        let (name, file) = found?;
        let (byte, bit) = (state.dice.pick(SECTOR), state.dice.pick(8));
        let sector = state.files[file].flip(place, byte, bit)?;
        Some((name, sector * SECTOR as u64 + byte as u64))
    }

    fn with<R>(&self, epoch: u64, work: impl FnOnce(&mut State) -> io::Result<R>) -> io::Result<R> {
        let mut state = self.0.lock();
        state.alive(epoch)?;
        work(&mut state)
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.0.lock();
        let epoch = state.epoch;
        state.alive(epoch)?;
        let file = match (state.names.get(path).copied(), mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(file), _) => file,
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                state.files.push(Content::default());
                let file = state.files.len() - 1;
                state.names.insert(path.to_owned(), file);
                file
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        drop(state);
        Ok(Arc::new(Open { disk: self.clone(), epoch, file }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.lock().dirs.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.0.lock();
        Ok(state.names.keys().filter(|name| name.parent() == Some(path)).cloned().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.lock().names.remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.0.lock();
        let epoch = state.epoch;
        if state.operate(epoch)? {
            return Err(power_is_gone());
        }
        let inside = |name: &PathBuf| name.parent() == Some(path);
        let now: Vec<(PathBuf, usize)> = state
            .names
            .iter()
            .filter(|(name, _)| inside(name))
            .map(|(n, f)| (n.clone(), *f))
            .collect();
        state.stable.retain(|name, _| !inside(name));
        state.stable.extend(now);
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let state = self.0.lock();
        state.names.contains_key(path) || state.dirs.contains(path)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        let state = self.0.lock();
        Ok(Space { total: state.capacity, free: state.capacity.saturating_sub(state.used()) })
    }
}

struct Open {
    disk: SimDisk,
    epoch: u64,
    file: usize,
}

impl File for Open {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.with(self.epoch, |state| state.files[self.file].read(buffer, offset))
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.with(self.epoch, |state| {
            let dies = state.operate(self.epoch)?;
            let pages = (bytes.len() / SECTOR) as u64;
            let size = state.files[self.file].size();
            let mut offset = offset;
            if pages >= 8 && size > bytes.len() as u64 && state.befalls(Mishap::Misdirected) {
                let places = (size - bytes.len() as u64) / 4096;
                offset = state.dice.between(0, places + 1) * 4096;
            }
            state.files[self.file].write(bytes, offset);
            if dies { Err(power_is_gone()) } else { Ok(()) }
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.with(self.epoch, |state| {
            let dies = state.operate(self.epoch)?;
            if dies || state.befalls(Mishap::FailedSync) {
                // The disk was at it: some of what it was to save is safe, and the rest is gone from the cache too.
                let State { files, dice, .. } = state;
                files[self.file].lose(&mut || dice.chance(50), &mut Loss::default());
                return Err(if dies { power_is_gone() } else { io::Error::other("a failed sync") });
            }
            state.files[self.file].save();
            Ok(())
        })
    }

    fn size(&self) -> io::Result<u64> {
        self.disk.with(self.epoch, |state| Ok(state.files[self.file].size()))
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.disk.with(self.epoch, |state| {
            state.files[self.file].set_size(size);
            Ok(())
        })
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        self.disk.with(self.epoch, |state| {
            let dies = state.operate(self.epoch)?;
            let more = (offset + length).saturating_sub(state.files[self.file].allocated());
            if state.used() + more > state.capacity {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.files[self.file].allocate(offset + length);
            if dies { Err(power_is_gone()) } else { Ok(()) }
        })
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.write_all_at(&zeros, offset)
    }

    fn lock(&self) -> io::Result<()> {
        self.disk.with(self.epoch, |state| {
            if state.locked.insert(self.file) {
                Ok(())
            } else {
                Err(io::ErrorKind::WouldBlock.into())
            }
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.disk.0.lock();
        if state.epoch == self.epoch {
            state.locked.remove(&self.file);
        }
    }
}

/// The database of the engine: batches are atomic and durable.
struct SimIndex {
    disk: SimDisk,
    epoch: u64,
}

fn stop(error: &io::Error) -> StoreError {
    StoreError::Stopped(format!("the index failed: {error}"))
}

impl Index for SimIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let get = |state: &mut State| Ok(state.rows.get(key).cloned());
        self.disk.with(self.epoch, get).map_err(|error| stop(&error))
    }

    fn each(
        &self,
        from: &[u8],
        before: &[u8],
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) -> Result<(), StoreError> {
        let range = (Bound::Included(from.to_vec()), Bound::Excluded(before.to_vec()));
        let copy = |state: &mut State| {
            let rows = state.rows.range(range);
            Ok(rows.map(|(key, value)| (key.clone(), value.clone())).collect::<Vec<_>>())
        };
        let rows = self.disk.with(self.epoch, copy).map_err(|error| stop(&error))?;
        for (key, value) in rows {
            if !each(&key, &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let write = |state: &mut State| {
            let dies = state.operate(self.epoch)?;
            let fails = dies || state.befalls(Mishap::FailedSync);
            if !fails || state.dice.chance(50) {
                for (key, value) in batch.0 {
                    match value {
                        Some(value) => state.rows.insert(key, value),
                        None => state.rows.remove(&key),
                    };
                }
            }
            if fails { Err(io::Error::other("a failed sync")) } else { Ok(()) }
        };
        self.disk.with(self.epoch, write).map_err(|error| stop(&error))
    }
}

const _: () = assert!(size_of::<Bytes512>() == SECTOR);
