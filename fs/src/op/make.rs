//! Making: inodes under new names, and new names for old ones.

use blockstore::{Offset, PAGE};
use lockservice::Mode;

use super::{PERMISSIONS, SETGID, type_of};
use crate::{
    attributes::{Caller, Entry, InodeNo, Kind, Node},
    dir::check_name,
    error::Error,
    fs::Fs,
    layout::{
        geometry::RUNS,
        inode::{Body, FileType, Inode, SHORT_TARGET},
        text::{ROOM, TextPage},
    },
    state::Content,
    tx::{After, Stop, Tx},
};

/// The longest target of a symbolic link.
const MAX_TARGET: usize = 4095;

impl Fs {
    /// Makes an inode of any kind under a new name; for a file it does not open it.
    ///
    /// # Errors
    /// [`Error::Exists`] and others.
    pub async fn make(
        &self,
        parent: InodeNo,
        name: &[u8],
        node: Node,
        caller: Caller,
    ) -> Result<Entry, Error> {
        check_name(name)?;
        if node.kind == Kind::Symlink && node.target.is_empty() {
            return Err(Error::NotFound);
        }
        if node.target.len() > MAX_TARGET {
            return Err(Error::NameTooLong);
        }
        self.run(|tx| {
            let ino = tx.make(parent, name, &node, caller)?;
            tx.made(ino, self)
        })
        .await
    }

    /// Makes a regular file and opens it, in one operation; see [`Fs::release`].
    ///
    /// # Errors
    /// [`Error::Exists`] and others.
    pub async fn create(
        &self,
        parent: InodeNo,
        name: &[u8],
        mode: u32,
        caller: Caller,
    ) -> Result<Entry, Error> {
        check_name(name)?;
        let node = Node::file(mode);
        self.run(|tx| {
            let ino = tx.make(parent, name, &node, caller)?;
            tx.after.push(After::Opened(ino));
            tx.made(ino, self)
        })
        .await
    }

    /// Another name for `ino`.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] for directories; [`Error::Exists`].
    pub async fn link(&self, ino: InodeNo, parent: InodeNo, name: &[u8]) -> Result<Entry, Error> {
        check_name(name)?;
        self.run(|tx| {
            let inode = tx.live(ino)?;
            let kind = inode.file_type().ok_or(Error::Stale)?;
            if kind == FileType::Directory {
                return Err(Error::NotPermitted.into());
            }
            match inode.links {
                0 => return Err(Error::NotFound.into()),
                u32::MAX => return Err(Error::TooManyLinks.into()),
                _ => {}
            }
            tx.vacant(parent, name)?;
            tx.insert(parent, name, ino, kind)?;
            tx.dir_changed(parent)?;
            let now = tx.now();
            let inode = tx.inode_mut(ino)?;
            inode.links += 1;
            inode.ctime = now;
            tx.made(ino, self)
        })
        .await
    }
}

impl Tx<'_> {
    /// `name` is not in `parent`, which is a directory that still has a name.
    fn vacant(&mut self, parent: InodeNo, name: &[u8]) -> Result<(), Stop> {
        // The right to change it is asked for first: the look under a shared lock would be lost.
        self.changing()?;
        self.hold(parent.lock(), Mode::Exclusive)?;
        if self.find(parent, name)?.is_some() {
            return Err(Error::Exists.into());
        }
        if self.inode(parent)?.links == 0 { Err(Error::NotFound.into()) } else { Ok(()) }
    }

    fn make(
        &mut self,
        parent: InodeNo,
        name: &[u8],
        node: &Node,
        caller: Caller,
    ) -> Result<InodeNo, Stop> {
        self.vacant(parent, name)?;
        let kind = type_of(node.kind);
        let directory = kind == FileType::Directory;
        let new = self.inherit(parent, kind, node.mode & PERMISSIONS, caller.umask)?;
        let ino = self.take_inode()?;
        let (now, above) = (self.now(), self.inode(parent)?);
        let mut inode = Inode::new(kind.mode_bits() | new.mode, caller.uid, caller.gid);
        if above.mode & SETGID != 0 {
            inode.gid = above.gid;
            if directory {
                inode.mode |= SETGID;
            }
        }
        (inode.atime, inode.mtime, inode.ctime, inode.btime) = (now, now, now, now);
        inode.links = if directory { 2 } else { 1 };
        inode.generation = self.state.number() as u32 ^ (self.fs.locks.newest().0 as u32) << 16;
        match node.kind {
            Kind::Directory => inode.parent = parent,
            Kind::CharDevice | Kind::BlockDevice => inode.device = node.rdev,
            Kind::Symlink if node.target.len() <= SHORT_TARGET => {
                inode.size = node.target.len() as u64;
                inode.body = Body::Target(node.target.as_ref().into());
            }
            Kind::Symlink => self.long_target(ino, &mut inode, &node.target)?,
            Kind::File | Kind::Fifo | Kind::Socket => {}
        }
        self.insert(parent, name, ino, kind)?;
        self.dir_changed(parent)?;
        if directory {
            self.inode_mut(parent)?.links += 1;
        }
        self.fresh_inode(ino, inode)?;
        if !new.xattrs.is_empty() {
            self.set_xattrs(ino, &new.xattrs)?;
        }
        Ok(ino)
    }

    /// The target of a symbolic link that does not fit in its inode: pages of its own, which are in
    /// the log with its name.
    fn long_target(&mut self, ino: InodeNo, inode: &mut Inode, target: &[u8]) -> Result<(), Stop> {
        let pages: Vec<&[u8]> = target.chunks(ROOM).collect();
        inode.first_class = pages.len().next_power_of_two().ilog2() as u8;
        let run = self.take_run(inode.first_class)?;
        for (page, part) in pages.iter().enumerate() {
            let at = Offset(run.address().0 + page as u64 * PAGE);
            self.fresh(at, ino.lock(), Content::Text(TextPage::of(part)));
        }
        let mut runs = Box::new([None; RUNS]);
        runs[0] = Some(run);
        inode.body = Body::Runs(runs);
        inode.size = target.len() as u64;
        inode.blocks = pages.len() as u64 * (PAGE / 512);
        Ok(())
    }

    fn made(&mut self, ino: InodeNo, fs: &Fs) -> Result<Entry, Stop> {
        self.after.push(After::Referenced(ino));
        self.entry(ino, fs.valid_until())
    }
}
