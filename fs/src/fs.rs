//! The mount: what it is made of, how it starts and ends. The operations are in `op`.

use std::sync::Arc;

use async_trait::async_trait;
use blockstore::VirtualDisk;
use lockservice::{Holder, Locks, Mode, Span};
use world::World;

use crate::{
    config::{Config, Numbers},
    error::Error,
    kernel::KernelCache,
};

/// A mounted file system.
///
/// How to start one: [`Fs::new`], then give it to the clerk as its [`Holder`] (and a
/// `Recovery` as its recoverer), then [`Fs::start`].
pub struct Fs {
    pub(crate) config: Config,
}

impl Fs {
    /// A file system that was not started yet; touches neither disk nor locks.
    #[must_use]
    pub fn new(
        _world: World,
        _disk: Arc<dyn VirtualDisk>,
        _locks: Arc<dyn Locks>,
        config: Config,
    ) -> Arc<Self> {
        Arc::new(Self { config })
    }

    /// Reads the superblock, takes a log and starts the background work. The clerk must know this
    /// holder by now.
    ///
    /// # Errors
    /// If the volume has no file system of this format, or disk or locks fail.
    pub async fn start(self: &Arc<Self>) -> Result<(), Error> {
        Err(Error::NotSupported)
    }

    /// Lets the file system tell the kernel what to forget. Without one nothing is told.
    pub fn attach_kernel(&self, _kernel: Arc<dyn KernelCache>) {}

    /// Writes everything out, stops the background work and gives the locks up, the session
    /// included. Operations called afterwards fail.
    ///
    /// # Errors
    /// If something could not be written.
    pub async fn close(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Numbers for status and tests.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        Numbers::default()
    }
}

#[async_trait]
impl Holder for Fs {
    async fn revoke(&self, _span: Span, _keep: Option<Mode>) {}

    fn expired(&self) {}
}
