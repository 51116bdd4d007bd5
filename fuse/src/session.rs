//! A mount from its beginning to its end: checks, options, event-loop threads, unmounting, aborting.
//! What the mounted file system does is not known here.

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use fuser::{Config, MountOption, SessionACL};
use tokio::sync::watch;
use world::World;

use crate::{
    Error, FileSystem,
    adapter::Adapter,
    answer::{Runner, Waiting},
    directory::Raw,
    kernel,
    notify::Notifier,
    windows::Windows,
};

/// How to mount.
#[derive(Clone, Debug)]
pub struct Options {
    /// The source string that `mount` and `df` show.
    pub source: String,
    /// The type that is shown after `fuse.`.
    pub subtype: String,
    /// Nothing may be changed.
    pub read_only: bool,
    /// Every change is on stable storage when it is answered; the file system sees to it.
    pub synchronous: bool,
    /// What the kernel shall refuse on this mount.
    pub without: Vec<Without>,
    /// Mount on a directory that has something in it.
    pub hide: bool,
    /// Event-loop threads.
    pub threads: usize,
    /// After how long a request that still waits is answered EIO.
    pub answer_within: Duration,
    /// Read-ahead of the kernel in bytes; needs root, else the kernel's own stays.
    pub read_ahead: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: "plumeria".to_owned(),
            subtype: "plumeria".to_owned(),
            read_only: false,
            synchronous: false,
            without: Vec::new(),
            hide: false,
            threads: 2,
            answer_within: Duration::from_secs(120),
            read_ahead: 1 << 20,
        }
    }
}

/// What a mount may be made without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// The set-user-id and set-group-id bits of programs count for nothing (`nosuid`).
    Suid,
    /// Device files cannot be opened (`nodev`).
    Devices,
    /// Programs cannot be started (`noexec`).
    Programs,
}

/// How a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was unmounted, by us or by somebody else.
    Unmounted,
    /// The event loop failed.
    Failed(String),
}

/// A mounted file system. Dropping it unmounts: detached, if it is in use.
pub struct Session {
    world: World,
    path: PathBuf,
    connection: Option<u32>,
    notifier: Notifier,
    ended: watch::Receiver<Option<Ended>>,
    waiting: Arc<Waiting>,
    raw: Arc<Raw>,
}

/// Mounts `system` on `path`.
///
/// # Errors
/// One per cause: see [`Error`]. Nothing is mounted then.
pub async fn serve<F: FileSystem>(
    world: &World,
    system: Arc<F>,
    path: &Path,
    options: &Options,
) -> Result<Session, Error> {
    let path = checked(world, path, options.hide).await?;
    let windows = Arc::new(Windows::default());
    let waiting = Arc::new(Waiting::default());
    let raw = Arc::new(Raw::default());
    let runner = Runner::new(world, windows.clone(), waiting.clone(), options.answer_within);
    let adapter = Adapter { system, runner, raw: raw.clone() };
    let config = config(options);
    let at = path.clone();
    let session = world
        .blocking(move || fuser::Session::new(adapter, &at, &config))
        .await
        .map_err(|error| refused(&path, error))?;
    let device = duplicate(session.as_fd())?;
    let notifier = Notifier::start(world, &device, windows)
        .map_err(|error| Error::io("duplicating the FUSE descriptor", error))?;
    raw.set(Some(device));
    let (sender, ended) = watch::channel(None);
    world.tasks.thread(
        "fuse-session",
        Box::new(move || {
            let end = match session.run() {
                Ok(()) => Ended::Unmounted,
                Err(error) => Ended::Failed(error.to_string()),
            };
            tracing::debug!(?end, "the FUSE session has ended");
            sender.send_replace(Some(end));
        }),
    );
    notifier.probe();
    let connection = kernel::mounted(&path)?.map(|mounted| mounted.connection);
    if let Some(connection) = connection {
        read_ahead(connection, options.read_ahead);
    }
    Ok(Session { world: world.clone(), path, connection, notifier, ended, waiting, raw })
}

/// A mount point that looks taken may only be dead; whoever asks that may have to wait.
async fn checked(world: &World, path: &Path, hide: bool) -> Result<PathBuf, Error> {
    match kernel::check(path, hide) {
        Err(Error::AlreadyMounted { path, what }) => {
            let probe = path.clone();
            let deadline = world.clock.now() + Duration::from_secs(1);
            let dead = world.until(deadline, world.blocking(move || kernel::is_dead(&probe))).await;
            match dead {
                Ok(true) => Err(Error::Dead(path)),
                Ok(false) | Err(_) => Err(Error::AlreadyMounted { path, what }),
            }
        }
        other => other,
    }
}

fn config(options: &Options) -> Config {
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::FSName(options.source.clone()),
        // In this form it reaches the kernel with and without the helper; the crate's own form only with it.
        MountOption::CUSTOM(format!("subtype={}", options.subtype)),
        // Without it, cached look-ups would pass by every permission check.
        MountOption::DefaultPermissions,
        if options.read_only { MountOption::RO } else { MountOption::RW },
    ];
    config.n_threads = Some(options.threads.max(1));
    if rustix::process::geteuid().is_root() {
        // As for a local disk: everybody may look, and the bits mean what they say.
        config.acl = SessionACL::All;
        let without = |what| options.without.contains(&what);
        config.mount_options.extend([
            if without(Without::Suid) { MountOption::NoSuid } else { MountOption::Suid },
            if without(Without::Devices) { MountOption::NoDev } else { MountOption::Dev },
        ]);
    }
    if options.without.contains(&Without::Programs) {
        config.mount_options.push(MountOption::NoExec);
    }
    config
}

fn refused(path: &Path, error: io::Error) -> Error {
    let text = error.to_string();
    if error.kind() == io::ErrorKind::PermissionDenied
        || text.contains("EPERM")
        || text.contains("ermission")
    {
        return Error::NotPermitted { path: path.to_owned(), reason: text.trim().to_owned() };
    }
    if error.kind() == io::ErrorKind::NotFound {
        let reason = "the helper fusermount3 is missing".to_owned();
        return Error::NotPermitted { path: path.to_owned(), reason };
    }
    Error::io(format!("mounting on {}", path.display()), error)
}

fn duplicate(device: impl AsFd) -> Result<OwnedFd, Error> {
    device
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| Error::io("duplicating the FUSE descriptor", error))
}

/// The kernel starts with 128 KiB whatever was negotiated; more must be asked for by another door.
fn read_ahead(connection: u32, bytes: u32) {
    let name = format!("/sys/class/bdi/0:{connection}/read_ahead_kb");
    let asked = std::fs::OpenOptions::new()
        .write(true)
        .open(&name)
        .and_then(|mut file| io::Write::write_all(&mut file, (bytes >> 10).to_string().as_bytes()));
    if let Err(error) = asked {
        tracing::debug!(name, %error, "the kernel's read-ahead stays as it is");
    }
}

impl Session {
    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The number of the kernel's connection; none if somebody unmounted it at once.
    #[must_use]
    pub const fn connection(&self) -> Option<u32> {
        self.connection
    }

    /// Tells the kernel what to forget.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        self.notifier.clone()
    }

    /// How many operations could not be answered at their first poll.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.waiting.total()
    }

    /// Ready when the session has ended, also by somebody else's `umount`.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.ended.clone();
        match ended.wait_for(Option::is_some).await {
            Ok(end) => end.clone().unwrap_or(Ended::Unmounted),
            Err(_) => Ended::Failed("the session's thread is gone".to_owned()),
        }
    }

    /// Unmounts and waits for the operations under way. Every wait ends with `within`.
    ///
    /// # Errors
    /// [`Error::Busy`]: nothing has changed, the mount lives on. [`Error::Slow`]: it is unmounted, but an
    /// operation still runs; [`Session::abort`] ends it for whoever waits.
    pub async fn unmount(&self, within: Duration) -> Result<(), Error> {
        self.end(within, false).await
    }

    /// As [`Session::unmount`], but a mount that is in use disappears from the tree now, and its
    /// connection is aborted: whoever still uses it gets errors.
    ///
    /// # Errors
    /// [`Error::Slow`].
    pub async fn force_unmount(&self, within: Duration) -> Result<(), Error> {
        match self.end(within, false).await {
            Err(Error::Busy(_)) => {
                let detached = self.end(Duration::from_millis(500), true).await;
                if detached.is_err() {
                    self.abort()?;
                    return self.drain(self.world.clock.now() + within).await;
                }
                Ok(())
            }
            other => other,
        }
    }

    async fn end(&self, within: Duration, detach: bool) -> Result<(), Error> {
        let deadline = self.world.clock.now() + within;
        if self.ended.borrow().is_none() {
            let (path, notifier) = (self.path.clone(), self.notifier.clone());
            let gone = self.world.blocking(move || {
                notifier.pause();
                let gone = kernel::unmount(&path, detach);
                if !matches!(gone, Ok(()) | Err(Error::NotMounted(_))) {
                    notifier.resume();
                }
                gone
            });
            match self.world.until(deadline, gone).await {
                Ok(Ok(()) | Err(Error::NotMounted(_))) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(self.slow("unmounting", within)),
            }
        }
        self.drain(deadline).await
    }

    /// The kernel has let go: nobody listens to notifications any more, and whoever waits for one is released.
    async fn drain(&self, deadline: world::Time) -> Result<(), Error> {
        let within = deadline.since(self.world.clock.now());
        let ended = self.world.until(deadline, self.ended()).await;
        let notifier = self.notifier.clone();
        self.world.blocking(move || notifier.disarm()).await;
        self.raw.set(None);
        if ended.is_err() {
            return Err(self.slow("the FUSE session", within));
        }
        match self.world.until(deadline, self.waiting.none()).await {
            Ok(()) => Ok(()),
            Err(_) => Err(self.slow("an operation", within)),
        }
    }

    fn slow(&self, what: &str, within: Duration) -> Error {
        Error::Slow {
            what: format!("{what} on {}", self.path.display()),
            seconds: within.as_secs(),
        }
    }

    /// Ends the kernel's connection: whoever waits for an answer gets an error at once.
    ///
    /// # Errors
    /// If the kernel does not allow it.
    pub fn abort(&self) -> Result<(), Error> {
        kernel::abort(&self.path)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.ended.borrow().is_none()
            && let Err(error) = kernel::unmount(&self.path, true)
        {
            tracing::warn!(%error, "a mount was dropped and could not be unmounted");
        }
        // The threads end by themselves: blocking here could wait for a stuck notification.
        let notifier = self.notifier.clone();
        self.world.tasks.blocking(Box::new(move || notifier.disarm()));
    }
}
