//! Looking: names, attributes, targets of symbolic links, opens.

use blockstore::{Offset, PAGE};
use bytes::Bytes;
use lockservice::Mode;

use crate::{
    attributes::{Entry, InodeNo, Lookup, SetAttributes},
    dir::check_name,
    error::Error,
    fs::Fs,
    layout::{
        inode::{Body, FileType},
        text::ROOM,
    },
    tx::After,
};

impl Fs {
    /// What `name` in directory `parent` leads to. Counts as a reference of the kernel, see
    /// [`Fs::forget`], if it is found.
    ///
    /// # Errors
    /// [`Error::NotDirectory`] and the general ones; an absent name is no error.
    pub async fn lookup(&self, parent: InodeNo, name: &[u8]) -> Result<Lookup, Error> {
        let dots = name == b"." || name == b"..";
        if !dots {
            check_name(name)?;
        }
        self.run(|tx| {
            let valid_until = self.valid_until();
            let found = match name {
                b"." => Some(parent),
                b".." => Some(tx.live(parent)?.parent),
                _ => tx.find(parent, name)?.map(|(ino, _)| ino),
            };
            let Some(ino) = found else { return Ok(Lookup::Absent { valid_until }) };
            let entry = tx.entry(ino, valid_until)?;
            tx.after.push(After::Referenced(ino));
            Ok(Lookup::Found(entry))
        })
        .await
    }

    /// The kernel gives back `count` references that it got by lookup, make, create, link or
    /// readdir with attributes.
    pub fn forget(&self, ino: InodeNo, count: u64) {
        let mut state = self.state.lock();
        if let Some(left) = state.lookups.get_mut(&ino) {
            *left = left.saturating_sub(count);
            if *left == 0 {
                state.lookups.remove(&ino);
            }
        }
    }

    /// The attributes.
    ///
    /// # Errors
    /// [`Error::Stale`] if the inode is gone.
    pub async fn getattr(&self, ino: InodeNo) -> Result<Entry, Error> {
        self.run(|tx| tx.entry(ino, self.valid_until())).await
    }

    /// Where a symbolic link points to.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none.
    pub async fn readlink(&self, ino: InodeNo) -> Result<Bytes, Error> {
        self.run(|tx| {
            let inode = tx.live(ino)?;
            if inode.file_type() != Some(FileType::Symlink) {
                return Err(Error::Invalid.into());
            }
            if let Body::Target(target) = &inode.body {
                return Ok(Bytes::copy_from_slice(target));
            }
            let (run, size) = (inode.run(0), inode.size as usize);
            let Some(run) = run else { return Ok(Bytes::new()) };
            let mut target = Vec::with_capacity(size);
            for page in 0..size.div_ceil(ROOM) as u64 {
                let at = Offset(run.address().0 + page * PAGE);
                target.extend_from_slice(tx.text(at, ino.lock())?.text());
            }
            Ok(target.into())
        })
        .await
    }

    /// Counts an open of `ino` (file or directory): it stays readable until as many releases, even
    /// when its last name goes. `truncate` cuts it to nothing.
    ///
    /// # Errors
    /// [`Error::Stale`].
    pub async fn open(&self, ino: InodeNo, truncate: bool) -> Result<(), Error> {
        if truncate {
            self.setattr(ino, SetAttributes { size: Some(0), ..SetAttributes::default() }).await?;
        }
        self.run(|tx| {
            tx.hold(ino.lock(), Mode::Shared)?;
            tx.live(ino)?;
            tx.after.push(After::Opened(ino));
            Ok(())
        })
        .await
    }
}
