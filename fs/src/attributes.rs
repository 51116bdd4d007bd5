//! The words of the public interface: inode numbers, kinds, attributes, directory entries. How they
//! are laid out on the disk is not known here.

use bytes::Bytes;
use world::{Time, Wall};

pub use crate::layout::geometry::InodeNo;

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// What `stat` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Attributes {
    /// The inode.
    pub ino: InodeNo,
    /// Tells two lives of one inode number apart.
    pub generation: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky (07777).
    pub mode: u32,
    /// The owner.
    pub uid: u32,
    /// The group.
    pub gid: u32,
    /// Hard links; for a directory 2 and one for each subdirectory.
    pub nlink: u32,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks in use.
    pub blocks: u64,
    /// The device that a device inode stands for.
    pub rdev: u32,
    /// Last access (relatime is not kept: only what was set).
    pub atime: Wall,
    /// Last change of the content.
    pub mtime: Wall,
    /// Last change of the inode.
    pub ctime: Wall,
}

/// An inode that a name leads to, and until when that may be believed without asking again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its attributes.
    pub attributes: Attributes,
    /// By the local clock: the end of the lease under which it was read, less the margin.
    pub valid_until: Time,
}

/// The answer to a look-up; both are answers that may be kept until `valid_until`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lookup {
    /// The name is there.
    Found(Entry),
    /// It is not.
    Absent {
        /// Until when that may be believed.
        valid_until: Time,
    },
}

/// A time to be set.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetTime {
    /// The present.
    Now,
    /// This one.
    At(Wall),
}

/// What `setattr` shall change; `None` stays as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SetAttributes {
    /// Permission bits (07777).
    pub mode: Option<u32>,
    /// The owner.
    pub uid: Option<u32>,
    /// The group.
    pub gid: Option<u32>,
    /// The size: cut off, or grown with zeros.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
    /// The set-user-id bit goes, and set-group-id of a program: who changes it may not keep them.
    /// A change of the owner implies it.
    pub strip: bool,
}

/// For whom something is made. (Permissions are checked by the kernel.)
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// The owner of what is made.
    pub uid: u32,
    /// Its group, unless the directory's setgid bit says otherwise.
    pub gid: u32,
    /// Permission bits that it does not get, unless the directory has a default access list.
    pub umask: u32,
}

/// What [`crate::Fs::make`] shall make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Permission bits (07777), before the caller's umask.
    pub mode: u32,
    /// For a device: which.
    pub rdev: u32,
    /// For a symbolic link: where it points to.
    pub target: Bytes,
}

impl Node {
    /// A regular file with permission bits `mode`.
    #[must_use]
    pub const fn file(mode: u32) -> Self {
        Self { kind: Kind::File, mode, rdev: 0, target: Bytes::new() }
    }

    /// A directory with permission bits `mode`.
    #[must_use]
    pub const fn directory(mode: u32) -> Self {
        Self { kind: Kind::Directory, mode, rdev: 0, target: Bytes::new() }
    }

    /// A symbolic link to `target`.
    #[must_use]
    pub const fn symlink(target: Bytes) -> Self {
        Self { kind: Kind::Symlink, mode: 0o777, rdev: 0, target }
    }
}

/// Whether an extended attribute may be there when it is set.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XattrMode {
    /// It may.
    #[default]
    Set,
    /// `EEXIST` if it is.
    Create,
    /// `ENODATA` if it is not.
    Replace,
}

/// What [`crate::Fs::allocate`] does to a range of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allocate {
    /// Looks whether there is space for it.
    Reserve {
        /// The file does not grow to the end of the range.
        keep_size: bool,
    },
    /// Makes it a hole; the size stays.
    Punch,
    /// Makes it read as zeros.
    Zero {
        /// The file does not grow to the end of the range.
        keep_size: bool,
    },
}

/// What `rename` does when the new name exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RenameMode {
    /// It is replaced, as POSIX says.
    Replace,
    /// `EEXIST` (RENAME_NOREPLACE).
    NoReplace,
    /// The two change places (RENAME_EXCHANGE).
    Exchange,
}

/// One name of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// The inode.
    pub ino: InodeNo,
    /// What it is.
    pub kind: Kind,
    /// The name.
    pub name: Bytes,
    /// Where to go on after this entry. Stays right while others change the directory.
    pub cookie: u64,
    /// Its attributes, if they were asked for and could be had without waiting for other mounts.
    pub entry: Option<Entry>,
}

/// What `statfs` tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Statfs {
    /// Bytes of a block in the numbers below.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free: u64,
    /// Inodes.
    pub inodes: u64,
    /// Free inodes.
    pub free_inodes: u64,
    /// Longest name.
    pub name_max: u32,
}
