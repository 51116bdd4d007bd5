//! Moving names.

use lockservice::Mode;

use crate::{
    attributes::{InodeNo, RenameMode},
    dir::check_name,
    error::Error,
    fs::Fs,
    layout::inode::FileType,
    tx::{After, Need, Stop, Tx},
};

type Found = (InodeNo, FileType);

/// A name in a directory.
#[derive(Clone, Copy)]
struct Place<'a> {
    dir: InodeNo,
    name: &'a [u8],
}

impl Fs {
    /// Moves a name.
    ///
    /// # Errors
    /// As POSIX says; [`Error::Invalid`] if a directory would go into itself.
    pub async fn rename(
        &self,
        parent: InodeNo,
        name: &[u8],
        new_parent: InodeNo,
        new_name: &[u8],
        mode: RenameMode,
    ) -> Result<(), Error> {
        check_name(name)?;
        check_name(new_name)?;
        let from = Place { dir: parent, name };
        let to = Place { dir: new_parent, name: new_name };
        let mut cleaned = Vec::new();
        self.run(|tx| {
            tx.changing()?;
            let (low, high) = (parent.min(new_parent), parent.max(new_parent));
            tx.hold(low.lock(), Mode::Exclusive)?;
            tx.hold(high.lock(), Mode::Exclusive)?;
            let source = tx.find(parent, name)?.ok_or(Error::NotFound)?;
            let target = tx.find(new_parent, new_name)?;
            if tx.inode(new_parent)?.links == 0 {
                return Err(Error::NotFound.into());
            }
            match (mode, target) {
                (RenameMode::NoReplace, Some(_)) => return Err(Error::Exists.into()),
                (RenameMode::Exchange, None) => return Err(Error::NotFound.into()),
                (_, Some(target)) if target.0 == source.0 => return Ok(()),
                _ => {}
            }
            if source.1 == FileType::Directory {
                tx.not_within(source.0, new_parent)?;
            }
            tx.written_first(source.0, &mut cleaned)?;
            match (mode, target) {
                (RenameMode::Exchange, Some(target)) => {
                    if target.1 == FileType::Directory {
                        tx.not_within(target.0, parent)?;
                    }
                    tx.written_first(target.0, &mut cleaned)?;
                    tx.exchange(from, source, to, target)
                }
                (_, target) => tx.replace(from, source, to, target),
            }
        })
        .await
    }
}

impl Tx<'_> {
    /// A crash must never show `moved` empty under its new name, so its data goes to the disk before the
    /// record that names it. The log sees to that, and the caller need not wait, unless the log waits already.
    fn written_first(&mut self, moved: InodeNo, cleaned: &mut Vec<InodeNo>) -> Result<(), Stop> {
        let Some(slot) = self.state.inodes.get(&moved) else { return Ok(()) };
        // Once is enough: what was in the file at the call is on the disk then.
        if !slot.needs_write_back() || cleaned.contains(&moved) {
            return Ok(());
        }
        if slot.writing || self.state.catching_up {
            cleaned.push(moved);
            return Err(Need::Clean(moved).into());
        }
        self.after.push(After::Renamed(moved));
        Ok(())
    }

    /// `dir` is not `moved` and not below it.
    fn not_within(&mut self, moved: InodeNo, dir: InodeNo) -> Result<(), Stop> {
        let mut at = dir;
        while at != InodeNo::ROOT {
            if at == moved {
                return Err(Error::Invalid.into());
            }
            at = self.live(at)?.parent;
        }
        Ok(())
    }

    fn replace(
        &mut self,
        from: Place<'_>,
        source: Found,
        to: Place<'_>,
        target: Option<Found>,
    ) -> Result<(), Stop> {
        let directory = source.1 == FileType::Directory;
        if let Some((old, kind)) = target {
            match (directory, kind == FileType::Directory) {
                (true, false) => return Err(Error::NotDirectory.into()),
                (false, true) => return Err(Error::IsDirectory.into()),
                (true, true) if self.live(old)?.size > 0 => return Err(Error::NotEmpty.into()),
                _ => {}
            }
            self.live(old)?;
            self.point(to.dir, to.name, source.0, source.1)?;
            if kind == FileType::Directory {
                let above = self.inode_mut(to.dir)?;
                above.links = above.links.saturating_sub(1);
            }
            self.drop_link(old)?;
        } else {
            self.insert(to.dir, to.name, source.0, source.1)?;
        }
        self.remove(from.dir, from.name)?;
        self.moved(source, from.dir, to.dir)?;
        self.dir_changed(from.dir)?;
        self.dir_changed(to.dir)
    }

    fn exchange(
        &mut self,
        from: Place<'_>,
        source: Found,
        to: Place<'_>,
        target: Found,
    ) -> Result<(), Stop> {
        self.point(to.dir, to.name, source.0, source.1)?;
        self.point(from.dir, from.name, target.0, target.1)?;
        self.moved(source, from.dir, to.dir)?;
        self.moved(target, to.dir, from.dir)?;
        self.dir_changed(from.dir)?;
        self.dir_changed(to.dir)
    }

    /// `what` went from one directory to another: its change time, and a directory's parent.
    fn moved(&mut self, what: Found, from: InodeNo, to: InodeNo) -> Result<(), Stop> {
        let now = self.now();
        let inode = self.inode_mut(what.0)?;
        inode.ctime = now;
        if what.1 == FileType::Directory && from != to {
            inode.parent = to;
            let above = self.inode_mut(from)?;
            above.links = above.links.saturating_sub(1);
            self.inode_mut(to)?.links += 1;
        }
        Ok(())
    }
}
