//! Which of the kernel's mounts are ours, and which one holds a path.

use std::path::{Path, PathBuf};

use crate::failure::{Kind, OrFail as _, Outcome};

/// The type that the kernel's table shows for a mount of ours.
const TYPE: &str = "fuse.plumeria";

/// A mount of Plumeria on this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ours {
    /// Where.
    pub(crate) mountpoint: PathBuf,
    /// The client configuration file of its cluster.
    pub(crate) source: PathBuf,
}

/// All mounts of Plumeria, in the order of the kernel's table.
pub(crate) fn all() -> Outcome<Vec<Ours>> {
    let all = fuse::mounts().or_fail(Kind::Failed, || "cannot list the mounts".into())?;
    let ours = all.into_iter().filter(|mounted| mounted.kind == TYPE);
    Ok(ours.map(|one| Ours { mountpoint: one.path, source: PathBuf::from(one.source) }).collect())
}

/// The innermost mount of ours that holds `path` (absolute, without links).
pub(crate) fn holding(path: &Path) -> Outcome<Option<Ours>> {
    let holders = all()?.into_iter().filter(|ours| path.starts_with(&ours.mountpoint));
    Ok(holders.max_by_key(|ours| ours.mountpoint.components().count()))
}
