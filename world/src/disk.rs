//! Files and directories of the local machine, as a daemon needs them: positioned reads and
//! writes, explicit syncs, preallocation. What the bytes mean is not known here.
//!
//! Every call blocks. A name is durable only after [`Disk::sync_dir`] of its directory.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// How [`Disk::open`] treats a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Read only; the file must exist.
    Read,
    /// Read and write; the file must exist.
    Write,
    /// Read and write; created if missing.
    Create,
    /// Read and write; must not exist yet.
    CreateNew,
}

/// Space of the file system that holds a path, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What an ordinary user may still take.
    pub free: u64,
}

/// What a name leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An ordinary file.
    File,
    /// A directory.
    Directory,
    /// A device, pipe or socket.
    Other,
}

/// What [`Disk::look`] tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What it is, links followed.
    pub what: What,
    /// Bytes of a file.
    pub size: u64,
}

/// An open file. Dropping it closes it; it does not sync it.
pub trait File: Send + Sync {
    /// Fills `buffer` from `offset`.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before the buffer is full.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `offset`, growing the file if need be.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Brings the data, and the length, to stable storage (`fdatasync`).
    ///
    /// # Errors
    /// After a failed sync the state of the file is unknown: stop, do not retry.
    fn sync(&self) -> io::Result<()>;
    /// The length in bytes.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn size(&self) -> io::Result<u64>;
    /// Cuts or extends the file to `size` bytes.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn set_size(&self, size: u64) -> io::Result<()>;
    /// Reserves space for `length` bytes from `offset`, growing the file if need be.
    ///
    /// # Errors
    /// `StorageFull` when there is none.
    fn allocate(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Gives the space of a range back; it reads as zeros afterwards. The length stays.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn punch(&self, offset: u64, length: u64) -> io::Result<()>;
    /// Takes the file's exclusive advisory lock, without waiting; held until the file is closed.
    ///
    /// # Errors
    /// `WouldBlock` if another process holds it.
    fn lock(&self) -> io::Result<()>;
}

/// Files by path.
pub trait Disk: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Makes a directory and its missing parents.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The paths of the entries of a directory, sorted.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    /// Removes a file.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Renames a file over another; atomic.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As for [`File::sync`].
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Whether there is anything at `path`.
    fn exists(&self, path: &Path) -> bool;
    /// What `path` leads to, links followed.
    ///
    /// # Errors
    /// As the operating system reports them; `Unsupported` where only files are simulated.
    fn look(&self, path: &Path) -> io::Result<Look> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Makes `link` a symbolic link to `target`.
    ///
    /// # Errors
    /// As the operating system reports them; `Unsupported` where only files are simulated.
    fn link(&self, target: &Path, link: &Path) -> io::Result<()> {
        let _ = (target, link);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Lets the owner run a file.
    ///
    /// # Errors
    /// As the operating system reports them; `Unsupported` where only files are simulated.
    fn make_executable(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Removes a file, or a directory with all that is below it; links are not followed.
    ///
    /// # Errors
    /// As the operating system reports them; `Unsupported` where only files are simulated.
    fn remove_all(&self, path: &Path) -> io::Result<()> {
        let _ = path;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The space of the file system that holds `path`.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn space(&self, path: &Path) -> io::Result<Space>;

    /// The whole of a file.
    ///
    /// # Errors
    /// As the operating system reports them.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let size = usize::try_from(file.size()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces a file by `bytes`, durably and whole or not at all: written beside it, synced,
    /// renamed, directory synced.
    ///
    /// # Errors
    /// As the operating system reports them; the old content is then still there.
    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        let file = self.open(&beside, OpenMode::Create)?;
        file.set_size(0)?;
        file.write_all_at(bytes, 0)?;
        file.sync()?;
        self.rename(&beside, path)?;
        match path.parent() {
            Some(parent) => self.sync_dir(parent),
            None => Ok(()),
        }
    }
}
