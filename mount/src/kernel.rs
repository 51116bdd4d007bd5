//! Making the kernel forget, when the file system says so. Why and when is the file system's business.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use async_trait::async_trait;
use fuse::{Ino, Notifier, Size, Stale};
use futures_util::{StreamExt, pin_mut, stream};
use world::World;

use crate::{
    flights::{Flights, Range, around, free_page},
    known::Known,
    words::ino_out,
};

/// How long one invalidation may take. A page is held by a request that is being answered, and each
/// request is answered, if need be with EIO, well before this.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long a READ or WRITE that is being answered may take before it is taken for one that waits for the lock
/// which is on its way out.
const WAITS: Duration = Duration::from_millis(20);
/// All pages of a file.
const ALL: Range = (0, u64::MAX);
/// Invalidations under way at once, when all is forgotten.
const ABREAST: usize = 256;

pub(crate) struct Kernel {
    pub(crate) world: World,
    pub(crate) flights: Arc<Flights>,
    pub(crate) notifier: Notifier,
    pub(crate) known: Arc<Known>,
}

impl Kernel {
    async fn pages(&self, ino: Ino, size: Option<u64>) {
        let flying = self.flights.within(ino, ALL);
        tell_size(&self.notifier, ino, size, &flying).await;
        for rest in around(ALL, &flying) {
            self.forget(ino, rest).await;
        }
        if flying.is_empty() {
            return;
        }
        // What was computed before this and not sent yet is sent after it. The rest waits, or is slow and
        // will be seen by the file system to have slipped in, which then asks again.
        if let Err(stuck) = self.notifier.forget(ino, Stale::attributes(), PATIENCE).await {
            tracing::error!(%stuck, "attributes may be stale: unmount and mount again");
        }
        for (id, range) in flying {
            if !self.flights.taint(ino, id) {
                self.forget(ino, range).await;
            }
        }
    }

    async fn forget(&self, ino: Ino, range: Range) {
        let clock = &self.world.clock;
        let start = clock.now();
        let stale = Stale::pages(range.0, range.1);
        let begun = stale.begun();
        let forgotten = self.notifier.forget(ino, stale, PATIENCE);
        pin_mut!(forgotten);
        loop {
            match self.world.until(clock.now() + WAITS, &mut forgotten).await {
                Ok(Ok(())) => return,
                Ok(Err(stuck)) => {
                    tracing::error!(%stuck, "pages may be stale: unmount and mount again");
                    return;
                }
                // One that came in meanwhile holds a page and waits: the rest follows when it is answered.
                Err(_)
                    if begun.load(Ordering::Relaxed)
                        && self.flights.taint_since(ino, clock.now() - WAITS) =>
                {
                    tracing::debug!(?ino, waited = ?clock.now().since(start), "a page is dropped later");
                    return;
                }
                Err(_) => {}
            }
        }
    }
}

/// The kernel learns the size of a file, unless requests hold every page of its end.
pub(crate) async fn tell_size(
    notifier: &Notifier,
    ino: Ino,
    size: Option<u64>,
    flying: &[(u64, Range)],
) {
    if let Some(bytes) = size
        && let Some(free_page) = free_page(bytes, flying)
    {
        notifier.tell_size(ino, Size { bytes, free_page }, WAITS).await;
    }
}

#[async_trait]
impl fs::KernelCache for Kernel {
    async fn drop_pages(&self, ino: fs::InodeNo, size: Option<u64>) {
        let ino = ino_out(ino);
        if self.known.has(ino) {
            self.pages(ino, size).await;
        }
    }

    /// The epoch is stepped instead of naming each name: a name's invalidation would wait for whatever
    /// request of ours holds that directory in the kernel and may itself wait for this very lock.
    async fn drop_names(&self, directory: fs::InodeNo) {
        let directory = ino_out(directory);
        if self.known.has(directory) {
            self.notifier.forget_all_names();
            self.pages(directory, None).await;
        }
    }

    async fn drop_all(&self) {
        self.notifier.forget_all_names();
        let all = self.known.all();
        stream::iter(all).for_each_concurrent(ABREAST, |ino| self.pages(ino, None)).await;
    }
}
