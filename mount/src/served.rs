//! A served file system from its mounting to its closing.

use std::{path::Path, sync::Arc, time::Duration};

use fs::Fs;
use fuse::{Ended, Options, Session};
use world::World;

use crate::{
    claims::Claims, error::Error, flights::Flights, kernel::Kernel, known::Known, system::System,
};

/// A file system mounted in the kernel. Dropping it unmounts, but does not close the file system.
pub struct Mount {
    session: Session,
    fs: Arc<Fs>,
    known: Arc<Known>,
}

/// Mounts `fs`, which was started, on `path`.
///
/// # Errors
/// If the kernel does not allow it; nothing is mounted then and `fs` is as before.
pub async fn serve(
    world: &World,
    fs: Arc<Fs>,
    path: &Path,
    options: &Options,
) -> Result<Mount, Error> {
    let known = Arc::new(Known::default());
    let flights = Arc::new(Flights::default());
    let system = Arc::new(System {
        world: world.clone(),
        fs: fs.clone(),
        known: known.clone(),
        flights: flights.clone(),
        claims: Claims::default(),
        attached: false.into(),
        keep_names: false.into(),
        notifier: None.into(),
        synchronous: options.synchronous,
    });
    let session = fuse::serve(world, system.clone(), path, options).await?;
    let notifier = session.notifier();
    fs.attach_kernel(Arc::new(Kernel {
        world: world.clone(),
        flights,
        notifier: notifier.clone(),
        known: known.clone(),
    }));
    // Only now can a revocation reach the kernel; what was answered before had no time to keep.
    system.keep_names.store(notifier.can_forget_names(), std::sync::atomic::Ordering::SeqCst);
    *system.notifier.write() = Some(notifier);
    system.attached.store(true, std::sync::atomic::Ordering::SeqCst);
    Ok(Mount { session, fs, known })
}

impl Mount {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.session.path()
    }

    /// The number of the kernel's connection, for the mount's watchdog; none if somebody unmounted it at once.
    #[must_use]
    pub const fn connection(&self) -> Option<u32> {
        self.session.connection()
    }

    /// Ready when the mount has ended, also by somebody else's `umount`. [`Mount::unmount`] is due then, to
    /// close the file system.
    pub async fn ended(&self) -> Ended {
        self.session.ended().await
    }

    /// Unmounts, waits for the operations under way, writes everything out and gives the locks back.
    /// With `force` also if files are open: their users get errors.
    ///
    /// # Errors
    /// [`fuse::Error::Busy`] without `force`: the mount lives on, unchanged. Else what could not be
    /// written or did not end within `within`; it is unmounted then.
    pub async fn unmount(&self, within: Duration, force: bool) -> Result<(), Error> {
        let ended = if force {
            self.session.force_unmount(within).await
        } else {
            self.session.unmount(within).await
        };
        if let Err(error @ fuse::Error::Busy(_)) = ended {
            return Err(error.into());
        }
        // The kernel is gone or going; what was written must reach the disk in any case.
        let closed = self.fs.close().await;
        ended?;
        Ok(closed?)
    }

    /// Ends the kernel's connection: whoever waits for an answer gets an error at once.
    ///
    /// # Errors
    /// If the kernel does not allow it.
    pub fn abort(&self) -> Result<(), Error> {
        Ok(self.session.abort()?)
    }

    /// The file system.
    #[must_use]
    pub fn fs(&self) -> &Arc<Fs> {
        &self.fs
    }

    /// How many operations could not be answered at once, how often the kernel had to forget all names, and how
    /// many inodes it knows.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        Numbers {
            waited: self.session.waited(),
            epochs: self.session.notifier().epochs(),
            known: self.known.count() as u64,
        }
    }
}

/// Numbers of the kernel's side, for status and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Operations that had to wait for a lock or the disk.
    pub waited: u64,
    /// How often the names of the whole mount were forgotten.
    pub epochs: u64,
    /// Inodes that the kernel knows.
    pub known: u64,
}
