//! Removing names.

use lockservice::Mode;

use crate::{attributes::InodeNo, dir::check_name, error::Error, fs::Fs, layout::inode::FileType};

impl Fs {
    /// Removes a name that is no directory; the file goes with its last name and last open.
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::IsDirectory`].
    pub async fn unlink(&self, parent: InodeNo, name: &[u8]) -> Result<(), Error> {
        check_name(name)?;
        self.run(|tx| {
            tx.changing()?;
            tx.hold(parent.lock(), Mode::Exclusive)?;
            let (ino, kind) = tx.find(parent, name)?.ok_or(Error::NotFound)?;
            if kind == FileType::Directory {
                return Err(Error::IsDirectory.into());
            }
            tx.live(ino)?;
            tx.remove(parent, name)?;
            tx.dir_changed(parent)?;
            tx.drop_link(ino)
        })
        .await
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// [`Error::NotEmpty`], [`Error::NotDirectory`], [`Error::NotFound`].
    pub async fn rmdir(&self, parent: InodeNo, name: &[u8]) -> Result<(), Error> {
        if name == b".." {
            return Err(Error::NotEmpty);
        }
        check_name(name)?;
        self.run(|tx| {
            tx.changing()?;
            tx.hold(parent.lock(), Mode::Exclusive)?;
            let (ino, kind) = tx.find(parent, name)?.ok_or(Error::NotFound)?;
            if kind != FileType::Directory {
                return Err(Error::NotDirectory.into());
            }
            if tx.live(ino)?.size > 0 {
                return Err(Error::NotEmpty.into());
            }
            tx.remove(parent, name)?;
            tx.dir_changed(parent)?;
            let above = tx.inode_mut(parent)?;
            above.links = above.links.saturating_sub(1);
            tx.drop_link(ino)
        })
        .await
    }
}
