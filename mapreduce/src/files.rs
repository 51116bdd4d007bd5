//! What a job needs of a file system, and that the file system of this project gives it. Narrow, so that tests
//! can bring their own. What a job does with files is not known here.

use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use fs::{Caller, Fs, InodeNo, Kind, path};

/// What `stat` tells a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The inode.
    pub ino: InodeNo,
    /// What it is.
    pub kind: Kind,
    /// Bytes.
    pub size: u64,
}

/// One line of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The name.
    pub name: Bytes,
    /// What it leads to.
    pub stat: Stat,
}

/// The file system as a job sees it. Paths are absolute in the volume.
#[async_trait]
pub trait Files: Send + Sync {
    /// What a path leads to, if anything.
    async fn stat(&self, path: &str) -> Result<Option<Stat>, fs::Error>;
    /// The names in a directory, without `.` and `..`, with sizes.
    async fn list(&self, directory: InodeNo) -> Result<Vec<Line>, fs::Error>;
    /// Up to `length` bytes from `offset`; fewer only at the end.
    async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, fs::Error>;
    /// Makes a directory and what is missing above it.
    async fn make_directories(&self, path: &str) -> Result<(), fs::Error>;
    /// Makes an empty file, or empties one that is there, for [`Files::write`] and [`Files::finish`].
    async fn create(&self, path: &str) -> Result<InodeNo, fs::Error>;
    /// Writes all of `data`.
    async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), fs::Error>;
    /// Makes what was written of a file that was created durable; more may be written.
    async fn sync(&self, ino: InodeNo) -> Result<(), fs::Error>;
    /// Makes a file that was created durable, and closes it.
    async fn finish(&self, ino: InodeNo) -> Result<(), fs::Error>;
    /// Moves a file over whatever has the new name, or a directory with all that is in it to a name that is free.
    async fn rename(&self, from: &str, to: &str) -> Result<(), fs::Error>;
    /// Removes a path with all that is below it.
    async fn remove(&self, path: &str) -> Result<(), fs::Error>;
    /// Makes all durable that was done to names before the call.
    async fn settle(&self) -> Result<(), fs::Error>;
    /// The hosts that keep `length` bytes from `offset`, each with how many of them; none: that makes no difference.
    async fn hosts(
        &self,
        _ino: InodeNo,
        _offset: u64,
        _length: u64,
    ) -> Result<BTreeMap<String, u64>, fs::Error> {
        Ok(BTreeMap::new())
    }
}

#[async_trait]
impl Files for Fs {
    async fn stat(&self, path: &str) -> Result<Option<Stat>, fs::Error> {
        match path::stat(self, path).await {
            Ok(found) => Ok(Some(Stat { ino: found.ino, kind: found.kind, size: found.size })),
            Err(fs::Error::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn list(&self, directory: InodeNo) -> Result<Vec<Line>, fs::Error> {
        let mut lines = Vec::new();
        let mut cookie = 0;
        loop {
            let some = self.readdir(directory, cookie, 1024, true).await?;
            let Some(last) = some.last() else { return Ok(lines) };
            cookie = last.cookie;
            for entry in some {
                if entry.entry.is_some() {
                    self.forget(entry.ino, 1);
                }
                if entry.name == "." || entry.name == ".." {
                    continue;
                }
                let size = match (entry.kind, entry.entry) {
                    (Kind::File, Some(known)) => known.attributes.size,
                    (Kind::File, None) => self.getattr(entry.ino).await?.attributes.size,
                    _ => 0,
                };
                let stat = Stat { ino: entry.ino, kind: entry.kind, size };
                lines.push(Line { name: entry.name, stat });
            }
        }
    }

    async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, fs::Error> {
        Fs::read(self, ino, offset, length).await
    }

    async fn make_directories(&self, path: &str) -> Result<(), fs::Error> {
        path::make_directories(self, path, Caller::default()).await.map(|_| ())
    }

    async fn create(&self, path: &str) -> Result<InodeNo, fs::Error> {
        let (parent, name) =
            path.trim_end_matches('/').rsplit_once('/').ok_or(fs::Error::Invalid)?;
        let parent = path::resolve(self, parent).await?;
        match Fs::create(self, parent, name.as_bytes(), 0o644, Caller::default()).await {
            Ok(entry) => {
                self.forget(entry.attributes.ino, 1);
                Ok(entry.attributes.ino)
            }
            Err(fs::Error::Exists) => {
                let ino = path::resolve(self, path).await?;
                self.open(ino, true).await?;
                Ok(ino)
            }
            Err(error) => Err(error),
        }
    }

    async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), fs::Error> {
        Fs::write(self, ino, offset, data).await
    }

    async fn sync(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.fsync(ino).await
    }

    async fn finish(&self, ino: InodeNo) -> Result<(), fs::Error> {
        let synced = self.fsync(ino).await;
        self.release(ino);
        synced
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), fs::Error> {
        path::rename(self, from, to).await
    }

    async fn remove(&self, path: &str) -> Result<(), fs::Error> {
        path::remove_all(self, path).await
    }

    async fn settle(&self) -> Result<(), fs::Error> {
        self.fsyncdir(InodeNo::ROOT).await
    }

    async fn hosts(
        &self,
        ino: InodeNo,
        offset: u64,
        length: u64,
    ) -> Result<BTreeMap<String, u64>, fs::Error> {
        Fs::hosts(self, ino, offset, offset + length).await
    }
}
