//! What a mount can be told, and the numbers that it tells.

use std::time::Duration;

/// How a mount shall behave.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hard cap of the cache: file pages and metadata, clean and dirty.
    pub cache_bytes: u64,
    /// A change of metadata is in the log on the disk after this long.
    pub log_push_after: Duration,
    /// Written data is on the disk after this long.
    pub data_push_after: Duration,
    /// How long an operation waits for other mounts or the disk before it fails.
    pub patience: Duration,
    /// At most this long may the kernel keep names and attributes without asking.
    pub keep_at_most: Duration,
    /// Refuse every change.
    pub read_only: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cache_bytes: 512 << 20,
            log_push_after: Duration::from_secs(5),
            data_push_after: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            keep_at_most: Duration::from_secs(3600),
            read_only: false,
        }
    }
}

/// Numbers of a mount, for `plumeria status` and tests.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Numbers {
    /// Written bytes that are not on the disk yet.
    pub dirty_bytes: u64,
    /// Changed metadata bytes that are not in place yet (most are in the log already).
    pub dirty_metadata: u64,
    /// Bytes of the cache in use, dirty ones included.
    pub cached_bytes: u64,
    /// Operations done.
    pub operations: u64,
    /// Operations that had to wait for a lock or the disk.
    pub waits: u64,
    /// Pushes of the log.
    pub pushes: u64,
    /// Revocations served.
    pub revocations: u64,
    /// Messages on the lock plane, renewals not counted.
    pub lock_messages: u64,
}
