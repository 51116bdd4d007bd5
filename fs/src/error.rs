//! What can go wrong with a file operation, and the errno of each. This is the one table.

/// An error of the file system.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No such name.
    #[error("no such file or directory")]
    NotFound,
    /// The name is taken.
    #[error("file exists")]
    Exists,
    /// A directory was needed.
    #[error("not a directory")]
    NotDirectory,
    /// A directory cannot be used so.
    #[error("is a directory")]
    IsDirectory,
    /// The directory has entries.
    #[error("directory not empty")]
    NotEmpty,
    /// The arguments make no sense.
    #[error("invalid argument")]
    Invalid,
    /// More than 255 bytes in a name, or 4095 in a symbolic link.
    #[error("file name too long")]
    NameTooLong,
    /// Hard links of a directory, and the like.
    #[error("operation not permitted")]
    NotPermitted,
    /// No more links.
    #[error("too many links")]
    TooManyLinks,
    /// Larger than a file can be.
    #[error("file too large")]
    TooLarge,
    /// No space on the block servers, or no free inode.
    #[error("no space left on the volume")]
    NoSpace,
    /// The mount is read-only.
    #[error("the mount is read-only")]
    ReadOnly,
    /// The inode is gone.
    #[error("the file is gone")]
    Stale,
    /// No such extended attribute.
    #[error("no such attribute")]
    NoAttribute,
    /// An extended attribute of more than 64 KiB.
    #[error("argument list too long")]
    TooBig,
    /// No data, or no file, from that offset on.
    #[error("no such place in the file")]
    NoSuchPlace,
    /// Not possible on this file system.
    #[error("not supported")]
    NotSupported,
    /// Somebody did not answer before the deadline.
    #[error("input/output error: {0} did not answer before the deadline")]
    Late(&'static str),
    /// The session's lease is lost: everything fails until the file system is mounted again.
    #[error("the lease is lost: unmount and mount again")]
    Expired,
    /// The file system was closed.
    #[error("the file system is closed")]
    Closed,
    /// Bytes on the disk that make no sense.
    #[error("damaged: {0}; run fsck")]
    Damaged(String),
    /// The volume has no file system, or one of another format.
    #[error("{0}")]
    Format(String),
    /// The virtual disk failed.
    #[error("virtual disk: {0}")]
    Disk(#[from] blockstore::Error),
    /// The lock service failed.
    #[error("lock service: {0}")]
    Lock(#[from] lockservice::Error),
}

impl From<crate::layout::Damaged> for Error {
    fn from(damaged: crate::layout::Damaged) -> Self {
        Self::Damaged(damaged.0.to_owned())
    }
}

impl Error {
    /// The number that the kernel understands.
    #[must_use]
    pub const fn errno(&self) -> i32 {
        match self {
            Self::NotPermitted => 1,
            Self::NotFound => 2,
            Self::NoSuchPlace => 6,
            Self::TooBig => 7,
            Self::Exists => 17,
            Self::NotDirectory => 20,
            Self::IsDirectory => 21,
            Self::Invalid => 22,
            Self::TooLarge => 27,
            Self::NoSpace | Self::Disk(blockstore::Error::NoSpace) => 28,
            Self::ReadOnly => 30,
            Self::TooManyLinks => 31,
            Self::NameTooLong => 36,
            Self::NotEmpty => 39,
            Self::NoAttribute => 61,
            Self::NotSupported => 95,
            Self::Stale => 116,
            Self::Late(_)
            | Self::Expired
            | Self::Closed
            | Self::Damaged(_)
            | Self::Format(_)
            | Self::Disk(_)
            | Self::Lock(_) => 5,
        }
    }
}
