//! What the kernel must forget when a lock goes. Who tells the kernel, and how, is not known here.

use async_trait::async_trait;

use crate::attributes::InodeNo;

/// The kernel's caches of one mount. Each call returns when the kernel has done it; none is made
/// while a mutex of this room is held, and READs and WRITEs are still answered meanwhile.
#[async_trait]
pub trait KernelCache: Send + Sync {
    /// Forget (and, for a shared writable mapping, first write back) `length` bytes of pages of
    /// `ino` from `offset`, and its attributes; `length` 0 means to the end.
    async fn drop_pages(&self, ino: InodeNo, offset: u64, length: u64);

    /// Forget the attributes of `ino`, not its pages.
    async fn drop_attributes(&self, ino: InodeNo);

    /// Forget every name in `directory`, present and absent, and its cached listing.
    async fn drop_names(&self, directory: InodeNo);

    /// Forget everything of everything: names, attributes and pages. For many inodes at once, and
    /// for a lost lease.
    async fn drop_all(&self);
}
