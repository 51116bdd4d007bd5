//! Directories over an attempt: look-up, insertion, removal, listing. The pages form a binary tree
//! in sparse space, see `layout::dirpage`. Times and link counts are the operations' business.

use blockstore::{Offset, PAGE};
use bytes::Bytes;

use crate::{
    error::Error,
    layout::{
        dirpage::{DirPage, Full, MAX_NAME},
        geometry::{InodeNo, Run},
        hash::NameHash,
        inode::{Body, FileType},
        version::Version,
    },
    state::Content,
    tx::{Stop, Tx},
};

/// The deepest page.
const LAST_DEPTH: u8 = 28;

/// A name as a directory has it.
pub(crate) struct Listed {
    pub hash: NameHash,
    pub ino: InodeNo,
    pub kind: FileType,
    pub name: Bytes,
}

/// Whether `name` can be a name.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Error> {
    if name.len() > MAX_NAME {
        return Err(Error::NameTooLong);
    }
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') || name.contains(&0)
    {
        return Err(Error::Invalid);
    }
    Ok(())
}

impl Tx<'_> {
    fn hash(&self, name: &[u8]) -> NameHash {
        NameHash::of(name, self.state.hash_key)
    }

    /// The leaf that has, or would have, names with `hash`; `None` in a directory without pages.
    fn leaf(&mut self, dir: InodeNo, hash: NameHash) -> Result<Option<(u8, Offset)>, Stop> {
        for depth in 0..=LAST_DEPTH {
            let Some(run) = self.inode(dir)?.run(depth as usize) else {
                if depth == 0 {
                    return Ok(None);
                }
                break;
            };
            let at = page_at(run, hash.prefix(depth));
            if !self.directory(at, dir.lock())?.is_split() {
                return Ok(Some((depth, at)));
            }
        }
        Err(Error::Damaged(format!("directory {dir}: split without a page below")).into())
    }

    /// The entry `name` of `dir`.
    pub(crate) fn find(
        &mut self,
        dir: InodeNo,
        name: &[u8],
    ) -> Result<Option<(InodeNo, FileType)>, Stop> {
        if self.live(dir)?.file_type() != Some(FileType::Directory) {
            return Err(Error::NotDirectory.into());
        }
        let hash = self.hash(name);
        let Some((_, at)) = self.leaf(dir, hash)? else { return Ok(None) };
        let found = self.directory(at, dir.lock())?.find(hash, name);
        Ok(found.map(|entry| (entry.inode, entry.kind)))
    }

    /// Adds `name`, which is not there, to `dir`.
    pub(crate) fn insert(
        &mut self,
        dir: InodeNo,
        name: &[u8],
        ino: InodeNo,
        kind: FileType,
    ) -> Result<(), Stop> {
        let hash = self.hash(name);
        let (mut depth, mut at) = match self.leaf(dir, hash)? {
            Some(leaf) => leaf,
            None => {
                let run = self.level(dir, 0)?;
                self.fresh_dir(run.address(), dir, DirPage::blank());
                (0, run.address())
            }
        };
        loop {
            let page = self.directory_mut(at, dir.lock())?;
            match page.insert(hash, name, ino, kind) {
                Ok(_) => break,
                Err(Full::Ties) => return Err(Error::NoSpace.into()),
                Err(Full::Page) if depth == LAST_DEPTH => return Err(Error::NoSpace.into()),
                Err(Full::Page) => {}
            }
            let (low, high) = page.split(depth);
            *page = DirPage::split_mark(Version::ZERO);
            depth += 1;
            let run = self.level(dir, depth)?;
            let prefix = hash.prefix(depth);
            self.fresh_dir(page_at(run, prefix & !1), dir, low);
            self.fresh_dir(page_at(run, prefix | 1), dir, high);
            at = page_at(run, prefix);
        }
        self.inode_mut(dir)?.size += 1;
        Ok(())
    }

    fn fresh_dir(&mut self, at: Offset, dir: InodeNo, page: DirPage) {
        self.fresh(at, dir.lock(), Content::Directory(page));
    }

    /// The run of the pages of `depth`, taken if there is none.
    fn level(&mut self, dir: InodeNo, depth: u8) -> Result<Run, Stop> {
        if let Some(run) = self.inode(dir)?.run(depth as usize) {
            return Ok(run);
        }
        let run = self.take_run(depth)?;
        let inode = self.inode_mut(dir)?;
        if let Body::Runs(runs) = &mut inode.body {
            runs[depth as usize] = Some(run);
        }
        inode.blocks += PAGE / 512;
        Ok(run)
    }

    /// Removes `name`, which is there, from `dir`.
    pub(crate) fn remove(&mut self, dir: InodeNo, name: &[u8]) -> Result<(), Stop> {
        let hash = self.hash(name);
        let (_, at) = self.leaf(dir, hash)?.ok_or(Error::NotFound)?;
        if !self.directory_mut(at, dir.lock())?.remove(hash, name) {
            return Err(Error::NotFound.into());
        }
        let inode = self.inode_mut(dir)?;
        inode.size = inode.size.saturating_sub(1);
        Ok(())
    }

    /// Lets `name`, which is there, lead to another inode.
    pub(crate) fn point(
        &mut self,
        dir: InodeNo,
        name: &[u8],
        ino: InodeNo,
        kind: FileType,
    ) -> Result<(), Stop> {
        let hash = self.hash(name);
        let (_, at) = self.leaf(dir, hash)?.ok_or(Error::NotFound)?;
        if self.directory_mut(at, dir.lock())?.replace(hash, name, ino, kind) {
            Ok(())
        } else {
            Err(Error::NotFound.into())
        }
    }

    /// Up to `max` names of `dir` whose stored hash is `from` or larger.
    pub(crate) fn list(
        &mut self,
        dir: InodeNo,
        from: NameHash,
        max: usize,
    ) -> Result<Vec<Listed>, Stop> {
        let mut all = Vec::new();
        let mut from = from;
        while all.len() < max {
            let Some((depth, at)) = self.leaf(dir, from)? else { break };
            let page = self.directory(at, dir.lock())?;
            all.extend(page.entries_from(from).take(max - all.len()).map(|entry| Listed {
                hash: entry.hash,
                ino: entry.inode,
                kind: entry.kind,
                name: Bytes::copy_from_slice(entry.name),
            }));
            let last = NameHash::last_of(depth, from.prefix(depth));
            if last == NameHash::LAST {
                break;
            }
            from = NameHash(last.0 + 1);
        }
        Ok(all)
    }
}

fn page_at(run: Run, page: u64) -> Offset {
    Offset(run.address().0 + page * PAGE)
}
