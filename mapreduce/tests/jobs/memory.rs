//! Files in memory, with reads that can be made to fail or to wait.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use bytes::Bytes;
use fs::{InodeNo, Kind};
use mapreduce::{Files, Line, Stat};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

#[derive(Default)]
struct State {
    /// Path to inode; directories have no content.
    paths: BTreeMap<String, InodeNo>,
    content: BTreeMap<InodeNo, Vec<u8>>,
    synced: BTreeMap<InodeNo, bool>,
    /// The machines that keep files, as far as that makes a difference.
    kept: BTreeMap<InodeNo, String>,
    /// Files made and names given, in order.
    log: Vec<String>,
    next: u64,
}

pub(crate) struct Memory {
    state: Mutex<State>,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let state = State { next: 10, ..State::default() };
        let memory = Self { state: Mutex::new(state) };
        memory.state.lock().paths.insert(String::new(), InodeNo(1));
        memory
    }

    pub(crate) fn put(&self, path: &str, content: &[u8]) {
        let mut state = self.state.lock();
        let mut above = String::new();
        let (parent, _) = path.rsplit_once('/').expect("an absolute path");
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            above = format!("{above}/{part}");
            state.make(&above);
        }
        let ino = state.make(path);
        state.content.insert(ino, content.to_vec());
    }

    pub(crate) fn get(&self, path: &str) -> Option<Vec<u8>> {
        let state = self.state.lock();
        state.content.get(state.paths.get(path)?).cloned()
    }

    pub(crate) fn is_synced(&self, path: &str) -> bool {
        let state = self.state.lock();
        state.paths.get(path).and_then(|ino| state.synced.get(ino)).copied().unwrap_or(false)
    }

    /// Files made and names given, in order.
    pub(crate) fn log(&self) -> Vec<String> {
        self.state.lock().log.clone()
    }

    /// Takes away what was written from `offset` on.
    pub(crate) fn cut(&self, ino: InodeNo, offset: u64) {
        if let Some(content) = self.state.lock().content.get_mut(&ino) {
            content.truncate(offset as usize);
        }
    }

    /// The file is kept on one machine.
    pub(crate) fn keep(&self, path: &str, host: &str) {
        let ino = self.named(path).unwrap();
        self.state.lock().kept.insert(ino, host.to_owned());
    }

    /// What a name leads to.
    pub(crate) fn named(&self, path: &str) -> Option<InodeNo> {
        self.state.lock().paths.get(path).copied()
    }

    /// Gives an inode its name again.
    pub(crate) fn name(&self, path: &str, ino: InodeNo) {
        self.state.lock().paths.insert(path.to_owned(), ino);
    }

    fn is_input(&self, ino: InodeNo) -> bool {
        let state = self.state.lock();
        state.paths.iter().any(|(path, known)| *known == ino && path.starts_with("/in/"))
    }

    pub(crate) fn below(&self, path: &str) -> Vec<String> {
        let state = self.state.lock();
        let prefix = format!("{path}/");
        state
            .paths
            .keys()
            .filter_map(|path| path.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }
}

impl State {
    fn make(&mut self, path: &str) -> InodeNo {
        let next = &mut self.next;
        *self.paths.entry(path.to_owned()).or_insert_with(|| {
            *next += 1;
            InodeNo(*next)
        })
    }

    fn stat(&self, ino: InodeNo) -> Stat {
        match self.content.get(&ino) {
            Some(content) => Stat { ino, kind: Kind::File, size: content.len() as u64 },
            None => Stat { ino, kind: Kind::Directory, size: 0 },
        }
    }
}

#[async_trait]
impl Files for Memory {
    async fn stat(&self, path: &str) -> Result<Option<Stat>, fs::Error> {
        let state = self.state.lock();
        Ok(state.paths.get(path.trim_end_matches('/')).map(|ino| state.stat(*ino)))
    }

    async fn list(&self, directory: InodeNo) -> Result<Vec<Line>, fs::Error> {
        let state = self.state.lock();
        let found = state.paths.iter().find(|(_, ino)| **ino == directory);
        let prefix = format!("{}/", found.ok_or(fs::Error::NotFound)?.0);
        let names = state.paths.iter().filter_map(|(path, ino)| {
            let name = path.strip_prefix(&prefix).filter(|name| !name.contains('/'))?;
            Some(Line { name: Bytes::copy_from_slice(name.as_bytes()), stat: state.stat(*ino) })
        });
        Ok(names.collect())
    }

    async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, fs::Error> {
        let state = self.state.lock();
        let content = state.content.get(&ino).ok_or(fs::Error::Stale)?;
        let from = (offset as usize).min(content.len());
        let to = (from + length as usize).min(content.len());
        Ok(content[from..to].chunks(100_000).map(Bytes::copy_from_slice).collect())
    }

    async fn make_directories(&self, path: &str) -> Result<(), fs::Error> {
        let mut state = self.state.lock();
        let mut above = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            above = format!("{above}/{part}");
            state.make(&above);
        }
        Ok(())
    }

    async fn create(&self, path: &str) -> Result<InodeNo, fs::Error> {
        let mut state = self.state.lock();
        let (parent, _) = path.rsplit_once('/').ok_or(fs::Error::Invalid)?;
        if !state.paths.contains_key(parent) {
            return Err(fs::Error::NotFound);
        }
        let ino = state.make(path);
        state.content.insert(ino, Vec::new());
        state.log.push(format!("create {path}"));
        Ok(ino)
    }

    async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), fs::Error> {
        let mut state = self.state.lock();
        state.synced.insert(ino, false);
        let content = state.content.get_mut(&ino).ok_or(fs::Error::Stale)?;
        assert_eq!(content.len() as u64, offset, "written in order");
        content.extend_from_slice(&data);
        Ok(())
    }

    async fn sync(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.finish(ino).await
    }

    async fn finish(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.state.lock().synced.insert(ino, true);
        Ok(())
    }

    async fn rename(&self, from: &str, to: &str) -> Result<(), fs::Error> {
        let mut state = self.state.lock();
        let ino = state.paths.remove(from).ok_or(fs::Error::NotFound)?;
        state.paths.insert(to.to_owned(), ino);
        let prefix = format!("{from}/");
        let is_below = |path: &String| path.starts_with(&prefix);
        let below: Vec<_> = state.paths.keys().filter(|path| is_below(path)).cloned().collect();
        for path in below {
            let moved = format!("{to}/{}", &path[prefix.len()..]);
            if let Some(ino) = state.paths.remove(&path) {
                state.paths.insert(moved, ino);
            }
        }
        state.log.push(format!("rename {from} to {to}"));
        Ok(())
    }

    async fn remove(&self, path: &str) -> Result<(), fs::Error> {
        let prefix = format!("{path}/");
        self.state.lock().paths.retain(|known, _| known != path && !known.starts_with(&prefix));
        Ok(())
    }

    async fn settle(&self) -> Result<(), fs::Error> {
        Ok(())
    }

    async fn hosts(
        &self,
        ino: InodeNo,
        _offset: u64,
        length: u64,
    ) -> Result<BTreeMap<String, u64>, fs::Error> {
        let kept = self.state.lock().kept.get(&ino).cloned();
        Ok(kept.into_iter().map(|host| (host, length)).collect())
    }
}

/// The same files through another client, whose reads of input can fail or stop.
pub(crate) struct Through {
    pub(crate) files: std::sync::Arc<Memory>,
    pub(crate) broken: AtomicBool,
    pub(crate) reads: AtomicU64,
    /// Reads wait for a permit once this many were made.
    pub(crate) stop_after: u64,
    pub(crate) gate: Semaphore,
}

impl Through {
    pub(crate) fn new(files: &std::sync::Arc<Memory>) -> Self {
        Self {
            files: files.clone(),
            broken: false.into(),
            reads: 0.into(),
            stop_after: u64::MAX,
            gate: Semaphore::new(0),
        }
    }
}

#[async_trait]
impl Files for Through {
    async fn stat(&self, path: &str) -> Result<Option<Stat>, fs::Error> {
        self.files.stat(path).await
    }
    async fn list(&self, directory: InodeNo) -> Result<Vec<Line>, fs::Error> {
        self.files.list(directory).await
    }
    async fn read(&self, ino: InodeNo, offset: u64, length: u64) -> Result<Vec<Bytes>, fs::Error> {
        if self.files.is_input(ino) && self.reads.fetch_add(1, Ordering::SeqCst) >= self.stop_after
        {
            self.gate.acquire().await.map_err(|_| fs::Error::Expired)?.forget();
        }
        if self.broken.load(Ordering::SeqCst) && self.files.is_input(ino) {
            return Err(fs::Error::Late("the test"));
        }
        self.files.read(ino, offset, length).await
    }
    async fn make_directories(&self, path: &str) -> Result<(), fs::Error> {
        self.files.make_directories(path).await
    }
    async fn create(&self, path: &str) -> Result<InodeNo, fs::Error> {
        self.files.create(path).await
    }
    async fn write(&self, ino: InodeNo, offset: u64, data: Bytes) -> Result<(), fs::Error> {
        self.files.write(ino, offset, data).await
    }
    async fn sync(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.files.sync(ino).await
    }
    async fn finish(&self, ino: InodeNo) -> Result<(), fs::Error> {
        self.files.finish(ino).await
    }
    async fn rename(&self, from: &str, to: &str) -> Result<(), fs::Error> {
        self.files.rename(from, to).await
    }
    async fn remove(&self, path: &str) -> Result<(), fs::Error> {
        self.files.remove(path).await
    }
    async fn settle(&self) -> Result<(), fs::Error> {
        self.files.settle().await
    }
}
