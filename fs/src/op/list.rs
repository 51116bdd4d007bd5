//! Listing directories, with attributes where they can be had cheaply.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use lockservice::{Mode, Name, Span};

use super::kind_of;
use crate::{
    attributes::{DirEntry, Entry, InodeNo, Kind},
    error::Error,
    fs::Fs,
    layout::{hash::NameHash, inode::FileType},
    tx::Stop,
};

/// Inodes that lie so near to each other are locked together, those between them, too.
const NEAR: u64 = 32;
/// Stretches shorter than this are left to the look-ups that follow.
const FEW: u64 = 4;
/// How long a listing waits for attributes.
const PATIENCE: Duration = Duration::from_secs(5);

/// Cookies of `.` and `..`; hashes are larger.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

impl Fs {
    /// Up to `max` entries after `cookie` (0: from the start, `.` and `..` first), in a stable
    /// order; with `plus` also the attributes that can be had without waiting for other mounts
    /// (each of which counts as a reference, see [`Fs::forget`]; `.` and `..` never have them).
    /// Nothing means the end.
    ///
    /// # Errors
    /// [`Error::NotDirectory`].
    pub async fn readdir(
        &self,
        ino: InodeNo,
        cookie: u64,
        max: usize,
        plus: bool,
    ) -> Result<Vec<DirEntry>, Error> {
        let mut entries = self.names(ino, cookie, max).await?;
        if plus {
            self.add_attributes(&mut entries).await?;
        }
        Ok(entries)
    }

    async fn names(&self, ino: InodeNo, cookie: u64, max: usize) -> Result<Vec<DirEntry>, Error> {
        self.run(|tx| {
            let inode = tx.live(ino)?;
            if inode.file_type() != Some(FileType::Directory) {
                return Err(Error::NotDirectory.into());
            }
            let parent = inode.parent;
            let mut all = Vec::new();
            for (at, ino, name) in [(DOT, ino, "."), (DOT_DOT, parent, "..")] {
                if cookie < at && all.len() < max {
                    let name = Bytes::from_static(name.as_bytes());
                    let kind = Kind::Directory;
                    all.push(DirEntry { ino, kind, name, cookie: at, entry: None });
                }
            }
            if all.len() < max && cookie < NameHash::LAST.0 {
                let from = NameHash(cookie.max(DOT_DOT) + 1);
                let listed = tx.list(ino, from, max - all.len())?;
                all.extend(listed.into_iter().map(|entry| DirEntry {
                    ino: entry.ino,
                    kind: kind_of(entry.kind),
                    name: entry.name,
                    cookie: entry.hash.0,
                    entry: None,
                }));
            }
            Ok(all)
        })
        .await
    }

    /// Locks that are missing are asked for in one message that waits for nobody; inodes that are
    /// missing in memory are read together.
    async fn add_attributes(&self, entries: &mut [DirEntry]) -> Result<(), Error> {
        let inos: Vec<InodeNo> =
            entries.iter().filter(|e| e.cookie > DOT_DOT).map(|e| e.ino).collect();
        let unheld: Vec<Name> = inos
            .iter()
            .map(|ino| ino.lock())
            .filter(|lock| self.locks.held(*lock, Mode::Shared).is_none())
            .collect();
        if !unheld.is_empty() {
            self.ask_for(unheld).await?;
        }
        let mut found = self.present(&inos).await?;
        if found.len() < inos.len() {
            let missing: Vec<InodeNo> =
                inos.iter().filter(|ino| !found.contains_key(ino)).copied().collect();
            self.load_inodes(missing).await?;
            found = self.present(&inos).await?;
        }
        for entry in entries.iter_mut().filter(|entry| entry.cookie > DOT_DOT) {
            entry.entry = found.get(&entry.ino).copied();
        }
        let listed: Vec<InodeNo> =
            entries.iter().filter(|e| e.entry.is_some()).map(|e| e.ino).collect();
        let mut state = self.state.lock();
        for ino in listed {
            *state.lookups.entry(ino).or_default() += 1;
        }
        Ok(())
    }

    /// Asks for the shared locks of many inodes: in one message for what is free; and for what
    /// another mount holds, because it made these files, in one request for each stretch, so that
    /// it flushes once and not once a file. Who does not get them gets no attributes.
    async fn ask_for(&self, unheld: Vec<Name>) -> Result<(), Error> {
        self.locks.hint(&unheld, Mode::Shared).await?;
        let mut missing: Vec<Name> = unheld
            .into_iter()
            .filter(|lock| self.locks.held(*lock, Mode::Shared).is_none())
            .collect();
        missing.sort_unstable();
        let mut stretches: Vec<(Name, Name)> = Vec::new();
        for name in missing {
            match stretches.last_mut() {
                Some((_, last)) if name.0 - last.0 <= NEAR => *last = name,
                _ => stretches.push((name, name)),
            }
        }
        for (first, last) in stretches {
            if first.0 + FEW > last.0 {
                continue;
            }
            let Some(span) = Span::new(first, Name(last.0 + 1)) else { continue };
            let deadline = self.world.clock.now() + PATIENCE;
            // Without them the kernel asks again, name by name.
            if let Ok(Ok(pin)) =
                self.world.until(deadline, self.locks.acquire(span, span, Mode::Shared)).await
            {
                self.state.lock().gates.lift(pin.held.span, pin.held.mode);
            }
        }
        Ok(())
    }

    /// The attributes of those of `inos` that are in memory and locked.
    async fn present(&self, inos: &[InodeNo]) -> Result<BTreeMap<InodeNo, Entry>, Error> {
        let mut found = BTreeMap::new();
        // Some at a time: the mutex is held for one batch only.
        for some in inos.chunks(128) {
            let batch = self
                .run(|tx| {
                    let valid_until = self.valid_until();
                    let mut batch = Vec::new();
                    for ino in some {
                        match tx.entry(*ino, valid_until) {
                            Ok(entry) => batch.push(entry),
                            Err(Stop::Need(_) | Stop::Fail(Error::Stale)) => {}
                            Err(stop) => return Err(stop),
                        }
                    }
                    Ok(batch)
                })
                .await?;
            found.extend(batch.into_iter().map(|entry| (entry.attributes.ino, entry)));
        }
        Ok(found)
    }
}
