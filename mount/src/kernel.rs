//! Making the kernel forget, when the file system says so. Why and when is the file system's business.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use fuse::{Ino, Notifier};
use futures_util::{StreamExt, stream};

use crate::{known::Known, words::ino_out};

/// How long one invalidation may take. A page is held by a request that is being answered, and each
/// request is answered, if need be with EIO, well before this.
const PATIENCE: Duration = Duration::from_secs(180);
/// Invalidations under way at once, when all is forgotten.
const ABREAST: usize = 256;

pub(crate) struct Kernel {
    pub(crate) notifier: Notifier,
    pub(crate) known: Arc<Known>,
}

impl Kernel {
    async fn pages(&self, ino: Ino, offset: u64, length: u64) {
        let length = if length == 0 { u64::MAX } else { length };
        if let Err(stuck) = self.notifier.forget_pages(ino, offset, length, PATIENCE).await {
            tracing::error!(%stuck, "pages may be stale: unmount and mount again");
        }
    }
}

#[async_trait]
impl fs::KernelCache for Kernel {
    async fn drop_pages(&self, ino: fs::InodeNo, offset: u64, length: u64) {
        let ino = ino_out(ino);
        if self.known.has(ino) {
            self.pages(ino, offset, length).await;
        }
    }

    async fn drop_attributes(&self, ino: fs::InodeNo) {
        let ino = ino_out(ino);
        if self.known.has(ino)
            && let Err(stuck) = self.notifier.forget_attributes(ino, PATIENCE).await
        {
            tracing::error!(%stuck, "attributes may be stale: unmount and mount again");
        }
    }

    /// The epoch is stepped instead of naming each name: a name's invalidation would wait for whatever
    /// request of ours holds that directory in the kernel and may itself wait for this very lock.
    async fn drop_names(&self, directory: fs::InodeNo) {
        let directory = ino_out(directory);
        if self.known.has(directory) {
            self.notifier.forget_all_names();
            self.pages(directory, 0, 0).await;
        }
    }

    async fn drop_all(&self) {
        self.notifier.forget_all_names();
        let all = self.known.all();
        stream::iter(all).for_each_concurrent(ABREAST, |ino| self.pages(ino, 0, 0)).await;
    }
}
