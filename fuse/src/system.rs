//! What a file system must answer. Every method may be polled on an event-loop thread of the mount:
//! it must not block, and it may await for as long as it must.

use bytes::Bytes;

use crate::{
    Errno, Interrupted, Result,
    types::{
        Allocate, Attributes, Caller, DirEntry, Entry, FileLock, Found, Ino, NewNode, OpenFlags,
        Opened, RenameFlags, SetAttributes, Space, Whence, WriteHow, XattrMode,
    },
};

/// A file system as the kernel asks for it. Methods answer an error number; what they leave
/// unanswered for longer than [`crate::Options::answer_within`] is answered `EIO` in their place,
/// while they run on.
///
/// The result must be computed in the same poll that returns it: a kernel cache that is
/// invalidated waits for the answers that were being computed then.
pub trait FileSystem: Send + Sync + 'static {
    /// Looks a name up.
    fn lookup(&self, parent: Ino, name: &[u8]) -> impl Future<Output = Result<Found>> + Send;

    /// The kernel gives back `count` look-ups of an inode.
    fn forget(&self, ino: Ino, count: u64);

    /// The attributes of an inode, and for how long the kernel may use them.
    fn getattr(
        &self,
        ino: Ino,
    ) -> impl Future<Output = Result<(Attributes, std::time::Duration)>> + Send;

    /// Changes attributes. A change of the owner, and a change of the size by anybody but root, takes the
    /// set-user-id and set-group-id bits away; the kernel leaves that to the file system.
    fn setattr(
        &self,
        ino: Ino,
        caller: Caller,
        set: SetAttributes,
    ) -> impl Future<Output = Result<(Attributes, std::time::Duration)>> + Send;

    /// The target of a symbolic link.
    fn readlink(&self, ino: Ino) -> impl Future<Output = Result<Bytes>> + Send;

    /// Makes a directory, a device, a pipe, a socket, or a file that is not opened.
    fn make(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewNode,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Makes a file and opens it.
    fn create(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewNode,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<(Entry, Opened)>> + Send;

    /// Makes a symbolic link.
    fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Gives an inode one more name.
    fn link(
        &self,
        ino: Ino,
        parent: Ino,
        name: &[u8],
    ) -> impl Future<Output = Result<Entry>> + Send;

    /// Takes a name away.
    fn unlink(&self, parent: Ino, name: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Takes an empty directory away.
    fn rmdir(&self, parent: Ino, name: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Moves a name.
    fn rename(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        flags: RenameFlags,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Opens a file.
    fn open(&self, ino: Ino, flags: OpenFlags) -> impl Future<Output = Result<Opened>> + Send;

    /// The last reference to an open file is gone. Its error reaches nobody.
    fn release(
        &self,
        ino: Ino,
        handle: u64,
        flags: OpenFlags,
    ) -> impl Future<Output = Result<()>> + Send;

    /// Reads up to `length` bytes; less only at the end of the file.
    fn read(
        &self,
        ino: Ino,
        handle: u64,
        offset: u64,
        length: u32,
    ) -> impl Future<Output = Result<Vec<Bytes>>> + Send;

    /// Writes all of `bytes` at `offset`, or at the end of the file. Answers where they went.
    fn write(
        &self,
        ino: Ino,
        handle: u64,
        offset: u64,
        bytes: Bytes,
        how: WriteHow,
    ) -> impl Future<Output = Result<u64>> + Send;

    /// A descriptor of the file is closed; the error reaches `close`.
    fn flush(&self, ino: Ino, handle: u64) -> impl Future<Output = Result<()>> + Send;

    /// Brings a file to stable storage.
    fn fsync(&self, ino: Ino, data_only: bool) -> impl Future<Output = Result<()>> + Send;

    /// Opens a directory.
    fn opendir(&self, ino: Ino) -> impl Future<Output = Result<Opened>> + Send;

    /// The next lines of a directory after `cookie` (0: from the start), at most `max`; none at the end.
    /// With `attributes`, lines carry entries where they are at hand.
    fn readdir(
        &self,
        ino: Ino,
        cookie: u64,
        max: usize,
        attributes: bool,
    ) -> impl Future<Output = Result<Vec<DirEntry>>> + Send;

    /// The last reference to an open directory is gone.
    fn releasedir(&self, ino: Ino, handle: u64) -> impl Future<Output = Result<()>> + Send;

    /// Brings a directory to stable storage.
    fn fsyncdir(&self, ino: Ino) -> impl Future<Output = Result<()>> + Send;

    /// How much space there is.
    fn space(&self) -> impl Future<Output = Result<Space>> + Send;

    /// The value of an extended attribute; `ENODATA` if there is none.
    fn getxattr(&self, ino: Ino, name: &[u8]) -> impl Future<Output = Result<Bytes>> + Send {
        let _ = (ino, name);
        std::future::ready(Err(Errno::NODATA))
    }

    /// The names of the extended attributes.
    fn listxattr(&self, ino: Ino) -> impl Future<Output = Result<Vec<Vec<u8>>>> + Send {
        let _ = ino;
        std::future::ready(Ok(Vec::new()))
    }

    /// Sets an extended attribute.
    fn setxattr(
        &self,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (ino, name, value, mode, caller);
        std::future::ready(Err(Errno::OPNOTSUPP))
    }

    /// Takes an extended attribute away; `ENODATA` if there is none.
    fn removexattr(&self, ino: Ino, name: &[u8]) -> impl Future<Output = Result<()>> + Send {
        let _ = (ino, name);
        std::future::ready(Err(Errno::OPNOTSUPP))
    }

    /// Who is in the way of an advisory lock, if anybody is.
    fn getlk(
        &self,
        ino: Ino,
        lock: FileLock,
    ) -> impl Future<Output = Result<Option<FileLock>>> + Send {
        let _ = (ino, lock);
        std::future::ready(Err(Errno::NOSYS))
    }

    /// Takes or gives up an advisory lock. Without `wait` it is `EAGAIN` if others are in the way;
    /// with it, it waits for them until interrupted. This alone may take as long as it likes.
    fn setlk(
        &self,
        ino: Ino,
        handle: u64,
        lock: FileLock,
        wait: Option<Interrupted>,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (ino, handle, lock, wait);
        std::future::ready(Err(Errno::NOSYS))
    }

    /// The locks that end with a close: all of this owner, or, at the last close of an open file, all
    /// that came through its handle, too.
    fn unlock(
        &self,
        ino: Ino,
        owner: Option<u64>,
        handle: Option<u64>,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (ino, owner, handle);
        std::future::ready(Ok(()))
    }

    /// Reserves, punches or zeroes `length` bytes of a file from `offset` on.
    fn allocate(
        &self,
        ino: Ino,
        offset: u64,
        length: u64,
        what: Allocate,
    ) -> impl Future<Output = Result<()>> + Send {
        let _ = (ino, offset, length, what);
        std::future::ready(Err(Errno::OPNOTSUPP))
    }

    /// The first offset, from `offset` on, of what is looked for; `ENXIO` if there is none.
    fn seek(
        &self,
        ino: Ino,
        offset: u64,
        whence: Whence,
    ) -> impl Future<Output = Result<u64>> + Send {
        let _ = (ino, offset, whence);
        std::future::ready(Err(Errno::OPNOTSUPP))
    }
}
