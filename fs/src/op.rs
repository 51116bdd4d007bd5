//! The file operations, in the words of POSIX. Each is atomic: other mounts see it whole or not
//! at all.

use bytes::Bytes;

use crate::{
    attributes::{
        Caller, DirEntry, Entry, InodeNo, Lookup, Node, RenameMode, SetAttributes, Statfs,
    },
    error::Error,
    fs::Fs,
};

impl Fs {
    /// What `name` in directory `parent` leads to. Counts as a reference of the kernel, see
    /// [`Fs::forget`], if it is found.
    ///
    /// # Errors
    /// [`Error::NotDirectory`] and the general ones; an absent name is no error.
    pub async fn lookup(&self, _parent: InodeNo, _name: &[u8]) -> Result<Lookup, Error> {
        Err(Error::NotSupported)
    }

    /// The kernel gives back `count` references that it got by lookup, make, link or readdir with
    /// attributes.
    pub fn forget(&self, _ino: InodeNo, _count: u64) {}

    /// The attributes.
    ///
    /// # Errors
    /// [`Error::Stale`] if the inode is gone.
    pub async fn getattr(&self, _ino: InodeNo) -> Result<Entry, Error> {
        Err(Error::NotSupported)
    }

    /// Changes attributes, the size among them.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::IsDirectory`].
    pub async fn setattr(&self, _ino: InodeNo, _set: SetAttributes) -> Result<Entry, Error> {
        Err(Error::NotSupported)
    }

    /// Where a symbolic link points to.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none.
    pub async fn readlink(&self, _ino: InodeNo) -> Result<Bytes, Error> {
        Err(Error::NotSupported)
    }

    /// Makes an inode of any kind under a new name; for a file it does not open it.
    ///
    /// # Errors
    /// [`Error::Exists`] and others.
    pub async fn make(
        &self,
        _parent: InodeNo,
        _name: &[u8],
        _node: Node,
        _caller: Caller,
    ) -> Result<Entry, Error> {
        Err(Error::NotSupported)
    }

    /// Makes a regular file and opens it, in one operation; see [`Fs::release`].
    ///
    /// # Errors
    /// [`Error::Exists`] and others.
    pub async fn create(
        &self,
        _parent: InodeNo,
        _name: &[u8],
        _mode: u32,
        _caller: Caller,
    ) -> Result<Entry, Error> {
        Err(Error::NotSupported)
    }

    /// Another name for `ino`.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for directories; [`Error::Exists`].
    pub async fn link(
        &self,
        _ino: InodeNo,
        _parent: InodeNo,
        _name: &[u8],
    ) -> Result<Entry, Error> {
        Err(Error::NotSupported)
    }

    /// Removes a name that is no directory; the file goes with its last name and last open.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`].
    pub async fn unlink(&self, _parent: InodeNo, _name: &[u8]) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::NotDirectory`], [`Error::NotFound`].
    pub async fn rmdir(&self, _parent: InodeNo, _name: &[u8]) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Moves a name.
    ///
    /// # Errors
    /// As POSIX says; [`Error::Invalid`] if a directory would go into itself.
    pub async fn rename(
        &self,
        _parent: InodeNo,
        _name: &[u8],
        _new_parent: InodeNo,
        _new_name: &[u8],
        _mode: RenameMode,
    ) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Counts an open of `ino` (file or directory): it stays readable until as many releases, even
    /// when its last name goes. `truncate` cuts it to nothing.
    ///
    /// # Errors
    /// [`Error::Stale`].
    pub async fn open(&self, _ino: InodeNo, _truncate: bool) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// One open of `ino` ended.
    pub fn release(&self, _ino: InodeNo) {}

    /// Up to `length` bytes from `offset`, in pieces; fewer only at the end of the file.
    ///
    /// # Errors
    /// [`Error::IsDirectory`].
    pub async fn read(
        &self,
        _ino: InodeNo,
        _offset: u64,
        _length: u64,
    ) -> Result<Vec<Bytes>, Error> {
        Err(Error::NotSupported)
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::NoSpace`].
    pub async fn write(&self, _ino: InodeNo, _offset: u64, _data: Bytes) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Writes all of `data` at the end of the file, wherever that is by then on any mount; returns
    /// the offset.
    ///
    /// # Errors
    /// As [`Fs::write`].
    pub async fn append(&self, _ino: InodeNo, _data: Bytes) -> Result<u64, Error> {
        Err(Error::NotSupported)
    }

    /// Makes the data, the inode and its names durable. Also tells a write-back error that was
    /// not told yet.
    ///
    /// # Errors
    /// What went wrong with the disk.
    pub async fn fsync(&self, _ino: InodeNo) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Makes the directory and its ancestors durable.
    ///
    /// # Errors
    /// What went wrong with the disk.
    pub async fn fsyncdir(&self, _ino: InodeNo) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Up to `max` entries after `cookie` (0: from the start, `.` and `..` first), in a stable
    /// order; with `plus` also the attributes that can be had without waiting for other mounts
    /// (each of which counts as a reference, see [`Fs::forget`]; `.` and `..` never have them).
    /// Nothing means the end.
    ///
    /// # Errors
    /// [`Error::NotDirectory`].
    pub async fn readdir(
        &self,
        _ino: InodeNo,
        _cookie: u64,
        _max: usize,
        _plus: bool,
    ) -> Result<Vec<DirEntry>, Error> {
        Err(Error::NotSupported)
    }

    /// Space and limits.
    ///
    /// # Errors
    /// If the virtual disk does not answer.
    pub async fn statfs(&self) -> Result<Statfs, Error> {
        Err(Error::NotSupported)
    }

    /// Makes everything durable that was done on this mount before the call.
    ///
    /// # Errors
    /// What went wrong with the disk.
    pub async fn sync(&self) -> Result<(), Error> {
        Err(Error::NotSupported)
    }
}
