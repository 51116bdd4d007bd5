//! A file-system client: a session with its clerk, the virtual disk, and the file system on both.
//! Mounts serve it to the kernel; workers and tools use it as a library.

use std::{path::Path, sync::Arc, time::Duration};

use blockstore::{
    Fence, VirtualDisk,
    client::{Client, ClientConfig},
};
use fs::{
    Fs,
    layout::geometry::{LOCK_INODES, LOCK_VOLUME},
    mkfs::Root,
};
use lockservice::{
    Clerk, Locks as _, Mode, Name, Registry, Span, clerk, message::Kind as SessionKind,
};
use serde_json::json;
use world::{Task, World};

use crate::{
    failure::{Kind, OrFail as _, Outcome},
    role::{Access, known},
};

/// After how long without use an inode's lock is given back.
const IDLE: Duration = Duration::from_secs(3600);
/// How often the numbers for `plumeria status` are refreshed.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// Who opens a session.
#[derive(Clone, Debug)]
pub(crate) struct Tie {
    kind: SessionKind,
    owner: String,
    mountpoint: Option<String>,
    /// `plumeria dev` started it and stops it.
    dev: bool,
    /// Its older sessions are known to be dead.
    replace: bool,
    /// The host that it is known to be on.
    host: Option<String>,
}

impl Tie {
    /// A mount; one of `dev` proves by the lock of its data directory that its predecessor is dead.
    pub(crate) fn mount(mountpoint: &Path, dev: bool) -> Self {
        let shown = mountpoint.display().to_string();
        let owner = if dev { "dev mount".to_owned() } else { format!("mount {shown}") };
        Self {
            kind: SessionKind::Mount,
            owner,
            mountpoint: Some(shown),
            dev,
            replace: dev,
            host: None,
        }
    }

    /// A worker, whose scratch directory is locked; `host` is what its address tells.
    pub(crate) fn worker(node: u64, host: Option<String>) -> Self {
        Self {
            kind: SessionKind::Worker,
            owner: format!("worker {node}"),
            mountpoint: None,
            dev: true,
            replace: true,
            host,
        }
    }

    /// A command that comes and goes.
    pub(crate) fn tool(name: &str) -> Self {
        let owner = format!("{name} {}", std::process::id());
        Self {
            kind: SessionKind::Tool,
            owner,
            mountpoint: None,
            dev: false,
            replace: false,
            host: None,
        }
    }
}

/// A file system that is started but not mounted.
pub(crate) struct FileSystem {
    pub(crate) fs: Arc<Fs>,
    /// The registry, in the name of the same session.
    pub(crate) registry: Registry,
    clerk: Arc<Clerk>,
    reporter: Task,
}

impl FileSystem {
    /// Opens a session and starts the file system under it; formats the volume if it is new.
    pub(crate) async fn open(
        world: &World,
        access: &Access,
        tie: Tie,
        read_only: bool,
        timeout: Duration,
    ) -> Outcome<Self> {
        let clerk = Self::clerk(world, access, &tie).await?;
        let disk = disk(world, access, (clerk.session().0, tie.host.clone())).await?;
        let cannot = || "cannot start the file system".to_owned();
        let deadline = world.clock.now() + timeout;
        let found = world.until(deadline, fs::mkfs::superblock(&disk)).await;
        if found.or_fail(Kind::Unreachable, cannot)?.is_err() {
            let formatted = world.until(deadline, format(world, access)).await;
            formatted.or_fail(Kind::Unreachable, cannot)??;
        }
        let config = fs::Config { read_only, ..fs::Config::default() };
        let fs = Fs::new(world.clone(), disk.clone(), clerk.clone(), config);
        let recovery = fs::Recovery::new(world.clone(), disk.clone());
        clerk.attach(fs.clone(), Some(recovery));
        let started = world.until(deadline, fs.start()).await;
        started.or_fail(Kind::Unreachable, cannot)?.or_fail(Kind::Failed, cannot)?;
        // Inode locks are asked for before every use, so they can go when nobody uses them.
        let first = Name::new(LOCK_INODES, 0, 0);
        if let Some(inodes) = Span::new(first, Name::new(LOCK_INODES + 1, 0, 0)) {
            clerk.give_back_after(IDLE, inodes);
        }
        let registry = clerk.registry();
        if let Some(mountpoint) = &tie.mountpoint {
            let session = clerk.session().0.to_string();
            let about = json!({ "what": mountpoint, "owner": tie.owner });
            known::register(world, &registry, (known::MOUNTS, &session), about).await;
        }
        let report = report(world.clone(), fs.clone(), clerk.clone(), disk, tie);
        let reporter = world.spawn("report", report);
        Ok(Self { fs, registry, clerk, reporter })
    }

    /// A session without a file system: for tools that only look.
    pub(crate) async fn clerk(world: &World, access: &Access, tie: &Tie) -> Outcome<Arc<Clerk>> {
        let config = clerk::Config {
            owner: tie.owner.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            kind: tie.kind,
            replace: tie.replace,
            patience: None,
        };
        let apart = access.apart.clone();
        let apart = move |world: &World| apart(world);
        Clerk::open_apart(world.clone(), access.locks.clone(), config, apart)
            .await
            .or_fail(Kind::Unreachable, || "cannot open a session with the lock service".into())
    }

    /// The session's side of the lock service.
    pub(crate) const fn session(&self) -> &Arc<Clerk> {
        &self.clerk
    }

    /// Writes everything out and ends the session.
    pub(crate) async fn close(self, world: &World, timeout: Duration) -> Outcome {
        self.reporter.abort();
        let cannot = || "cannot write everything back".to_owned();
        let closed = world.until(world.clock.now() + timeout, self.fs.close()).await;
        closed.or_fail(Kind::Failed, cannot)?.or_fail(Kind::Failed, cannot)
    }

    /// The file system's end was somebody else's business (a mount closes it).
    pub(crate) fn leave(self) {
        self.reporter.abort();
    }
}

/// Formats a new volume. Mounts and workers of a new cluster start side by side, and only one may
/// format: whoever has the volume's lock; the others find it done.
async fn format(world: &World, access: &Access) -> Outcome {
    let cannot = || "cannot format the volume".to_owned();
    let clerk = FileSystem::clerk(world, access, &Tie::tool("format")).await?;
    clerk.attach(Arc::new(clerk::Nothing), None);
    let whole = Span::one(Name::new(LOCK_VOLUME, 0, 0));
    let pin = clerk.acquire(whole, whole, Mode::Exclusive).await.or_fail(Kind::Failed, cannot)?;
    let disk = disk(world, access, (clerk.session().0, None)).await?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let root = Root { uid, gid, mode: 0o755 };
    fs::mkfs::format(world, &disk, root).await.or_fail(Kind::Failed, cannot)?;
    disk.flush().await.or_fail(Kind::Failed, cannot)?;
    drop(pin);
    clerk.close().await.or_fail(Kind::Failed, cannot)
}

/// The virtual disk, for writes of `session`; what is on `host` is read there.
pub(crate) async fn disk(
    world: &World,
    access: &Access,
    (session, host): (u64, Option<String>),
) -> Outcome<Arc<dyn VirtualDisk>> {
    let settings = ClientConfig { near: host, ..ClientConfig::new(Fence(session)) };
    let disk = Client::open(world, access.map.clone(), Arc::new(access.lines.clone()), settings)
        .await
        .or_fail(Kind::Unreachable, || "cannot open the virtual disk".into())?;
    Ok(disk)
}

/// Keeps the numbers that renewals carry fresh.
async fn report(
    world: World,
    fs: Arc<Fs>,
    clerk: Arc<Clerk>,
    disk: Arc<dyn VirtualDisk>,
    tie: Tie,
) {
    loop {
        let (numbers, traffic) = (fs.numbers(), disk.traffic());
        let report = json!({
            "mountpoint": tie.mountpoint,
            "pid": std::process::id(),
            "dev": tie.dev,
            "dirty_bytes": numbers.dirty_bytes,
            "dirty_metadata_bytes": numbers.dirty_metadata,
            "cached_bytes": numbers.cached_bytes,
            "operations": numbers.operations,
            "waits": numbers.waits,
            "log_pushes": numbers.pushes,
            "revocations": numbers.revocations,
            "lock_messages": clerk.messages(),
            "disk_requests": traffic.reads + traffic.writes + traffic.flushes + traffic.discards,
            "reads": traffic.reads,
            "read_bytes": traffic.read_bytes,
            "writes": traffic.writes,
            "written_bytes": traffic.written_bytes,
            "flushes": traffic.flushes,
            "discards": traffic.discards,
        });
        clerk.report(report.to_string());
        world.clock.sleep(REPORT_EVERY).await;
    }
}
