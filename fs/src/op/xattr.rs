//! Extended attributes, and what access control lists add to them. All of an inode's lie in one
//! metadata page, which an inode gets with its first and keeps while it lives.

use bytes::Bytes;
use lockservice::Mode;

use super::SETGID;
use crate::{
    acl::{ACCESS, Acl, DEFAULT},
    attributes::{Caller, InodeNo, XattrMode},
    error::Error,
    fs::Fs,
    layout::{
        inode::FileType,
        text::TextPage,
        xattrs::{self, Xattrs},
    },
    state::Content,
    tx::{Stop, Tx},
};

/// The longest name, and the largest value that Linux passes.
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 64 << 10;
/// What a program may do besides; it goes with the set-user-id bit.
const CAPABILITY: &[u8] = b"security.capability";

impl Fs {
    /// The value of extended attribute `name`.
    ///
    /// # Errors
    /// [`Error::NoAttribute`].
    pub async fn getxattr(&self, ino: InodeNo, name: &[u8]) -> Result<Bytes, Error> {
        self.run(|tx| {
            let value = tx.xattrs(ino)?.remove(name).ok_or(Error::NoAttribute)?;
            Ok(Bytes::from(value))
        })
        .await
    }

    /// The names of the extended attributes.
    ///
    /// # Errors
    /// Only the general ones.
    pub async fn listxattr(&self, ino: InodeNo) -> Result<Vec<Vec<u8>>, Error> {
        self.run(|tx| Ok(tx.xattrs(ino)?.into_keys().collect())).await
    }

    /// Sets extended attribute `name`. An access control list also sets the permission bits; one
    /// that says no more than they do is not kept.
    ///
    /// # Errors
    /// [`Error::Exists`] and [`Error::NoAttribute`] as `mode` says; [`Error::TooBig`];
    /// [`Error::NoSpace`] if all attributes of the inode are more than a page;
    /// [`Error::Invalid`] for a list that is none.
    pub async fn setxattr(
        &self,
        ino: InodeNo,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
        caller: Caller,
    ) -> Result<(), Error> {
        if name.is_empty() || name.len() > MAX_NAME {
            return Err(Error::Invalid);
        }
        if value.len() > MAX_VALUE {
            return Err(Error::TooBig);
        }
        let list = (name == ACCESS || name == DEFAULT).then(|| Acl::decode(value)).transpose()?;
        self.run(|tx| {
            tx.changing()?;
            tx.hold(ino.lock(), Mode::Exclusive)?;
            let mut all = tx.xattrs(ino)?;
            match (mode, all.contains_key(name)) {
                (XattrMode::Create, true) => return Err(Error::Exists.into()),
                (XattrMode::Replace, false) => return Err(Error::NoAttribute.into()),
                _ => {}
            }
            let mut keeps = true;
            match &list {
                Some(list) if name == ACCESS => {
                    keeps = !list.is_mode();
                    let inode = tx.inode_mut(ino)?;
                    inode.mode = inode.mode & !0o777 | list.mode();
                    // Whose group is another may be a member of this one, too; nobody tells.
                    if caller.uid != 0 && caller.gid != inode.gid {
                        inode.mode &= !SETGID;
                    }
                }
                Some(_) if tx.live(ino)?.file_type() != Some(FileType::Directory) => {
                    return Err(Error::NotPermitted.into());
                }
                _ => {}
            }
            if keeps {
                all.insert(name.to_vec(), value.to_vec());
            } else {
                all.remove(name);
            }
            tx.set_xattrs(ino, &all)
        })
        .await
    }

    /// Takes extended attribute `name` away.
    ///
    /// # Errors
    /// [`Error::NoAttribute`].
    pub async fn removexattr(&self, ino: InodeNo, name: &[u8]) -> Result<(), Error> {
        self.run(|tx| {
            tx.changing()?;
            tx.hold(ino.lock(), Mode::Exclusive)?;
            let mut all = tx.xattrs(ino)?;
            all.remove(name).ok_or(Error::NoAttribute)?;
            tx.set_xattrs(ino, &all)
        })
        .await
    }
}

/// What a new inode begins with, as its directory's default list says.
pub(super) struct Inherited {
    pub mode: u32,
    pub xattrs: Xattrs,
}

impl Tx<'_> {
    /// The extended attributes of `ino`.
    fn xattrs(&mut self, ino: InodeNo) -> Result<Xattrs, Stop> {
        let Some(run) = self.live(ino)?.xattrs else { return Ok(Xattrs::new()) };
        let page = self.text(run.address(), ino.lock())?;
        Ok(xattrs::decode(page.text())?)
    }

    /// Makes `all` the extended attributes of `ino`.
    pub(super) fn set_xattrs(&mut self, ino: InodeNo, all: &Xattrs) -> Result<(), Stop> {
        let bytes = xattrs::encode(all).ok_or(Error::NoSpace)?;
        match self.inode(ino)?.xattrs {
            Some(run) => *self.text_mut(run.address(), ino.lock())? = TextPage::of(&bytes),
            None if bytes.is_empty() => {}
            None => {
                let run = self.take_run(0)?;
                self.inode_mut(ino)?.xattrs = Some(run);
                self.fresh(run.address(), ino.lock(), Content::Text(TextPage::of(&bytes)));
            }
        }
        let now = self.now();
        self.inode_mut(ino)?.ctime = now;
        Ok(())
    }

    /// The permission bits and the lists of something that is made in `parent` with `mode`.
    pub(super) fn inherit(
        &mut self,
        parent: InodeNo,
        kind: FileType,
        mode: u32,
        umask: u32,
    ) -> Result<Inherited, Stop> {
        let mut new = Inherited { mode, xattrs: Xattrs::new() };
        if kind == FileType::Symlink {
            return Ok(new);
        }
        let default = match self.inode(parent)?.xattrs {
            Some(_) => self.xattrs(parent)?.remove(DEFAULT),
            None => None,
        };
        let Some(default) = default else {
            new.mode &= !umask;
            return Ok(new);
        };
        let mut list = Acl::decode(&default)?;
        new.mode = list.inherit(mode);
        if !list.is_mode() {
            new.xattrs.insert(ACCESS.to_vec(), list.encode());
        }
        if kind == FileType::Directory {
            new.xattrs.insert(DEFAULT.to_vec(), default);
        }
        Ok(new)
    }

    /// The permission bits of `ino` change to `mode`: so does its access list.
    pub(super) fn relist(&mut self, ino: InodeNo, mode: u32) -> Result<(), Stop> {
        if self.live(ino)?.xattrs.is_none() {
            return Ok(());
        }
        let mut all = self.xattrs(ino)?;
        let Some(value) = all.get_mut(ACCESS) else { return Ok(()) };
        let mut list = Acl::decode(value)?;
        list.set_mode(mode);
        *value = list.encode();
        self.set_xattrs(ino, &all)
    }

    /// Who may not keep them takes the capabilities of a program away with its set-user-id bit.
    pub(super) fn drop_capabilities(&mut self, ino: InodeNo) -> Result<(), Stop> {
        if self.live(ino)?.xattrs.is_none() {
            return Ok(());
        }
        let mut all = self.xattrs(ino)?;
        if all.remove(CAPABILITY).is_none() {
            return Ok(());
        }
        self.set_xattrs(ino, &all)
    }
}
