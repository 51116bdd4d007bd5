//! The virtual disk as its users see it: 2^64 bytes, sparse, replicated, checksummed. Who keeps
//! the bytes, and how many copies, is not visible here; neither are locks or files.

use std::collections::BTreeSet;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Error;

/// Bytes of a sector: writes are whole sectors.
pub const SECTOR: u64 = 512;
/// Bytes of a page: the unit of checksum, atomicity and discard.
pub const PAGE: u64 = 4096;
/// Bytes of a block: the unit of the index.
pub const BLOCK: u64 = 64 << 10;
/// Bytes of a chunk: the unit of placement.
pub const CHUNK: u64 = 64 << 20;

/// A place on the virtual disk, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Offset(pub u64);

/// The session that a write is made for; a fenced one changes nothing any more (invariant B4).
/// Opaque: the file system copies its lock session's number into it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Fence(pub u64);

/// When a write must be on stable storage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// When a later flush covers it. Until then it is in the memory of every in-sync replica.
    Later,
    /// Before it is acknowledged; it then also covers the session's earlier writes to the chunk.
    Now,
}

/// Space of the disk's servers, in bytes of user data (copies already divided out).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What is free.
    pub free: u64,
}

impl Space {
    /// What a full disk keeps for logs, metadata, discards and repair: this part of it, or so many bytes.
    const RESERVE_PART: u64 = 64;
    const RESERVE: u64 = 64 << 20;

    /// What may be granted to sessions altogether.
    #[must_use]
    pub fn grantable(&self) -> u64 {
        self.free.saturating_sub((self.total / Self::RESERVE_PART).min(Self::RESERVE))
    }
}

/// How much space a session asks to be granted, in bytes of user data.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SpaceAsk {
    /// What it wrote to new places since it asked last: the servers may not have told yet that it is taken.
    pub spent: u64,
    /// What it still holds of its grant: in memory to be written, and not used at all.
    pub holds: u64,
    /// What it must have altogether: what it keeps in memory to be written, and what it is about to add.
    pub least: u64,
    /// What it would like to have.
    pub most: u64,
}

impl SpaceAsk {
    /// What a session that was granted `had` has from now on, when the other sessions leave `left`: all that it must
    /// have, and of what it would like a part of what is there, so that the less there is, the less lies idle with
    /// anybody. If there is no more, what it still holds.
    #[must_use]
    pub fn share(&self, had: u64, left: u64) -> u64 {
        let holds = had.min(self.holds);
        if self.least > left && self.least > holds {
            return holds;
        }
        self.least.max(self.most.min(left / 8))
    }
}

/// Requests and bytes that this client sent to block servers so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Traffic {
    /// Read requests.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Write requests.
    pub writes: u64,
    /// Bytes written, counted once whatever the number of copies.
    pub written_bytes: u64,
    /// Flushes, one for each group that was asked.
    pub flushes: u64,
    /// Discards.
    pub discards: u64,
}

/// A virtual disk, opened for one session.
///
/// Reads and writes may be of any length and cross pages, blocks and chunks; the client splits
/// them. Requests that overlap in time have no order: the caller's locks keep them apart.
#[async_trait]
pub trait VirtualDisk: Send + Sync {
    /// `length` bytes from `at`, both multiples of a sector. What was never written, or was
    /// discarded, reads as zeros.
    async fn read(&self, at: Offset, length: u64) -> Result<Bytes, Error>;

    /// Writes the pieces of `data`, one after the other, from `at`; the sum is whole sectors. The
    /// part that falls in one page is atomic, power loss included.
    ///
    /// [`Error::Stalled`] ends only the wait: the write itself is repeated with the same sequence
    /// until it is answered or the session ends, and [`VirtualDisk::flush`] waits for it.
    async fn write(&self, at: Offset, data: Vec<Bytes>, when: Durability) -> Result<(), Error>;

    /// Makes `length` bytes from `at` (whole pages) read as zeros and gives their space back.
    async fn discard(&self, at: Offset, length: u64) -> Result<(), Error>;

    /// Brings all writes and discards that were called for before it to stable storage, waiting
    /// for those that have no answer yet.
    async fn flush(&self) -> Result<(), Error>;

    /// Makes sure that nothing of session `dead` changes this disk any more: recorded, and
    /// confirmed by every block server (or waited out), when it returns `Ok`.
    async fn fence(&self, dead: Fence) -> Result<(), Error>;

    /// The space of the servers, as the volume map last heard it.
    async fn space(&self) -> Result<Space, Error>;

    /// Asks that this session be granted space; the answer is all that it may hold until it asks again, in memory or
    /// written since. Less than `ask.least` says that there is no more, and is what it still holds. Whatever is
    /// written within grants finds room, so that a full disk is told before anything is taken in. The grant ends
    /// with the session.
    async fn reserve(&self, ask: SpaceAsk) -> Result<u64, Error>;

    /// The hosts that keep a copy of the chunk that holds `at`, as far as is known: a hint for work that is better done
    /// near its data.
    fn hosts(&self, _at: Offset) -> BTreeSet<String> {
        BTreeSet::new()
    }

    /// What was sent so far.
    fn traffic(&self) -> Traffic;
}
