//! What can go wrong with a mount as such.

/// A mount could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel's side.
    #[error(transparent)]
    Fuse(#[from] fuse::Error),
    /// The file system's side.
    #[error("the file system could not be closed: {0}")]
    Fs(#[from] fs::Error),
}
