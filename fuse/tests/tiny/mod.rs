//! A file system in memory that is just large enough to be mounted and to be made difficult: one read
//! that waits until it is let go, one look-up that panics, one write that never ends.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::Duration,
};

use bytes::Bytes;
use fuse::{
    Attributes, Caller, DirEntry, Entry, Errno, FileSystem, Found, Ino, Kind, NewNode, OpenFlags,
    Opened, RenameFlags, Result, SetAttributes, Space, WriteHow,
};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use world::Wall;

/// How long the kernel may believe us: for ever, so that only invalidation can change its mind.
const VALID: Duration = Duration::from_secs(3600);

struct Node {
    attributes: Attributes,
    data: Vec<u8>,
    names: BTreeMap<Vec<u8>, Ino>,
}

pub(crate) struct Tiny {
    nodes: Mutex<BTreeMap<Ino, Node>>,
    pub(crate) gate: Semaphore,
    pub(crate) reads: AtomicU64,
    pub(crate) lookups: AtomicU64,
    pub(crate) omit_attributes: AtomicBool,
    /// Questions for attributes wait at the gate.
    pub(crate) slow_getattr: AtomicBool,
}

impl Tiny {
    pub(crate) fn new() -> Self {
        let tiny = Self {
            nodes: Mutex::default(),
            gate: Semaphore::new(0),
            reads: AtomicU64::new(0),
            lookups: AtomicU64::new(0),
            omit_attributes: false.into(),
            slow_getattr: false.into(),
        };
        tiny.nodes.lock().insert(Ino::ROOT, node(Ino::ROOT, Kind::Directory, 0o755));
        tiny
    }

    /// A change behind the kernel's back, as another machine would make it.
    pub(crate) fn put(&self, name: &str, data: &[u8]) -> Ino {
        let mut nodes = self.nodes.lock();
        let known = nodes[&Ino::ROOT].names.get(name.as_bytes()).copied();
        let ino = known.unwrap_or(Ino(nodes.len() as u64 + 1));
        let node = nodes.entry(ino).or_insert_with(|| node(ino, Kind::File, 0o644));
        node.data = data.to_vec();
        node.attributes.size = data.len() as u64;
        nodes.get_mut(&Ino::ROOT).unwrap().names.insert(name.as_bytes().to_vec(), ino);
        ino
    }

    pub(crate) fn take(&self, name: &str) {
        self.nodes.lock().get_mut(&Ino::ROOT).unwrap().names.remove(name.as_bytes());
    }

    fn with<T>(&self, ino: Ino, look: impl FnOnce(&mut Node) -> T) -> Result<T> {
        self.nodes.lock().get_mut(&ino).map(look).ok_or(Errno::NOENT)
    }

    fn entry(&self, ino: Ino) -> Result<Entry> {
        self.with(ino, |node| Entry {
            attributes: node.attributes,
            name_for: VALID,
            attributes_for: VALID,
        })
    }
}

fn node(ino: Ino, kind: Kind, mode: u16) -> Node {
    let now = Wall { seconds: 1_000_000, nanos: 5 };
    let attributes = Attributes {
        ino,
        generation: 0,
        kind,
        mode,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
    };
    Node { attributes, data: Vec::new(), names: BTreeMap::new() }
}

impl FileSystem for Tiny {
    async fn lookup(&self, parent: Ino, name: &[u8]) -> Result<Found> {
        self.lookups.fetch_add(1, Ordering::SeqCst);
        assert_ne!(name, b"panic", "as the test asked for");
        match self.with(parent, |node| node.names.get(name).copied())? {
            Some(ino) => self.entry(ino).map(Found::Entry),
            None => Ok(Found::Nothing(VALID)),
        }
    }

    fn forget(&self, _ino: Ino, _count: u64) {}

    async fn getattr(&self, ino: Ino) -> Result<(Attributes, Duration)> {
        if self.slow_getattr.load(Ordering::SeqCst) {
            self.gate.acquire().await.map_err(|_| Errno::IO)?.forget();
        }
        self.with(ino, |node| (node.attributes, VALID))
    }

    async fn setattr(
        &self,
        ino: Ino,
        _caller: Caller,
        set: SetAttributes,
    ) -> Result<(Attributes, Duration)> {
        self.with(ino, |node| {
            if let Some(size) = set.size {
                node.data.resize(size as usize, 0);
                node.attributes.size = size;
            }
            node.attributes.mode = set.mode.unwrap_or(node.attributes.mode);
            (node.attributes, VALID)
        })
    }

    async fn readlink(&self, ino: Ino) -> Result<Bytes> {
        self.with(ino, |node| Bytes::copy_from_slice(&node.data))
    }

    async fn make(&self, parent: Ino, name: &[u8], new: NewNode) -> Result<Entry> {
        let ino = {
            let mut nodes = self.nodes.lock();
            let ino = Ino(nodes.len() as u64 + 1);
            nodes.insert(ino, node(ino, new.kind, new.mode & !new.umask));
            nodes.get_mut(&parent).ok_or(Errno::NOENT)?.names.insert(name.to_vec(), ino);
            ino
        };
        self.entry(ino)
    }

    async fn create(
        &self,
        parent: Ino,
        name: &[u8],
        new: NewNode,
        flags: OpenFlags,
    ) -> Result<(Entry, Opened)> {
        let entry = self.make(parent, name, new).await?;
        Ok((entry, self.open(entry.attributes.ino, flags).await?))
    }

    async fn symlink(
        &self,
        parent: Ino,
        name: &[u8],
        target: &[u8],
        caller: Caller,
    ) -> Result<Entry> {
        let new = NewNode { kind: Kind::Symlink, mode: 0o777, umask: 0, rdev: 0, caller };
        let entry = self.make(parent, name, new).await?;
        self.with(entry.attributes.ino, |node| {
            node.data = target.to_vec();
            node.attributes.size = target.len() as u64;
        })?;
        self.entry(entry.attributes.ino)
    }

    async fn link(&self, ino: Ino, parent: Ino, name: &[u8]) -> Result<Entry> {
        self.with(parent, |node| node.names.insert(name.to_vec(), ino))?;
        self.with(ino, |node| node.attributes.links += 1)?;
        self.entry(ino)
    }

    async fn unlink(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.with(parent, |node| node.names.remove(name))?.map(|_| ()).ok_or(Errno::NOENT)
    }

    async fn rmdir(&self, parent: Ino, name: &[u8]) -> Result<()> {
        self.unlink(parent, name).await
    }

    async fn rename(
        &self,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        _flags: RenameFlags,
    ) -> Result<()> {
        let ino = self.with(from.0, |node| node.names.remove(from.1))?.ok_or(Errno::NOENT)?;
        self.with(to.0, |node| node.names.insert(to.1.to_vec(), ino)).map(|_| ())
    }

    async fn open(&self, _ino: Ino, _flags: OpenFlags) -> Result<Opened> {
        Ok(Opened { handle: 0, keep_cache: true, direct: false, skip_flush: true })
    }

    async fn release(&self, _ino: Ino, _handle: u64, _flags: OpenFlags) -> Result<()> {
        Ok(())
    }

    async fn read(&self, ino: Ino, _handle: u64, offset: u64, length: u32) -> Result<Vec<Bytes>> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let data = self.with(ino, |node| node.data.clone())?;
        if data.starts_with(b"slow") {
            self.gate.acquire().await.map_err(|_| Errno::IO)?.forget();
        }
        let from = (offset as usize).min(data.len());
        let to = (from + length as usize).min(data.len());
        // In two parts, as a cache of pages would give them.
        let middle = from + (to - from) / 2;
        Ok(vec![
            Bytes::copy_from_slice(&data[from..middle]),
            Bytes::copy_from_slice(&data[middle..to]),
        ])
    }

    async fn write(
        &self,
        ino: Ino,
        _handle: u64,
        offset: u64,
        bytes: Bytes,
        how: WriteHow,
    ) -> Result<u64> {
        if bytes.starts_with(b"never") {
            std::future::pending::<()>().await;
        }
        self.with(ino, |node| {
            let offset = if how.append { node.data.len() as u64 } else { offset };
            let end = offset as usize + bytes.len();
            node.data.resize(node.data.len().max(end), 0);
            node.data[offset as usize..end].copy_from_slice(&bytes);
            node.attributes.size = node.data.len() as u64;
            offset
        })
    }

    async fn flush(&self, _ino: Ino, _handle: u64) -> Result<()> {
        Ok(())
    }

    async fn fsync(&self, _ino: Ino, _data_only: bool) -> Result<()> {
        Ok(())
    }

    async fn opendir(&self, _ino: Ino) -> Result<Opened> {
        Ok(Opened { handle: 0, keep_cache: true, direct: false, skip_flush: false })
    }

    async fn readdir(
        &self,
        ino: Ino,
        cookie: u64,
        max: usize,
        attributes: bool,
    ) -> Result<Vec<DirEntry>> {
        let names = self.with(ino, |node| node.names.clone())?;
        let omit = self.omit_attributes.load(Ordering::SeqCst);
        let lines = names.iter().enumerate().skip(cookie as usize).take(max);
        lines
            .map(|(at, (name, ino))| {
                let entry = self.entry(*ino)?;
                Ok(DirEntry {
                    ino: *ino,
                    kind: entry.attributes.kind,
                    name: name.clone(),
                    cookie: at as u64 + 1,
                    entry: Some(entry).filter(|_| attributes && !(omit && at % 2 == 0)),
                })
            })
            .collect()
    }

    async fn releasedir(&self, _ino: Ino, _handle: u64) -> Result<()> {
        Ok(())
    }

    async fn fsyncdir(&self, _ino: Ino) -> Result<()> {
        Ok(())
    }

    async fn space(&self) -> Result<Space> {
        Ok(Space { block_size: 4096, blocks: 1000, free: 500, inodes: 100, free_inodes: 50 })
    }
}
