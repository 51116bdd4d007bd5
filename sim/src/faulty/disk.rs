//! The disk itself: files of the backing directory, what of them is durable, and the plan of faults. It
//! knows no FUSE; inode numbers are those of the backing directory, but for the root.
#![expect(clippy::disallowed_methods, reason = "a disk for real processes works on real files")]

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ffi::OsStr,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use super::{
    control::{Command, EIO, Kind, Moment},
    names::{Change, Names},
    unsynced::Unsynced,
};
use crate::dice::Dice;

/// The root of the mount.
pub(super) const ROOT: u64 = 1;
/// The kernel is to look the name up again.
const ESTALE: i32 = 116;

enum Fault {
    Cut(Moment),
    Fail(i32),
}

/// A file that was changed since its last sync.
struct Dirty {
    file: File,
    unsynced: Unsynced,
}

/// A faulty disk over a backing directory.
pub struct Disk {
    live: PathBuf,
    graves: PathBuf,
    buried: u64,
    paths: BTreeMap<u64, PathBuf>,
    open: BTreeMap<u64, (u64, File)>,
    opened: u64,
    dirty: BTreeMap<u64, Dirty>,
    names: Names,
    powered: bool,
    calls: BTreeMap<Kind, u64>,
    faults: BTreeMap<(Kind, u64), Fault>,
    torn: Option<(Dice, u8)>,
    lies: bool,
}

impl Disk {
    /// The disk over `backing`, in which it makes two directories.
    ///
    /// # Errors
    /// If they cannot be made.
    pub fn open(backing: &Path) -> io::Result<Self> {
        let (live, graves) = (backing.join("live"), backing.join("graves"));
        for dir in [&live, &graves] {
            fs::create_dir_all(dir)?;
        }
        Ok(Self {
            paths: BTreeMap::from([(ROOT, live.clone())]),
            live,
            graves,
            buried: 0,
            open: BTreeMap::new(),
            opened: 0,
            dirty: BTreeMap::new(),
            names: Names::default(),
            powered: true,
            calls: BTreeMap::new(),
            faults: BTreeMap::new(),
            torn: None,
            lies: false,
        })
    }

    /// Obeys a command.
    ///
    /// # Errors
    /// If the backing directory does not do as it is told; it is useless then.
    pub fn obey(&mut self, command: Command) -> io::Result<()> {
        let from_now = |calls: &BTreeMap<Kind, u64>, kind, n| calls.get(&kind).unwrap_or(&0) + n;
        match command {
            Command::Cut => self.cut()?,
            Command::CutAt(kind, n, moment) => {
                self.faults.insert((kind, from_now(&self.calls, kind, n)), Fault::Cut(moment));
            }
            Command::FailAt(kind, n, error) => {
                self.faults.insert((kind, from_now(&self.calls, kind, n)), Fault::Fail(error));
            }
            Command::Torn(seed, percent) => self.torn = Some((Dice::new(seed), percent)),
            Command::Clean => self.torn = None,
            Command::Lie => self.lies = true,
            Command::On => {
                self.powered = true;
                self.calls.clear();
                self.faults.clear();
            }
        }
        Ok(())
    }

    /// One line for tests: the state, and how many calls there were.
    pub fn tell(&self) -> String {
        let count = |kind| self.calls.get(&kind).unwrap_or(&0);
        format!(
            "power={} syncs={} writes={} unsynced_files={} unsynced_names={}\n",
            if self.powered { "on" } else { "off" },
            count(Kind::Sync),
            count(Kind::Write),
            self.dirty.len(),
            self.names.len(),
        )
    }

    fn cut(&mut self) -> io::Result<()> {
        self.powered = false;
        self.open.clear();
        let surviving = match &mut self.torn {
            Some((dice, _)) => dice.pick(self.names.len() + 1),
            None => 0,
        };
        self.names.undo(surviving)?;
        for Dirty { file, unsynced } in std::mem::take(&mut self.dirty).into_values() {
            unsynced.undo(&file)?;
            if let Some((dice, percent)) = &mut self.torn {
                unsynced.tear(&file, dice, *percent)?;
            }
        }
        self.paths = BTreeMap::from([(ROOT, self.live.clone())]);
        Ok(())
    }

    fn powered(&self) -> io::Result<()> {
        if self.powered { Ok(()) } else { Err(io::Error::from_raw_os_error(EIO)) }
    }

    /// Does `work` as one call of `kind`, unless it is this call's turn to fail.
    fn call<T>(
        &mut self,
        kind: Kind,
        work: impl FnOnce(&mut Self) -> io::Result<T>,
    ) -> io::Result<T> {
        self.powered()?;
        let calls = self.calls.entry(kind).or_default();
        *calls += 1;
        let fault = self.faults.remove(&(kind, *calls));
        match fault {
            None => return work(self),
            Some(Fault::Fail(error)) => return Err(io::Error::from_raw_os_error(error)),
            Some(Fault::Cut(Moment::Before)) => {}
            Some(Fault::Cut(Moment::After)) => drop(work(self)),
        }
        self.cut()?;
        Err(io::Error::from_raw_os_error(EIO))
    }

    fn path(&self, ino: u64) -> io::Result<&Path> {
        self.powered()?;
        let stale = || io::Error::from_raw_os_error(ESTALE);
        self.paths.get(&ino).map(PathBuf::as_path).ok_or_else(stale)
    }

    fn known(&mut self, path: PathBuf) -> io::Result<(u64, Metadata)> {
        let metadata = fs::symlink_metadata(&path)?;
        let ino = if path == self.live { ROOT } else { metadata.ino() };
        self.paths.insert(ino, path);
        Ok((ino, metadata))
    }

    fn bury(&mut self, path: &Path) -> io::Result<PathBuf> {
        self.buried += 1;
        let grave = self.graves.join(self.buried.to_string());
        fs::rename(path, &grave)?;
        self.moved(path, &grave);
        Ok(grave)
    }

    /// Whatever was known below `from` is below `to` now.
    fn moved(&mut self, from: &Path, to: &Path) {
        for path in self.paths.values_mut() {
            if let Ok(rest) = path.strip_prefix(from) {
                *path = if rest.as_os_str().is_empty() { to.to_owned() } else { to.join(rest) };
            }
        }
    }

    pub(super) fn lookup(&mut self, parent: u64, name: &OsStr) -> io::Result<(u64, Metadata)> {
        let path = self.path(parent)?.join(name);
        self.known(path)
    }

    pub(super) fn look(&mut self, ino: u64) -> io::Result<(u64, Metadata)> {
        let path = self.path(ino)?.to_owned();
        self.known(path)
    }

    /// Name, inode number and kind of all that is in a directory.
    pub(super) fn list(&self, ino: u64) -> io::Result<Vec<(std::ffi::OsString, Metadata)>> {
        let lines = fs::read_dir(self.path(ino)?)?;
        let mut lines = lines
            .map(|line| line.and_then(|line| Ok((line.file_name(), line.metadata()?))))
            .collect::<io::Result<Vec<_>>>()?;
        lines.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(lines)
    }

    pub(super) fn mkdir(&mut self, parent: u64, name: &OsStr) -> io::Result<(u64, Metadata)> {
        let path = self.path(parent)?.join(name);
        fs::create_dir(&path)?;
        self.names.note(Change::Made(path.clone()));
        self.known(path)
    }

    pub(super) fn remove(&mut self, parent: u64, name: &OsStr, dir: bool) -> io::Result<()> {
        let path = self.path(parent)?.join(name);
        if dir && fs::read_dir(&path)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        fs::symlink_metadata(&path)?;
        let grave = self.bury(&path)?;
        self.names.note(Change::Gone { path, grave });
        Ok(())
    }

    pub(super) fn rename(
        &mut self,
        from: (u64, &OsStr),
        to: (u64, &OsStr),
        replace: bool,
    ) -> io::Result<()> {
        let (from, to) = (self.path(from.0)?.join(from.1), self.path(to.0)?.join(to.1));
        fs::symlink_metadata(&from)?;
        let replaced = match fs::symlink_metadata(&to) {
            Ok(_) if !replace => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(_) => Some(self.bury(&to)?),
            Err(_) => None,
        };
        fs::rename(&from, &to)?;
        self.moved(&from, &to);
        self.names.note(Change::Moved { from, to, replaced });
        Ok(())
    }

    fn keep_open(&mut self, ino: u64, file: File) -> u64 {
        self.opened += 1;
        self.open.insert(self.opened, (ino, file));
        self.opened
    }

    pub(super) fn open_file(&mut self, ino: u64) -> io::Result<u64> {
        let file = File::options().read(true).write(true).open(self.path(ino)?)?;
        Ok(self.keep_open(ino, file))
    }

    pub(super) fn create(&mut self, parent: u64, name: &OsStr) -> io::Result<(u64, Metadata, u64)> {
        let path = self.path(parent)?.join(name);
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        self.names.note(Change::Made(path.clone()));
        let (ino, metadata) = self.known(path)?;
        let unsynced = Unsynced::of_nothing();
        self.dirty.insert(ino, Dirty { file: file.try_clone()?, unsynced });
        Ok((ino, metadata, self.keep_open(ino, file)))
    }

    pub(super) fn close(&mut self, handle: u64) {
        self.open.remove(&handle);
    }

    fn handle(&self, handle: u64) -> io::Result<&(u64, File)> {
        self.powered()?;
        // Files that were open at a cut do not come back with the power.
        self.open.get(&handle).ok_or_else(|| io::Error::from_raw_os_error(EIO))
    }

    pub(super) fn read(&self, handle: u64, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let (_, file) = self.handle(handle)?;
        let mut bytes = vec![0; length];
        let mut done = 0;
        while done < length {
            match file.read_at(&mut bytes[done..], offset + done as u64)? {
                0 => break,
                n => done += n,
            }
        }
        bytes.truncate(done);
        Ok(bytes)
    }

    fn dirtied(&mut self, ino: u64, file: &File) -> io::Result<&mut Dirty> {
        match self.dirty.entry(ino) {
            Entry::Occupied(dirty) => Ok(dirty.into_mut()),
            Entry::Vacant(clean) => {
                let (file, unsynced) = (file.try_clone()?, Unsynced::begin(file)?);
                Ok(clean.insert(Dirty { file, unsynced }))
            }
        }
    }

    pub(super) fn write(&mut self, handle: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.call(Kind::Write, |disk| {
            let (ino, file) = disk.handle(handle)?;
            let (ino, file) = (*ino, file.try_clone()?);
            disk.dirtied(ino, &file)?.unsynced.write(&file, offset, bytes)?;
            file.write_all_at(bytes, offset)
        })
    }

    pub(super) fn set_length(&mut self, ino: u64, length: u64) -> io::Result<()> {
        self.call(Kind::Write, |disk| {
            let file = File::options().read(true).write(true).open(disk.path(ino)?)?;
            disk.dirtied(ino, &file)?.unsynced.set_length(&file, length)?;
            file.set_len(length)
        })
    }

    pub(super) fn sync(&mut self, ino: u64) -> io::Result<()> {
        self.call(Kind::Sync, |disk| {
            if !disk.lies {
                disk.dirty.remove(&ino);
            }
            Ok(())
        })
    }

    pub(super) fn sync_directory(&mut self, ino: u64) -> io::Result<()> {
        self.call(Kind::Sync, |disk| {
            let path = disk.path(ino)?.to_owned();
            if disk.lies { Ok(()) } else { disk.names.sync(&path) }
        })
    }

    /// The backing directory, for questions about its space.
    pub(super) fn backing(&self) -> io::Result<File> {
        self.powered()?;
        File::open(&self.live)
    }

    pub(super) fn chmod(&self, ino: u64, mode: u32) -> io::Result<()> {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(self.path(ino)?, fs::Permissions::from_mode(mode))
    }
}
