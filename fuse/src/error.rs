//! What can go wrong with a mount as such. What goes wrong with an operation is an error number.

use std::{io, path::PathBuf};

/// A mount could not be made, used or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel has no FUSE, or this container does not show it.
    #[error(
        "there is no /dev/fuse: load the module (modprobe fuse), or give the container the device (--device /dev/fuse)"
    )]
    NoFuse,
    /// The device is there but may not be opened.
    #[error(
        "/dev/fuse may not be opened ({0}): run as root, or as a user in the group that owns it"
    )]
    DeviceDenied(io::Error),
    /// Nothing at the mount point.
    #[error("the mount point {0} does not exist: make it first (mkdir -p {0})")]
    Missing(PathBuf),
    /// Not a directory.
    #[error("the mount point {0} is not a directory: choose an empty directory")]
    NotDirectory(PathBuf),
    /// Something is in it that would be hidden.
    #[error(
        "the mount point {0} is not empty: a mount would hide what is in it; choose an empty directory"
    )]
    NotEmpty(PathBuf),
    /// Something is mounted there.
    #[error(
        "{what} is already mounted on {path}: unmount it first (plumeria umount {path}), or choose another directory"
    )]
    AlreadyMounted {
        /// The mount point.
        path: PathBuf,
        /// The source of the mount that is there.
        what: String,
    },
    /// A dead mount lies there.
    #[error("a dead FUSE mount lies on {0}: remove it (plumeria umount --force {0})")]
    Dead(PathBuf),
    /// Nothing is mounted there.
    #[error("nothing is mounted on {0}")]
    NotMounted(PathBuf),
    /// Open files or working directories.
    #[error(
        "{0} is in use: close the files and leave the directories under it (fuser -vm {0} lists who), then unmount again"
    )]
    Busy(PathBuf),
    /// The kernel said no.
    #[error(
        "mounting on {path} is not permitted ({reason}): run as root, or install fuse3 for fusermount3"
    )]
    NotPermitted {
        /// The mount point.
        path: PathBuf,
        /// What was said.
        reason: String,
    },
    /// The mount did not end in time.
    #[error("{what} did not end in {seconds} s")]
    Slow {
        /// What was waited for.
        what: String,
        /// For how long.
        seconds: u64,
    },
    /// Anything else.
    #[error("{what}: {error}")]
    Io {
        /// What was being done.
        what: String,
        /// What the operating system said.
        #[source]
        error: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        Self::Io { what: what.into(), error: error.into() }
    }
}
