//! Telling the kernel what to forget. Why in this form: `docs/` of the project and the table of hazards say that a
//! notification blocks while a request holds the page or the directory that it is about. So each kind has its own thread and
//! its own descriptor, the queues are bounded and merged, everybody who waits does so with a deadline, and what
//! cannot be waited for has a form that never blocks (names: one step of the mount's epoch).
//!
//! Why something must be forgotten is not known here.

use std::{
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::io::Errno;
use world::World;

use crate::{
    queue::{Queue, Refused},
    size,
    types::Ino,
    windows::Windows,
};

/// An invalidation was not done in time: the kernel holds a page of it for a request that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel did not forget inode {0:?} in time: a request on it is not answered")]
pub struct Stuck(pub Ino);

/// How many inodes, and how many names, may wait at once.
const LIMIT: usize = 4096;
/// One that is blocked on a page must not keep the others waiting: two mounts could wait for each other so.
const PAGE_THREADS: usize = 4;
/// How long a name is waited for before the epoch is stepped instead.
const NAME_PATIENCE: Duration = Duration::from_millis(20);
/// How long a busy machine may take to begin to tell a size.
const SIZE_PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a notification in progress is waited for when the notifier is disarmed.
const DISARM_PATIENCE: Duration = Duration::from_secs(1);

const CODE_INODE: i32 = 2;
const CODE_ENTRY: i32 = 3;
const CODE_EPOCH: i32 = 8;

/// Tells the kernel what to forget. Cheap to clone. Never await it from a request that the kernel
/// waits for.
#[derive(Clone)]
pub struct Notifier {
    shared: Arc<Shared>,
}

struct Shared {
    world: World,
    pages: Queue<Ino, Wanted>,
    sizes: Queue<Ino, (Size, Arc<AtomicBool>)>,
    names: Queue<(Ino, Vec<u8>), ()>,
    /// For what is sent without a thread because it cannot block.
    direct: OwnedFd,
    windows: Arc<Windows>,
    has_epoch: AtomicBool,
    armed: AtomicBool,
    epochs: AtomicU64,
}

/// How long a file is, for [`Notifier::tell_size`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the file.
    pub bytes: u64,
    /// A page of the file, by its first byte, that no request holds. At most 1 MiB before the end.
    pub free_page: u64,
}

/// What of an inode the kernel has to forget.
#[derive(Clone, Debug)]
pub struct Stale {
    /// Pages, by the first byte and the one behind the last; only the attributes if there are none.
    pages: Option<(u64, u64)>,
    begun: Arc<AtomicBool>,
}

impl Stale {
    /// Pages and attributes.
    #[must_use]
    pub fn pages(from: u64, to: u64) -> Self {
        Self { pages: Some((from, to)), begun: Arc::default() }
    }

    /// Attributes only: the kernel never waits for a request on their account.
    #[must_use]
    pub fn attributes() -> Self {
        Self { pages: None, begun: Arc::default() }
    }

    /// Becomes true when the kernel is told; it forgets the attributes first, and may then wait for pages.
    #[must_use]
    pub fn begun(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.begun)
    }
}

/// What is to be forgotten of an inode by one message, and who wants to know that it began.
struct Wanted {
    pages: Option<(u64, u64)>,
    begun: Vec<Arc<AtomicBool>>,
}

impl Wanted {
    fn merge(&mut self, other: Self) {
        self.pages = match (self.pages, other.pages) {
            (Some((from, to)), Some((other_from, other_to))) => {
                Some((from.min(other_from), to.max(other_to)))
            }
            (one, other) => one.or(other),
        };
        self.begun.extend(other.begun);
    }
}

impl From<Stale> for Wanted {
    fn from(stale: Stale) -> Self {
        Self { pages: stale.pages, begun: vec![stale.begun] }
    }
}

impl Notifier {
    /// `device` is duplicated for each thread. Starts threads, which end with [`Notifier::disarm`].
    pub(crate) fn start(
        world: &World,
        device: &OwnedFd,
        windows: Arc<Windows>,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            world: world.clone(),
            pages: Queue::new(LIMIT),
            sizes: Queue::new(LIMIT),
            names: Queue::new(LIMIT),
            direct: device.try_clone()?,
            windows,
            has_epoch: AtomicBool::new(true),
            armed: AtomicBool::new(true),
            epochs: AtomicU64::new(0),
        });
        for _ in 0..PAGE_THREADS {
            let (pages, for_pages) = (device.try_clone()?, shared.clone());
            world.tasks.thread("fuse-pages", Box::new(move || for_pages.serve_pages(&pages)));
            let (sizes, for_sizes) = (device.try_clone()?, shared.clone());
            world.tasks.thread("fuse-sizes", Box::new(move || for_sizes.serve_sizes(&sizes)));
        }
        let names = device.try_clone()?;
        let for_names = shared.clone();
        world.tasks.thread("fuse-names", Box::new(move || for_names.serve_names(&names)));
        Ok(Self { shared })
    }

    /// Asks the kernel, once and harmlessly, whether names can be forgotten without waiting.
    pub(crate) fn probe(&self) {
        if send(&self.shared.direct, CODE_EPOCH, &[]) == Err(Errno::INVAL) {
            tracing::info!(
                "this kernel cannot step the epoch of a mount (Linux 6.16 can): names are not cached"
            );
            self.shared.has_epoch.store(false, Ordering::Relaxed);
        }
    }

    /// Whether names can always be forgotten. If not, the kernel must be given none to keep.
    #[must_use]
    pub fn can_forget_names(&self) -> bool {
        self.shared.has_epoch.load(Ordering::Relaxed)
    }

    /// How often the names of the whole mount were forgotten.
    #[must_use]
    pub fn epochs(&self) -> u64 {
        self.shared.epochs.load(Ordering::Relaxed)
    }

    /// The kernel learns how long a file is at least, for up to `patience`. To be called before
    /// [`Notifier::forget`]: the kernel drops the answers to the questions that it asked before an
    /// invalidation, and a read would go on with a size that may be very old. It learns at once; what may take longer
    /// is that a page which a request holds meanwhile is waited for, to no purpose.
    pub async fn tell_size(&self, ino: Ino, size: Size, patience: Duration) {
        let begun = Arc::new(AtomicBool::new(false));
        // The later word is the better one. With too many waiting it is left out: it is a race that is lost.
        let said = (size, Arc::clone(&begun));
        let Ok(done) = self.shared.sizes.push(&ino, said, |old, new| *old = new) else { return };
        let world = &self.shared.world;
        let end = world.clock.now() + SIZE_PATIENCE;
        let mut done = std::pin::pin!(done);
        // A word that comes after the lock has gone would be wrong: it must be out.
        while world.until(world.clock.now() + patience, &mut done).await.is_err()
            && !begun.load(Ordering::Relaxed)
            && world.clock.now() < end
        {}
    }

    /// The kernel forgets pages and attributes of an inode; pages that a mapping has dirtied are written
    /// first. READs and WRITEs on it must be answered meanwhile.
    ///
    /// # Errors
    /// [`Stuck`] after `patience`; the kernel may still forget later.
    pub async fn forget(&self, ino: Ino, stale: Stale, patience: Duration) -> Result<(), Stuck> {
        let world = &self.shared.world;
        let deadline = world.clock.now() + patience;
        let done = loop {
            match self.shared.pages.push(&ino, stale.clone().into(), Wanted::merge) {
                Ok(done) => break done,
                Err(Refused::Stopped) => return Ok(()),
                Err(Refused::Full) if world.clock.now() >= deadline => return Err(Stuck(ino)),
                Err(Refused::Full) => world.clock.sleep(Duration::from_millis(1)).await,
            }
        };
        match world.until(deadline, done).await {
            // Dropped without a word: disarmed, there is no kernel cache any more.
            Ok(_) => Ok(()),
            Err(_) => {
                tracing::warn!(
                    ?ino,
                    "the kernel does not forget an inode: a request on it is unanswered"
                );
                Err(Stuck(ino))
            }
        }
    }

    /// The kernel forgets one name, or, if that cannot be had soon (a request in that directory
    /// waits for us), all names of the mount.
    pub async fn forget_name(&self, parent: Ino, name: &[u8]) {
        match self.shared.names.push(&(parent, name.to_vec()), (), |(), ()| ()) {
            Err(Refused::Stopped) => {}
            Err(Refused::Full) => self.forget_all_names(),
            Ok(done) => {
                let deadline = self.shared.world.clock.now() + NAME_PATIENCE;
                if self.shared.world.until(deadline, done).await.is_err() {
                    self.forget_all_names();
                }
            }
        }
    }

    /// The kernel forgets all names of the mount. Never blocks. A look-up that is being answered
    /// meanwhile is forgotten too: the kernel stamps it with the epoch in which it was asked.
    pub fn forget_all_names(&self) {
        if !self.shared.armed.load(Ordering::Relaxed) || !self.can_forget_names() {
            return;
        }
        self.shared.epochs.fetch_add(1, Ordering::Relaxed);
        report("epoch", send(&self.shared.direct, CODE_EPOCH, &[]));
    }

    /// Holds notifications back while the kernel unmounts: one in its midst would meet the dying mount.
    pub(crate) fn pause(&self) {
        self.shared.pages.pause(DISARM_PATIENCE);
        self.shared.sizes.pause(DISARM_PATIENCE);
        self.shared.names.pause(DISARM_PATIENCE);
    }

    /// Goes on: the mount lives.
    pub(crate) fn resume(&self) {
        self.shared.pages.resume();
        self.shared.sizes.resume();
        self.shared.names.resume();
    }

    /// Nothing is sent any more; whoever waits is released. Blocks for at most three seconds, if a notification is stuck.
    pub(crate) fn disarm(&self) {
        self.shared.armed.store(false, Ordering::Relaxed);
        self.shared.pages.stop(DISARM_PATIENCE);
        self.shared.sizes.stop(DISARM_PATIENCE);
        self.shared.names.stop(DISARM_PATIENCE);
    }
}

impl Shared {
    fn serve_pages(&self, device: &OwnedFd) {
        self.pages.serve(|ino, wanted| {
            self.windows.pass();
            let (offset, length): (i64, i64) = match wanted.pages {
                None => (-1, 0),
                Some((from, to)) => {
                    let from = i64::try_from(from).unwrap_or(i64::MAX);
                    // A length of 0 means: to the end.
                    (from, i64::try_from(to).map_or(0, |to| to.saturating_sub(from).max(1)))
                }
            };
            for begun in &wanted.begun {
                begun.store(true, Ordering::Relaxed);
            }
            let mut payload = [0; 24];
            payload[..8].copy_from_slice(&ino.0.to_ne_bytes());
            payload[8..16].copy_from_slice(&offset.to_ne_bytes());
            payload[16..].copy_from_slice(&length.to_ne_bytes());
            report("inode", send(device, CODE_INODE, &payload));
        });
    }

    fn serve_sizes(&self, device: &OwnedFd) {
        self.sizes.serve(|ino, (size, begun)| {
            begun.store(true, Ordering::Relaxed);
            report("size", size::tell(device, *ino, size.free_page, size.bytes));
        });
    }

    fn serve_names(&self, device: &OwnedFd) {
        self.names.serve(|(parent, name), ()| {
            self.windows.pass();
            let mut payload = Vec::with_capacity(17 + name.len());
            payload.extend_from_slice(&parent.0.to_ne_bytes());
            payload.extend_from_slice(&u32::try_from(name.len()).unwrap_or(0).to_ne_bytes());
            payload.extend_from_slice(&[0; 4]);
            payload.extend_from_slice(name);
            payload.push(0);
            report("name", send(device, CODE_ENTRY, &payload));
        });
    }
}

/// A notification is a reply to no request, with a code in the place of the error.
fn send(device: &OwnedFd, code: i32, payload: &[u8]) -> Result<(), Errno> {
    let mut message = Vec::with_capacity(16 + payload.len());
    message.extend_from_slice(&u32::try_from(16 + payload.len()).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend_from_slice(&code.to_ne_bytes());
    message.extend_from_slice(&0_u64.to_ne_bytes());
    message.extend_from_slice(payload);
    rustix::io::retry_on_intr(|| rustix::io::write(device, &message)).map(|_| ())
}

fn report(what: &str, sent: Result<(), Errno>) {
    match sent {
        // Unknown to the kernel: it has nothing to forget.
        Ok(()) | Err(Errno::NOENT | Errno::NOTDIR) => {}
        // Unmounted or aborted.
        Err(Errno::NODEV | Errno::NOTCONN | Errno::PERM) => {}
        Err(error) => tracing::warn!(what, %error, "the kernel refused a notification"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Stale, Wanted};

    #[test]
    fn ranges_of_one_inode_merge_into_one_that_covers_them() {
        let mut wanted = Wanted::from(Stale::attributes());
        wanted.merge(Stale::pages(8, 16).into());
        wanted.merge(Stale::attributes().into());
        wanted.merge(Stale::pages(2, 4).into());
        assert_eq!(wanted.pages, Some((2, 16)));
        assert_eq!(wanted.begun.len(), 4);
    }
}
