//! A virtual disk in memory, for tests of what is built on top of one: sessions with fences, a
//! power loss that keeps only what was flushed and a random part of the rest, a connection that
//! breaks after so many requests.
//!
//! It promises no more than [`VirtualDisk`] does: a flush covers what its own session wrote and
//! nothing else, so code that leans on another session's flush fails here. Not for real data.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;

use crate::{
    disk::{CHUNK, Durability, Fence, Offset, PAGE, SECTOR, Space, SpaceAsk, Traffic, VirtualDisk},
    error::Error,
};

/// The bytes of a page; `None` reads as zeros.
type Image = Option<Arc<[u8]>>;

/// Unflushed states of a page that are remembered for [`MemoryDisk::crash`]; older ones are
/// forgotten, newest kept, so that a test that never flushes does not eat the machine.
const STATES: usize = 4;

/// A disk in memory; clones share it. [`MemoryDisk::open`] gives handles for sessions.
#[derive(Clone, Default)]
pub struct MemoryDisk {
    shared: Arc<Mutex<Platter>>,
}

/// A [`MemoryDisk`] opened for one session.
pub struct MemorySession {
    shared: Arc<Mutex<Platter>>,
    session: Fence,
    traffic: Mutex<Traffic>,
}

/// What all sessions share.
#[derive(Default)]
struct Platter {
    pages: BTreeMap<u64, Page>,
    fenced: BTreeSet<Fence>,
    /// Pages that a session wrote and did not flush since.
    dirty: BTreeMap<Fence, BTreeSet<u64>>,
    /// Mutating requests that are still let through, if the connection is going to break.
    allowance: Option<u64>,
    /// Bytes that the disk holds at most, if it is bounded.
    capacity: Option<u64>,
    /// Space that sessions were granted.
    grants: BTreeMap<Fence, u64>,
}

/// A page: what a power loss keeps, and the states since then, in order.
#[derive(Default)]
struct Page {
    flushed: Image,
    since: Vec<Image>,
}

impl Page {
    fn newest(&self) -> &Image {
        self.since.last().unwrap_or(&self.flushed)
    }

    fn push(&mut self, image: Image) {
        if self.since.len() == STATES {
            self.since.remove(0);
        }
        self.since.push(image);
    }

    fn flush(&mut self) {
        if let Some(newest) = self.since.pop() {
            self.flushed = newest;
            self.since.clear();
        }
    }

    fn is_void(&self) -> bool {
        self.flushed.is_none() && self.since.is_empty()
    }
}

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk that holds at most `bytes`; a write that needs more is [`Error::NoSpace`].
    #[must_use]
    pub fn with_capacity(bytes: u64) -> Self {
        let disk = Self::default();
        disk.shared.lock().capacity = Some(bytes);
        disk
    }

    /// A handle for `session`. Several handles of one session share their unflushed writes.
    #[must_use]
    pub fn open(&self, session: Fence) -> Arc<MemorySession> {
        Arc::new(MemorySession {
            shared: Arc::clone(&self.shared),
            session,
            traffic: Mutex::default(),
        })
    }

    /// Power loss of all servers: every page goes back to its flushed state or to one of the
    /// states since, as `seed` decides, each page for itself (a page is never torn). Fences stay.
    /// A broken connection ([`MemoryDisk::break_after`]) works again.
    pub fn crash(&self, seed: u64) {
        let mut platter = self.shared.lock();
        let mut roll = Splitmix(seed);
        for page in platter.pages.values_mut() {
            let keep = roll.below(page.since.len() as u64 + 1) as usize;
            page.since.truncate(keep);
            page.flush();
        }
        platter.recovered();
    }

    /// Power loss that keeps nothing but what was flushed.
    pub fn crash_to_flushed(&self) {
        let mut platter = self.shared.lock();
        for page in platter.pages.values_mut() {
            page.since.clear();
        }
        platter.recovered();
    }

    /// Lets `requests` more writes, discards and flushes through; later ones change nothing and
    /// return [`Error::Stalled`], until [`MemoryDisk::mend`] or a crash. For cutting a workload
    /// at every step.
    pub fn break_after(&self, requests: u64) {
        self.shared.lock().allowance = Some(requests);
    }

    /// Ends [`MemoryDisk::break_after`].
    pub fn mend(&self) {
        self.shared.lock().allowance = None;
    }

    /// Fences `session` at once, as if another session had asked for it.
    pub fn fence(&self, session: Fence) {
        self.shared.lock().fenced.insert(session);
    }

    /// Bytes that the disk holds, in whole pages.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.shared.lock().used()
    }
}

impl Platter {
    fn recovered(&mut self) {
        self.pages.retain(|_, page| !page.is_void());
        self.dirty.clear();
        self.allowance = None;
    }

    fn space(&self) -> Space {
        let total = self.capacity.unwrap_or(1 << 40);
        Space { total, free: total.saturating_sub(self.used()) }
    }

    fn used(&self) -> u64 {
        self.pages.values().filter(|page| page.newest().is_some()).count() as u64 * PAGE
    }

    /// Whether `session` may change anything now; counts the request.
    fn admit(&mut self, session: Fence) -> Result<(), Error> {
        if self.fenced.contains(&session) {
            return Err(Error::Fenced(session.0));
        }
        match &mut self.allowance {
            Some(0) => Err(Error::Stalled { server: "memory".to_owned() }),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn write(&mut self, session: Fence, at: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let place = at + done as u64;
            let (number, from) = (place / PAGE, (place % PAGE) as usize);
            let length = (PAGE as usize - from).min(data.len() - done);
            let page = self.pages.entry(number).or_default();
            let mut image = match page.newest() {
                Some(bytes) => bytes.to_vec(),
                None => vec![0; PAGE as usize],
            };
            image[from..from + length].copy_from_slice(&data[done..done + length]);
            page.push(Some(image.into()));
            self.dirty.entry(session).or_default().insert(number);
            done += length;
        }
    }

    /// Flushes what `session` wrote to pages `from` up to, not including, `to`.
    fn flush(&mut self, session: Fence, from: u64, to: u64) {
        let Some(dirty) = self.dirty.get_mut(&session) else { return };
        let covered: Vec<u64> = dirty.range(from..to).copied().collect();
        for number in covered {
            dirty.remove(&number);
            if let Some(page) = self.pages.get_mut(&number) {
                page.flush();
                if page.is_void() {
                    self.pages.remove(&number);
                }
            }
        }
    }
}

impl MemorySession {
    /// The session that this handle writes for.
    #[must_use]
    pub fn session(&self) -> Fence {
        self.session
    }
}

/// Checks that a range is made of whole `unit`s inside the disk.
fn check(at: Offset, length: u64, unit: u64) -> Result<(), Error> {
    if !at.0.is_multiple_of(unit) || !length.is_multiple_of(unit) {
        return Err(Error::Invalid("offset and length must be whole sectors, or pages to discard"));
    }
    match at.0.checked_add(length) {
        Some(_) => Ok(()),
        None => Err(Error::Invalid("the range ends beyond the disk")),
    }
}

#[async_trait]
impl VirtualDisk for MemorySession {
    async fn read(&self, at: Offset, length: u64) -> Result<Bytes, Error> {
        check(at, length, SECTOR)?;
        {
            let mut traffic = self.traffic.lock();
            traffic.reads += 1;
            traffic.read_bytes += length;
        }
        let mut bytes = BytesMut::zeroed(length as usize);
        let platter = self.shared.lock();
        let first = at.0 / PAGE;
        let last = (at.0 + length).div_ceil(PAGE);
        for (number, page) in platter.pages.range(first..last) {
            let Some(image) = page.newest() else { continue };
            let start = (number * PAGE).max(at.0);
            let end = (number * PAGE + PAGE).min(at.0 + length);
            let from = (start - number * PAGE) as usize;
            let into = (start - at.0) as usize;
            let length = (end - start) as usize;
            bytes[into..into + length].copy_from_slice(&image[from..from + length]);
        }
        Ok(bytes.freeze())
    }

    async fn write(&self, at: Offset, data: Vec<Bytes>, when: Durability) -> Result<(), Error> {
        let length = data.iter().map(|piece| piece.len() as u64).sum();
        check(at, length, SECTOR)?;
        let mut platter = self.shared.lock();
        platter.admit(self.session)?;
        if let Some(capacity) = platter.capacity {
            let (first, last) = (at.0 / PAGE, (at.0 + length).div_ceil(PAGE));
            let there = platter
                .pages
                .range(first..last)
                .filter(|(_, page)| page.newest().is_some())
                .count() as u64;
            if platter.used() + (last - first - there) * PAGE > capacity {
                return Err(Error::NoSpace);
            }
        }
        // One copy into a contiguous buffer, so that pieces of odd lengths still change each page
        // once.
        let whole = data.concat();
        platter.write(self.session, at.0, &whole);
        if when == Durability::Now && length > 0 {
            let per_chunk = CHUNK / PAGE;
            let first = at.0 / CHUNK;
            let last = (at.0 + length - 1) / CHUNK;
            platter.flush(self.session, first * per_chunk, (last + 1) * per_chunk);
        }
        let mut traffic = self.traffic.lock();
        traffic.writes += 1;
        traffic.written_bytes += length;
        Ok(())
    }

    async fn discard(&self, at: Offset, length: u64) -> Result<(), Error> {
        check(at, length, PAGE)?;
        let mut platter = self.shared.lock();
        platter.admit(self.session)?;
        let (first, last) = (at.0 / PAGE, (at.0 + length) / PAGE);
        let Platter { pages, dirty, .. } = &mut *platter;
        let dirty = dirty.entry(self.session).or_default();
        for (number, page) in pages.range_mut(first..last) {
            if page.newest().is_some() {
                page.push(None);
                dirty.insert(*number);
            }
        }
        self.traffic.lock().discards += 1;
        Ok(())
    }

    async fn flush(&self) -> Result<(), Error> {
        let mut platter = self.shared.lock();
        platter.admit(self.session)?;
        platter.flush(self.session, 0, u64::MAX);
        self.traffic.lock().flushes += 1;
        Ok(())
    }

    async fn fence(&self, dead: Fence) -> Result<(), Error> {
        let mut platter = self.shared.lock();
        platter.fenced.insert(dead);
        platter.grants.remove(&dead);
        Ok(())
    }

    async fn space(&self) -> Result<Space, Error> {
        Ok(self.shared.lock().space())
    }

    async fn reserve(&self, ask: SpaceAsk) -> Result<u64, Error> {
        let mut platter = self.shared.lock();
        platter.admit(self.session)?;
        let had = platter.grants.remove(&self.session).unwrap_or(0);
        let others: u64 = platter.grants.values().sum();
        let share = ask.share(had, platter.space().grantable().saturating_sub(others));
        platter.grants.insert(self.session, share);
        Ok(share)
    }

    fn traffic(&self) -> Traffic {
        *self.traffic.lock()
    }
}

/// A small generator whose sequence depends on the seed only.
struct Splitmix(u64);

impl Splitmix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
