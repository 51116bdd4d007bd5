//! What the kernel must forget when a lock goes. Who tells the kernel, and how, is not known here.

use async_trait::async_trait;

use crate::attributes::InodeNo;

/// The kernel's caches of one mount. Each call returns when the kernel has done it; none is made
/// while a mutex of this room is held, and READs and WRITEs are still answered meanwhile.
#[async_trait]
pub trait KernelCache: Send + Sync {
    /// Forget the pages of `ino` (and, for a shared writable mapping, first write them back) and its
    /// attributes. `size` is that of a file, if it is known: an answer to `getattr` may come too late to be
    /// believed, and then the kernel must not go on with a size that is older than the lock.
    async fn drop_pages(&self, ino: InodeNo, size: Option<u64>);

    /// Forget every name in `directory`, present and absent, and its cached listing.
    async fn drop_names(&self, directory: InodeNo);

    /// Forget everything of everything: names, attributes and pages. For many inodes at once, and
    /// for a lost lease.
    async fn drop_all(&self);
}
