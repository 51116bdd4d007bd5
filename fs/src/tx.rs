//! One attempt at an operation: a view of the state that asks for locks before every use, says
//! what is missing, and collects changes that are made all together or not at all.

use blockstore::Offset;
use bytes::Bytes;
use lockservice::{Mode, Name};
use world::Wall;

use crate::{
    cache::Key,
    error::Error,
    fs::Fs,
    layout::{
        Damaged,
        bitmap::Bitmap,
        dirpage::DirPage,
        geometry::{InodeNo, LOCK_INODES, Run, Use},
        inode::{Inode, Stamp},
        text::TextPage,
    },
    state::{Content, State},
};

/// What an attempt is missing. The driver provides it and tries again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// A lock.
    Lock(Name, Mode),
    /// An inode in memory.
    Inode(InodeNo),
    /// A metadata page in memory: where, under which lock, of which kind.
    Page(Offset, Name, PageKind),
    /// File pages in memory: the first, how many.
    Data(InodeNo, u64, u64),
    /// No write-back of this inode under way.
    Quiet(InodeNo),
    /// The data of this inode on the disk.
    Clean(InodeNo),
    /// Room in the cache.
    Room,
    /// So many bytes of space on the disk.
    Space(u64),
    /// Room for changes: push the log.
    Push,
    /// A segment to take inodes from.
    InodeSegment,
    /// A segment to take runs from.
    SpaceSegment,
}

/// What a metadata page holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageKind {
    Directory,
    Map,
    Text,
}

/// Why an attempt did not come to its end.
#[derive(Debug)]
pub(crate) enum Stop {
    Need(Need),
    Fail(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Fail(error)
    }
}

impl From<Need> for Stop {
    fn from(need: Need) -> Self {
        Self::Need(need)
    }
}

impl From<Damaged> for Stop {
    fn from(damaged: Damaged) -> Self {
        Self::Fail(Error::Damaged(damaged.0.to_owned()))
    }
}

/// What happens besides when the attempt succeeds.
#[derive(Clone, Copy)]
pub(crate) enum After {
    /// An inode lost its last name.
    Nameless(InodeNo),
    /// An inode was freed: nothing of it stays in memory but the inode itself.
    Freed(InodeNo),
    /// Runs past the end of this file can be given back.
    Trim(InodeNo),
    /// A file got a name before it was written back.
    Renamed(InodeNo),
    /// The kernel got a reference.
    Referenced(InodeNo),
    /// An open handle more.
    Opened(InodeNo),
    /// The bit of a reserved run was set.
    Unreserve(Offset, u32),
    /// A run of metadata was freed: its pages are nobody's any more.
    Unpaged(Run),
}

/// Changed bytes that wait for a push before operations must wait, too: a transaction must fit in
/// one record of the log.
pub(crate) const MAX_CHANGED: u64 = 3 << 20;

/// Who attempts, and which gates he passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    /// An operation: none.
    Operation,
    /// A read or write of a file: those that are still open.
    Io,
    /// The plan of a write-back, which a revocation may wait for: those of inodes.
    Plan,
    /// The end of a write-back: all, for the revocation waits for it.
    Finish,
}

/// An attempt.
pub(crate) struct Tx<'a> {
    pub fs: &'a Fs,
    pub state: &'a mut State,
    pub used: Vec<(Name, Mode)>,
    pub after: Vec<After>,
    inodes: Vec<(InodeNo, Inode, bool)>,
    pages: Vec<(Offset, Name, Content, bool)>,
    now: Option<Wall>,
    access: Access,
    /// Runs reserved in this attempt, and where to look next.
    pub reserving: Vec<(Offset, u32)>,
    pub hints: Vec<((Use, u8), u32)>,
}

impl<'a> Tx<'a> {
    pub(crate) fn new(fs: &'a Fs, state: &'a mut State, access: Access) -> Self {
        Self {
            fs,
            state,
            used: Vec::new(),
            after: Vec::new(),
            inodes: Vec::new(),
            pages: Vec::new(),
            now: None,
            access,
            reserving: Vec::new(),
            hints: Vec::new(),
        }
    }

    /// The wall time of this attempt.
    pub(crate) fn now(&mut self) -> Stamp {
        let now = *self.now.get_or_insert_with(|| self.fs.world.clock.wall());
        Stamp { seconds: now.seconds, nanos: now.nanos }
    }

    /// Whether `name` may be used in `mode` right now.
    pub(crate) fn is_held(&mut self, name: Name, mode: Mode) -> bool {
        let gates = &mut self.state.gates;
        let shut = match self.access {
            Access::Operation => gates.shut(name, mode, false),
            Access::Io => {
                let shut = gates.shut(name, mode, true);
                if !shut {
                    gates.pass(name);
                }
                shut
            }
            Access::Plan => name.kind() != LOCK_INODES && gates.shut(name, mode, false),
            Access::Finish => false,
        };
        !shut && self.fs.locks.held(name, mode).is_some()
    }

    /// `name` is held in `mode`, or the attempt stops here.
    pub(crate) fn hold(&mut self, name: Name, mode: Mode) -> Result<(), Stop> {
        if self.used.iter().any(|(used, how)| *used == name && *how >= mode) {
            return Ok(());
        }
        self.used.push((name, mode));
        if self.is_held(name, mode) { Ok(()) } else { Err(Need::Lock(name, mode).into()) }
    }

    /// The inode, free or not.
    pub(crate) fn inode(&mut self, ino: InodeNo) -> Result<&Inode, Stop> {
        self.hold(ino.lock(), Mode::Shared)?;
        if let Some(i) = self.inodes.iter().position(|(no, ..)| *no == ino) {
            return Ok(&self.inodes[i].1);
        }
        self.fetch_inode(ino)?;
        Ok(&self.state.inodes[&ino].inode)
    }

    /// The inode, which must not be free.
    pub(crate) fn live(&mut self, ino: InodeNo) -> Result<&Inode, Stop> {
        if !ino.is_valid() {
            return Err(Error::Stale.into());
        }
        let inode = self.inode(ino)?;
        if inode.is_free() { Err(Error::Stale.into()) } else { Ok(inode) }
    }

    /// The inode, to be changed.
    pub(crate) fn inode_mut(&mut self, ino: InodeNo) -> Result<&mut Inode, Stop> {
        self.changing()?;
        self.hold(ino.lock(), Mode::Exclusive)?;
        if let Some(i) = self.inodes.iter().position(|(no, ..)| *no == ino) {
            return Ok(&mut self.inodes[i].1);
        }
        self.fetch_inode(ino)?;
        let inode = self.state.inodes[&ino].inode.clone();
        self.inodes.push((ino, inode, false));
        Ok(&mut self.inodes.last_mut().expect("just pushed").1)
    }

    /// Makes `inode` the new inode `ino`, unread.
    pub(crate) fn fresh_inode(&mut self, ino: InodeNo, inode: Inode) -> Result<(), Stop> {
        self.changing()?;
        self.hold(ino.lock(), Mode::Exclusive)?;
        self.inodes.push((ino, inode, true));
        Ok(())
    }

    /// A page of a directory under `lock`.
    pub(crate) fn directory(&mut self, at: Offset, lock: Name) -> Result<&DirPage, Stop> {
        match self.page(at, lock, PageKind::Directory)? {
            Content::Directory(page) => Ok(page),
            _ => Err(Error::Damaged("something else where a directory is".into()).into()),
        }
    }

    /// A page of a directory under `lock`, to be changed.
    pub(crate) fn directory_mut(&mut self, at: Offset, lock: Name) -> Result<&mut DirPage, Stop> {
        match self.page_mut(at, lock, PageKind::Directory)? {
            Content::Directory(page) => Ok(page),
            _ => Err(Error::Damaged("something else where a directory is".into()).into()),
        }
    }

    /// A bitmap under `lock`.
    pub(crate) fn map(&mut self, at: Offset, lock: Name) -> Result<&Bitmap, Stop> {
        match self.page(at, lock, PageKind::Map)? {
            Content::Map(map) => Ok(map),
            _ => Err(Error::Damaged("no bitmap where one is".into()).into()),
        }
    }

    /// A bitmap under `lock`, to be changed.
    pub(crate) fn map_mut(&mut self, at: Offset, lock: Name) -> Result<&mut Bitmap, Stop> {
        match self.page_mut(at, lock, PageKind::Map)? {
            Content::Map(map) => Ok(map),
            _ => Err(Error::Damaged("no bitmap where one is".into()).into()),
        }
    }

    /// A page of text under `lock`.
    pub(crate) fn text(&mut self, at: Offset, lock: Name) -> Result<&TextPage, Stop> {
        match self.page(at, lock, PageKind::Text)? {
            Content::Text(page) => Ok(page),
            _ => Err(Error::Damaged("no text where one is".into()).into()),
        }
    }

    /// A page of text under `lock`, to be changed.
    pub(crate) fn text_mut(&mut self, at: Offset, lock: Name) -> Result<&mut TextPage, Stop> {
        match self.page_mut(at, lock, PageKind::Text)? {
            Content::Text(page) => Ok(page),
            _ => Err(Error::Damaged("no text where one is".into()).into()),
        }
    }

    /// Makes `content` the page at `at`, unread.
    pub(crate) fn fresh(&mut self, at: Offset, lock: Name, content: Content) {
        self.pages.push((at, lock, content, true));
    }

    fn page(&mut self, at: Offset, lock: Name, kind: PageKind) -> Result<&Content, Stop> {
        self.hold(lock, Mode::Shared)?;
        if let Some(i) = self.pages.iter().position(|(no, ..)| *no == at) {
            return Ok(&self.pages[i].2);
        }
        self.fetch_page(at, lock, kind)?;
        Ok(&self.state.pages[&at].content)
    }

    fn page_mut(&mut self, at: Offset, lock: Name, kind: PageKind) -> Result<&mut Content, Stop> {
        self.changing()?;
        self.hold(lock, Mode::Exclusive)?;
        if let Some(i) = self.pages.iter().position(|(no, ..)| *no == at) {
            return Ok(&mut self.pages[i].2);
        }
        self.fetch_page(at, lock, kind)?;
        let content = self.state.pages[&at].content.clone();
        self.pages.push((at, lock, content, false));
        Ok(&mut self.pages.last_mut().expect("just pushed").2)
    }

    /// Changes are possible at all and have room, or the attempt stops here.
    pub(crate) fn changing(&self) -> Result<(), Stop> {
        if self.fs.config.read_only {
            return Err(Error::ReadOnly.into());
        }
        if self.state.changed_bytes > MAX_CHANGED {
            return Err(Need::Push.into());
        }
        Ok(())
    }

    fn fetch_inode(&mut self, ino: InodeNo) -> Result<(), Stop> {
        if let Some(slot) = self.state.inodes.get_mut(&ino) {
            slot.touched = true;
            return Ok(());
        }
        let Some(image) = self.state.in_log(ino.address()) else {
            return Err(Need::Inode(ino).into());
        };
        let inode = Inode::decode(image)?.ok_or(Damaged("an inode in the log is blank"))?;
        self.state.add_inode(ino, inode, false);
        Ok(())
    }

    fn fetch_page(&mut self, at: Offset, lock: Name, kind: PageKind) -> Result<(), Stop> {
        if let Some(page) = self.state.pages.get_mut(&at) {
            page.touched = true;
            return Ok(());
        }
        let Some(image) = self.state.in_log(at) else {
            return Err(Need::Page(at, lock, kind).into());
        };
        let content = decode_page(image, kind)?;
        if let Some(ino) = InodeNo::of_lock(lock) {
            self.inode(ino)?;
        }
        if self.state.add_page(at, content, lock) {
            Ok(())
        } else {
            Err(Need::Page(at, lock, kind).into())
        }
    }

    /// Makes all changes.
    pub(crate) fn commit(self) {
        let state = self.state;
        for (ino, inode, fresh) in self.inodes {
            match state.inodes.get_mut(&ino) {
                Some(slot) => {
                    slot.inode = inode;
                    if fresh {
                        slot.ragged = false;
                        slot.size = slot.inode.size;
                    } else if !slot.has_data() {
                        slot.size = slot.inode.size;
                    }
                    slot.touched = true;
                }
                None => {
                    state.add_inode(ino, inode, fresh);
                }
            }
            state.inode_changed(ino);
        }
        for (at, lock, content, fresh) in self.pages {
            let base = match state.pages.get_mut(&at) {
                Some(page) => {
                    let old = std::mem::replace(&mut page.content, content);
                    if fresh {
                        page.base = None;
                    }
                    (!fresh).then_some(old)
                }
                None => {
                    state.add_page(at, content, lock);
                    None
                }
            };
            state.page_changed(at, base);
        }
        state.segments.reserved.extend(self.reserving);
        state.segments.run_hints.extend(self.hints);
        for after in self.after {
            Self::finish(self.fs, state, after);
        }
    }

    fn finish(fs: &Fs, state: &mut State, after: After) {
        match after {
            After::Nameless(ino) => {
                if state.opens.contains_key(&ino) {
                    state.nameless.insert(ino);
                } else {
                    state.orphans.insert(ino);
                    if fs.is_sole(ino) {
                        state.drop_data(ino);
                    }
                }
            }
            After::Freed(ino) => {
                state.orphans.remove(&ino);
                state.trims.remove(&ino);
                state.drop_data(ino);
            }
            After::Trim(ino) => {
                state.trims.insert(ino);
            }
            After::Renamed(ino) => {
                state.renamed.insert(ino);
            }
            After::Referenced(ino) => *state.lookups.entry(ino).or_default() += 1,
            After::Opened(ino) => *state.opens.entry(ino).or_default() += 1,
            After::Unpaged(run) => {
                state.drop_pages(run.address(), Offset(run.address().0 + run.bytes()));
            }
            After::Unreserve(at, bit) => {
                state.segments.reserved.remove(&(at, bit));
            }
        }
    }
}

impl State {
    /// Forgets the data of a file that nobody will read again, written back or not.
    pub(crate) fn drop_data(&mut self, ino: InodeNo) {
        let Some(slot) = self.inodes.get_mut(&ino) else { return };
        let delta = slot.data.clear();
        slot.size = slot.inode.size;
        if let Some(number) = slot.dirty.take() {
            self.dirty.remove(&number);
        }
        self.account(delta);
    }

    /// Puts a file page that the disk gave into memory.
    pub(crate) fn put_loaded(&mut self, ino: InodeNo, page: u64, bytes: Bytes) {
        let key = self.number();
        let Some(slot) = self.inodes.get_mut(&ino) else { return };
        if let Some(delta) = slot.data.put_loaded(page, bytes, key) {
            self.clock.push_back(Key::Data(ino, page, key));
            self.account(delta);
        }
    }
}

/// The content of a page that the disk or the log gave.
pub(crate) fn decode_page(bytes: &[u8], kind: PageKind) -> Result<Content, Damaged> {
    Ok(match kind {
        PageKind::Directory => Content::Directory(DirPage::decode(bytes)?),
        PageKind::Map => Content::Map(Bitmap::decode(bytes)?),
        PageKind::Text => Content::Text(TextPage::decode(bytes)?),
    })
}
