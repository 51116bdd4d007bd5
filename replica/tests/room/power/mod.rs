//! A disk in memory that loses power: what was not synced is gone, in part or whole, and names come
//! back as they were when their directory was last synced.
#![allow(unreachable_pub, reason = "a module of tests")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use world::{Disk, File, OpenMode, disk::Space};

/// Power is lost in the middle of a sector's neighbours, never within a sector.
const SECTOR: usize = 512;

#[derive(Default)]
pub struct PowerDisk(Arc<State>);

#[derive(Default)]
struct State {
    /// Files of an earlier power-on are dead.
    epoch: AtomicU64,
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    now: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    synced: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    dirs: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
}

#[derive(Default)]
struct Inode {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Since the last sync: writes, and changes of size.
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    Size(usize),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                let end = at + data.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[*at..end].copy_from_slice(data);
            }
            Self::Size(size) => bytes.resize(*size, 0),
        }
    }

    /// What of it may have reached the disk: each sector or not, as `keep` says.
    fn torn(&self, keep: &mut impl FnMut() -> bool, bytes: &mut Vec<u8>) {
        match self {
            Self::Size(_) if !keep() => {}
            Self::Size(_) => self.apply(bytes),
            Self::Write(at, data) => {
                let mut from = 0;
                while from < data.len() {
                    let to = ((at + from) / SECTOR + 1) * SECTOR - at;
                    let to = to.min(data.len());
                    if keep() {
                        Self::Write(at + from, data[from..to].to_vec()).apply(bytes);
                    }
                    from = to;
                }
            }
        }
    }
}

struct Open {
    state: Arc<State>,
    epoch: u64,
    path: PathBuf,
    inode: Arc<Mutex<Inode>>,
    holds: Mutex<bool>,
}

impl PowerDisk {
    /// Loses power and comes back: open files are dead, unsynced sectors are kept or lost by the dice.
    pub fn lose_power(&self, seed: u64) {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut keep = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.is_multiple_of(3)
        };
        let mut names = self.0.names.lock();
        self.0.epoch.fetch_add(1, Ordering::SeqCst);
        names.locked.clear();
        names.now = names.synced.clone();
        for inode in names.now.values() {
            let mut inode = inode.lock();
            let mut bytes = std::mem::take(&mut inode.synced);
            for change in std::mem::take(&mut inode.pending) {
                change.torn(&mut keep, &mut bytes);
            }
            inode.now.clone_from(&bytes);
            inode.synced = bytes;
        }
    }
}

impl Disk for PowerDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut names = self.0.names.lock();
        let there = names.now.get(path).cloned();
        let inode = match (there, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let inode = Arc::default();
                names.now.insert(path.to_owned(), Arc::clone(&inode));
                inode
            }
            (None, _) => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(Open {
            state: self.0.clone(),
            epoch: self.0.epoch.load(Ordering::SeqCst),
            path: path.to_owned(),
            inode,
            holds: Mutex::new(false),
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.0.names.lock().dirs.insert(path.to_owned());
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let names = self.0.names.lock();
        Ok(names.now.keys().filter(|name| name.parent() == Some(path)).cloned().collect())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.names.lock().now.remove(path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.0.names.lock();
        let inode = names.now.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.now.insert(to.to_owned(), inode);
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut names = self.0.names.lock();
        let inside = |name: &PathBuf| name.parent() == Some(path);
        let now: Vec<_> = names.now.iter().filter(|(name, _)| inside(name)).collect();
        let now: Vec<_> = now.into_iter().map(|(n, i)| (n.clone(), i.clone())).collect();
        names.synced.retain(|name, _| !inside(name));
        names.synced.extend(now);
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        let names = self.0.names.lock();
        names.now.contains_key(path) || names.dirs.contains(path)
    }

    fn space(&self, _: &Path) -> io::Result<Space> {
        Ok(Space::default())
    }
}

impl Open {
    fn alive(&self) -> io::Result<()> {
        match self.state.epoch.load(Ordering::SeqCst) == self.epoch {
            true => Ok(()),
            false => Err(io::Error::other("the power went")),
        }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut inode = self.inode.lock();
        self.alive()?;
        change.apply(&mut inode.now);
        inode.pending.push(change);
        Ok(())
    }
}

impl File for Open {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let inode = self.inode.lock();
        self.alive()?;
        let from = offset as usize;
        let bytes = inode.now.get(from..from + buffer.len());
        buffer.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.change(Change::Write(offset as usize, bytes.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut inode = self.inode.lock();
        self.alive()?;
        for change in std::mem::take(&mut inode.pending) {
            change.apply(&mut inode.synced);
        }
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.inode.lock().now.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.change(Change::Size(size as usize))
    }

    fn allocate(&self, offset: u64, length: u64) -> io::Result<()> {
        let size = self.size()?.max(offset + length);
        self.set_size(size)
    }

    fn punch(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_all_at(&vec![0; length as usize], offset)
    }

    fn lock(&self) -> io::Result<()> {
        let mut names = self.state.names.lock();
        self.alive()?;
        if !names.locked.insert(self.path.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        *self.holds.lock() = true;
        Ok(())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut names = self.state.names.lock();
        if *self.holds.lock() && self.alive().is_ok() {
            names.locked.remove(&self.path);
        }
    }
}
