//! A mount as its users see it, with a kernel in between that keeps what it was told, or with none.
//!
//! The kernel here is the one that goes wrong most easily: names, absent ones too, and attributes are believed until their
//! time is over, and contents for as long as attributes are; whatever it was told to forget it forgets, a little late, as
//! a real one would. That requests and invalidations overtake each other on their way is the rooms' `fuse` and `mount`
//! business and not shown here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ::fs::{Attributes, Entry, Error, Fs, InodeNo, KernelCache, Lookup};
use async_trait::async_trait;
use parking_lot::Mutex;
use world::{Time, World};

/// The directories that users work in.
pub(super) const DIRECTORIES: [&str; 2] = ["left", "right"];
/// How long the kernel takes to forget something.
const SLOW: Duration = Duration::from_millis(2);

/// What is kept of one mount.
#[derive(Default)]
struct Kept {
    names: BTreeMap<(InodeNo, Vec<u8>), (Option<Attributes>, Time)>,
    attributes: BTreeMap<InodeNo, (Attributes, Time)>,
    contents: BTreeMap<InodeNo, BTreeMap<(u64, u64), Vec<u8>>>,
}

impl Kept {
    fn learn(&mut self, entry: &Entry) {
        let (ino, new) = (entry.attributes.ino, entry.attributes);
        let old = self.attributes.insert(ino, (new, entry.valid_until));
        let same = |old: &Attributes| old.mtime == new.mtime && old.size == new.size;
        if !old.is_some_and(|(old, _)| same(&old)) {
            self.contents.remove(&ino);
        }
    }

    fn believed(&self, ino: InodeNo, now: Time) -> Option<Attributes> {
        self.attributes.get(&ino).filter(|(_, until)| now < *until).map(|(known, _)| *known)
    }

    fn forget(&mut self, ino: InodeNo) {
        self.attributes.remove(&ino);
        self.contents.remove(&ino);
    }
}

/// The kernel of one mount.
pub(super) struct Kernel {
    world: World,
    kept: Mutex<Kept>,
}

#[async_trait]
impl KernelCache for Kernel {
    async fn drop_pages(&self, ino: InodeNo, _size: Option<u64>) {
        self.world.clock.sleep(SLOW).await;
        self.kept.lock().forget(ino);
    }

    async fn drop_names(&self, directory: InodeNo) {
        self.world.clock.sleep(SLOW).await;
        self.kept.lock().names.retain(|(of, _), _| *of != directory);
    }

    async fn drop_all(&self) {
        self.world.clock.sleep(SLOW).await;
        *self.kept.lock() = Kept::default();
    }
}

/// A file system that is mounted, and what is above it.
#[derive(Clone)]
pub(super) struct View {
    pub(super) fs: Arc<Fs>,
    kernel: Option<Arc<Kernel>>,
}

impl View {
    /// Puts a kernel above `fs`, or nothing.
    pub(super) fn new(world: &World, fs: Arc<Fs>, keeps: bool) -> Self {
        let kernel =
            keeps.then(|| Arc::new(Kernel { world: world.clone(), kept: Mutex::default() }));
        if let Some(kernel) = &kernel {
            fs.attach_kernel(Arc::clone(kernel) as _);
        }
        Self { fs, kernel }
    }

    /// Walks to the directories that users work in: of what it never looked up a kernel is not told.
    pub(super) async fn walk(&self) -> Result<(), Error> {
        if self.kernel.is_some() {
            for name in DIRECTORIES {
                self.fs.lookup(InodeNo::ROOT, name.as_bytes()).await?;
            }
        }
        Ok(())
    }

    /// What a name leads to.
    pub(super) async fn lookup(
        &self,
        dir: InodeNo,
        name: &[u8],
    ) -> Result<Option<Attributes>, Error> {
        let Some(kernel) = &self.kernel else {
            return Ok(match self.fs.lookup(dir, name).await? {
                Lookup::Found(entry) => {
                    self.fs.forget(entry.attributes.ino, 1);
                    Some(entry.attributes)
                }
                Lookup::Absent { .. } => None,
            });
        };
        let key = (dir, name.to_vec());
        if let Some((known, until)) = kernel.kept.lock().names.get(&key)
            && kernel.world.clock.now() < *until
        {
            return Ok(*known);
        }
        let found = self.fs.lookup(dir, name).await?;
        let mut kept = kernel.kept.lock();
        let known = match found {
            Lookup::Found(entry) => {
                kept.learn(&entry);
                (Some(entry.attributes), entry.valid_until)
            }
            Lookup::Absent { valid_until } => (None, valid_until),
        };
        kept.names.insert(key, known);
        Ok(known.0)
    }

    pub(super) async fn attributes(&self, ino: InodeNo) -> Result<Attributes, Error> {
        let Some(kernel) = &self.kernel else {
            return self.fs.getattr(ino).await.map(|entry| entry.attributes);
        };
        let now = kernel.world.clock.now();
        if let Some(known) = kernel.kept.lock().believed(ino, now) {
            return Ok(known);
        }
        let entry = self.fs.getattr(ino).await?;
        kernel.kept.lock().learn(&entry);
        Ok(entry.attributes)
    }

    pub(super) async fn read(&self, ino: InodeNo, at: u64, length: u64) -> Result<Vec<u8>, Error> {
        let Some(kernel) = &self.kernel else {
            return self.fs.read(ino, at, length).await.map(|pieces| pieces.concat());
        };
        let now = kernel.world.clock.now();
        {
            let kept = kernel.kept.lock();
            let contents = kept.believed(ino, now).and_then(|_| kept.contents.get(&ino));
            if let Some(bytes) = contents.and_then(|contents| contents.get(&(at, length))) {
                return Ok(bytes.clone());
            }
        }
        let bytes = self.fs.read(ino, at, length).await?.concat();
        let mut kept = kernel.kept.lock();
        kept.contents.entry(ino).or_default().insert((at, length), bytes.clone());
        Ok(bytes)
    }

    /// The mount changed a file itself.
    pub(super) fn changed(&self, ino: InodeNo) {
        if let Some(kernel) = &self.kernel {
            kernel.kept.lock().forget(ino);
        }
    }

    /// The mount changed what a name leads to.
    pub(super) fn renamed(&self, dir: InodeNo, name: &[u8]) {
        if let Some(kernel) = &self.kernel {
            kernel.kept.lock().names.remove(&(dir, name.to_vec()));
        }
    }
}
