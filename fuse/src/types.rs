//! The words in which the kernel and a file system talk, without the words of the crate that speaks
//! to the kernel for us. What stands behind an inode is not known here.

use std::time::Duration;

use world::Wall;

/// An inode number as the kernel knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ino(pub u64);

impl Ino {
    /// The root of the mount.
    pub const ROOT: Self = Self(1);
}

/// What kind of thing an inode is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Pipe,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// The attributes of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Whose attributes.
    pub ino: Ino,
    /// Told apart from an earlier inode of the same number.
    pub generation: u64,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, with set-user-id, set-group-id and sticky.
    pub mode: u16,
    /// How many names it has.
    pub links: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number, for devices.
    pub rdev: u32,
    /// Size in bytes.
    pub size: u64,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last access.
    pub atime: Wall,
    /// Last change of the content.
    pub mtime: Wall,
    /// Last change of the attributes.
    pub ctime: Wall,
}

/// A name that was found or made. Each one that is answered counts as one look-up, which the kernel
/// takes back by [`crate::FileSystem::forget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What the name stands for.
    pub attributes: Attributes,
    /// For how long the kernel may use the name without asking.
    pub name_for: Duration,
    /// For how long the kernel may use the attributes without asking.
    pub attributes_for: Duration,
}

/// The answer to a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The name is there.
    Entry(Entry),
    /// It is not, and the kernel may rely on that for so long.
    Nothing(Duration),
}

/// One line of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// What the name stands for.
    pub ino: Ino,
    /// Its kind.
    pub kind: Kind,
    /// The name.
    pub name: Vec<u8>,
    /// Where to go on after this line.
    pub cookie: u64,
    /// With attributes, if they were asked for and are at hand. Counts as one look-up, except for `.` and `..`.
    pub entry: Option<Entry>,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What a new inode begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NewNode {
    /// Its kind.
    pub kind: Kind,
    /// Permission bits, as they were asked for.
    pub mode: u16,
    /// The bits that the caller's umask takes off, unless the directory has a default access list.
    pub umask: u16,
    /// Device number, for devices.
    pub rdev: u32,
    /// Who makes it.
    pub caller: Caller,
}

/// A time to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetTime {
    /// The time of the change.
    Now,
    /// This time.
    At(Wall),
}

/// Attributes to change; what is `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Size.
    pub size: Option<u64>,
    /// Last access.
    pub atime: Option<SetTime>,
    /// Last change of the content.
    pub mtime: Option<SetTime>,
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenFlags {
    /// Reads are meant.
    pub read: bool,
    /// Writes are meant.
    pub write: bool,
    /// The caller wants no cache.
    pub direct: bool,
}

/// How bytes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteHow {
    /// At the end of the file, wherever that is by now: the kernel does not know what others appended.
    pub append: bool,
    /// On stable storage before it is answered.
    pub sync: bool,
    /// The file loses its set-user-id and set-group-id bits: who writes may not keep them.
    pub strip: bool,
}

/// Whether an extended attribute may, must or must not be there already when it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum XattrMode {
    /// It may.
    #[default]
    Set,
    /// It must not.
    Create,
    /// It must.
    Replace,
}

/// What becomes of a range of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocate {
    /// It may be written to without growing the file's use of space later, as far as that can be said; the
    /// file grows to its end, if it is shorter and `keep_size` is not set.
    Reserve {
        /// The size stays.
        keep_size: bool,
    },
    /// It reads as zeros and takes no space; the size stays.
    Punch,
    /// It reads as zeros; the file grows to its end, if it is shorter and `keep_size` is not set.
    Zero {
        /// The size stays.
        keep_size: bool,
    },
}

/// What is looked for in a file from an offset on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    /// Bytes that were written.
    Data,
    /// A hole; the end of the file is one.
    Hole,
}

/// How bytes of a file are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Beside others like it.
    Read,
    /// Alone.
    Write,
    /// Not any more.
    Unlock,
}

/// An advisory lock, of fcntl or of flock: which of the two is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLock {
    /// A process (fcntl), or an open file (flock).
    pub owner: u64,
    /// The process, for `F_GETLK`.
    pub process: u32,
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
    /// How.
    pub kind: LockKind,
}

/// How the kernel is to treat a file or directory that was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Comes back with every request on the open file.
    pub handle: u64,
    /// The pages that the kernel has are still right.
    pub keep_cache: bool,
    /// Reads and writes go past the kernel's cache.
    pub direct: bool,
    /// Nothing is to be told at close, so the kernel need not ask.
    pub skip_flush: bool,
}

/// How a rename treats a name that is already there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RenameFlags {
    /// It is an error.
    pub no_replace: bool,
    /// The two change places.
    pub exchange: bool,
}

/// Space, as `df` shows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Unit of the block counts, in bytes.
    pub block_size: u32,
    /// All blocks.
    pub blocks: u64,
    /// Free ones.
    pub free: u64,
    /// All inodes.
    pub inodes: u64,
    /// Free ones.
    pub free_inodes: u64,
}
