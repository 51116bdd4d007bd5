//! A mount: a file-system client served to the kernel.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fs::Fs;
use lockservice::Registry;
use mount::Mount;
use world::{Task, World};

use crate::{
    failure::{Kind, OrFail as _, Outcome},
    launch,
    options::MountOptions,
    role::{Access, FileSystem, Tie, watchdog},
};

/// A mounted file system.
pub(crate) struct Mounted {
    mount: Mount,
    file_system: FileSystem,
    /// None if it was unmounted at once.
    watchdog: Option<Task>,
}

impl Mounted {
    /// Joins the cluster and mounts it; `source` is what the kernel's table of mounts shows.
    pub(crate) async fn start(
        world: &World,
        access: &Access,
        source: &Path,
        mountpoint: &Path,
        tie: Tie,
        how: &MountOptions,
        timeout: Duration,
    ) -> Outcome<Self> {
        let file_system = FileSystem::open(world, access, tie, how.read_only, timeout).await?;
        let options = mount::Options {
            source: source.display().to_string(),
            read_only: how.read_only,
            synchronous: how.synchronous,
            without: how.without.clone(),
            ..mount::Options::default()
        };
        match mount::serve(world, file_system.fs.clone(), mountpoint, &options).await {
            Ok(mount) => {
                let session = file_system.session();
                let watchdog = mount
                    .connection()
                    .map(|connection| watchdog::keep(world, session.clone(), connection));
                Ok(Self { mount, file_system, watchdog })
            }
            Err(error) => {
                file_system.close(world, timeout).await?;
                Err(error)
                    .or_fail(Kind::Failed, || format!("cannot mount on {}", mountpoint.display()))
            }
        }
    }

    /// The file system, for whoever uses it as a library in this process.
    pub(crate) fn fs(&self) -> Arc<Fs> {
        self.mount.fs().clone()
    }

    /// The registry, in the name of this mount's session.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.file_system.registry
    }

    /// Ready when somebody else has unmounted it.
    pub(crate) async fn unmounted(&self) {
        let _ = self.mount.ended().await;
    }

    /// Unmounts and writes everything back. Open files do not keep it: whoever asked to stop means it.
    pub(crate) async fn stop(self, timeout: Duration) -> Outcome {
        let stopped = self.mount.unmount(timeout, true).await;
        if let Some(watchdog) = self.watchdog {
            watchdog.abort();
        }
        self.file_system.leave();
        stopped.or_fail(Kind::Failed, || "cannot unmount cleanly".into())
    }
}

/// The process that serves a mount in the background, if its pid file is where we put it.
pub(crate) fn daemon_of(source: &Path, mountpoint: &Path) -> Option<u32> {
    let name = mountpoint.file_name()?.to_string_lossy();
    let beside: PathBuf = source.parent()?.join(format!("mount-{name}.pid"));
    launch::read_pid(&beside).filter(|pid| launch::is_alive(*pid))
}
