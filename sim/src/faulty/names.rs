//! The changes of names that no `fsync` of a directory has made durable yet, oldest first, and how to go
//! back. They behave like a journal: a sync of one directory takes along all that is older.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// A change of names. Paths are those of the backing directory. What is replaced or removed is only
/// moved to a place of its own, the *grave*, until that is durable.
pub(super) enum Change {
    /// A file or directory got its first name.
    Made(PathBuf),
    /// A name was taken away.
    Gone { path: PathBuf, grave: PathBuf },
    /// A name was moved, perhaps over another.
    Moved { from: PathBuf, to: PathBuf, replaced: Option<PathBuf> },
}

impl Change {
    fn touches(&self, directory: &Path) -> bool {
        let within = |path: &Path| path.parent() == Some(directory);
        match self {
            Self::Made(path) | Self::Gone { path, .. } => within(path),
            Self::Moved { from, to, .. } => within(from) || within(to),
        }
    }

    fn grave(&self) -> Option<&Path> {
        match self {
            Self::Made(_) => None,
            Self::Gone { grave, .. } => Some(grave),
            Self::Moved { replaced, .. } => replaced.as_deref(),
        }
    }

    fn undo(&self) -> io::Result<()> {
        match self {
            Self::Made(path) => remove(path),
            Self::Gone { path, grave } => fs::rename(grave, path),
            Self::Moved { from, to, replaced } => {
                fs::rename(to, from)?;
                replaced.as_ref().map_or(Ok(()), |grave| fs::rename(grave, to))
            }
        }
    }
}

/// All changes since the last sync of a directory.
#[derive(Default)]
pub(super) struct Names(Vec<Change>);

impl Names {
    pub(super) fn note(&mut self, change: Change) {
        self.0.push(change);
    }

    /// What was done in `directory` is durable, and everything before.
    pub(super) fn sync(&mut self, directory: &Path) -> io::Result<()> {
        let Some(last) = self.0.iter().rposition(|change| change.touches(directory)) else {
            return Ok(());
        };
        for change in self.0.drain(..=last) {
            change.grave().map_or(Ok(()), remove)?;
        }
        Ok(())
    }

    /// How many changes are not durable.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Goes back to the last sync, but for the oldest `surviving` changes, which become durable.
    pub(super) fn undo(&mut self, surviving: usize) -> io::Result<()> {
        while self.0.len() > surviving {
            if let Some(change) = self.0.pop() {
                change.undo()?;
            }
        }
        for change in self.0.drain(..) {
            change.grave().map_or(Ok(()), remove)?;
        }
        Ok(())
    }
}

fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests look at real files")]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_synced_is_undone_in_the_opposite_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("grave")).unwrap();
        fs::write(path("old"), "old").unwrap();
        let mut names = Names::default();
        fs::write(path("new"), "new").unwrap();
        names.note(Change::Made(path("new")));
        fs::rename(path("old"), path("grave/1")).unwrap();
        fs::rename(path("new"), path("old")).unwrap();
        let replaced = Some(path("grave/1"));
        names.note(Change::Moved { from: path("new"), to: path("old"), replaced });
        fs::rename(path("old"), path("grave/2")).unwrap();
        names.note(Change::Gone { path: path("old"), grave: path("grave/2") });
        names.undo(0).unwrap();
        assert_eq!(fs::read(path("old")).unwrap(), b"old");
        assert!(!path("new").exists());
    }

    #[test]
    fn the_oldest_changes_may_survive() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut names = Names::default();
        for name in ["first", "second", "third"] {
            fs::write(path(name), name).unwrap();
            names.note(Change::Made(path(name)));
        }
        names.undo(2).unwrap();
        assert!(path("first").exists() && path("second").exists() && !path("third").exists());
        assert_eq!(names.len(), 0);
    }

    #[test]
    fn a_sync_of_a_directory_takes_older_changes_along_and_no_younger_ones() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        for name in ["a", "b"] {
            fs::create_dir(path(name)).unwrap();
        }
        let mut names = Names::default();
        for name in ["b/first", "a/second", "b/third"] {
            fs::write(path(name), name).unwrap();
            names.note(Change::Made(path(name)));
        }
        names.sync(&path("a")).unwrap();
        names.undo(0).unwrap();
        assert!(path("b/first").exists() && path("a/second").exists());
        assert!(!path("b/third").exists());
    }
}
