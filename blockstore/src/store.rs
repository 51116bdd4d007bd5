//! Where a block server keeps its blocks, as chains see it: changes are applied in memory in the
//! chain's order and brought to stable storage by commits. Behind it are the engine (RocksDB and
//! extent files) and a store in memory for tests. Chains, leases and clients are not known here.

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::{
    disk::Space,
    message::{BlockContent, Change},
    place::{BlockId, BlockVersion, Volume},
};

pub(crate) mod gather;
pub mod mem;
pub(crate) mod overlay;

/// A range of chunk hashes, both ends included: a group, or a single chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hashes {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

impl Hashes {
    /// All of them.
    pub const ALL: Self = Self { first: 0, last: u64::MAX };

    /// Whether `hash` is one of them.
    #[must_use]
    pub fn contains(self, hash: u64) -> bool {
        self.first <= hash && hash <= self.last
    }
}

/// Bytes that were read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// CRC32C of the part in each page; empty if `body` is.
    pub sums: Vec<u32>,
    /// The bytes; empty if all of them are zeros.
    pub body: Bytes,
}

/// What a store uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// Bytes of the disk, and those that are free for new blocks.
    pub space: Space,
    /// Blocks that have a slot.
    pub slots: u64,
    /// Bytes applied and not yet committed.
    pub dirty: u64,
}

/// What can go wrong in a store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bytes on disk fail their checksum.
    #[error("damaged data at byte {offset} of the volume")]
    Damaged {
        /// Where in the volume.
        offset: u64,
    },
    /// The store has stopped: closed, or after a failure of its disk. It does not try again; what
    /// was not committed is kept by the other members of the chains.
    #[error("the store has stopped: {0}")]
    Stopped(String),
    /// The data directory cannot be used. Says what to do.
    #[error("{0}")]
    Unusable(String),
}

/// The result of a commit, when it is there.
pub type Committing = BoxFuture<'static, Result<(), StoreError>>;

/// A store of blocks.
pub trait Store: Send + Sync {
    /// Applies a change in memory; never waits for the disk. The caller calls it in the chain's
    /// order. A discard touches only chunks of `group`.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn apply(
        &self,
        group: Hashes,
        change: &Change,
        version: BlockVersion,
    ) -> Result<(), StoreError>;

    /// Reads if that needs no disk, else `None`.
    fn try_read(&self, volume: Volume, offset: u64, length: u32) -> Option<Found>;

    /// Reads; may block as long as a disk does.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] or [`StoreError::Stopped`].
    fn read(&self, volume: Volume, offset: u64, length: u32) -> Result<Found, StoreError>;

    /// Brings all that was applied to these chunks before the call to stable storage.
    fn commit(&self, scope: Vec<Hashes>) -> Committing;

    /// Ready when there is memory for more changes.
    fn room(&self) -> BoxFuture<'static, ()>;

    /// At most `limit` blocks of `group` after `after`, with their versions, in order; and whether
    /// there are more. May block.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn list(
        &self,
        group: Hashes,
        after: Option<BlockId>,
        limit: usize,
    ) -> Result<(Vec<(BlockId, BlockVersion)>, bool), StoreError>;

    /// The version of a block; zero if there is none. May block for one look at the index.
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn version(&self, block: BlockId) -> Result<BlockVersion, StoreError>;

    /// The content of a block; version zero and no pages if there is none. Pages that fail their
    /// checksum are [`BlockContent::lost`]. May block.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if nothing is known of the block, or [`StoreError::Stopped`].
    fn fetch(&self, block: BlockId) -> Result<BlockContent, StoreError>;

    /// Replaces the content of a block, in memory. `content` is well formed ([`BlockContent::check`]).
    ///
    /// # Errors
    /// [`StoreError::Stopped`].
    fn install(&self, block: BlockId, content: &BlockContent) -> Result<(), StoreError>;

    /// What it uses.
    fn usage(&self) -> Usage;

    /// Whether the last stop was clean: closed with everything committed.
    fn was_clean(&self) -> bool;

    /// The random number of the data directory.
    fn directory(&self) -> u128;

    /// Commits everything and closes; marks the stop as clean if `clean`. Blocks.
    ///
    /// # Errors
    /// [`StoreError::Stopped`]; the stop is then not clean.
    fn close(&self, clean: bool) -> Result<(), StoreError>;

    /// Why it stopped by itself, if it did.
    fn failure(&self) -> Option<String>;
}
