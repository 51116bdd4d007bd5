//! The data directory of `plumeria dev`: what lies where in it, which format and cluster it is, and
//! the lock that keeps a second process out.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use world::{Address, File, OpenMode, World};

use crate::{
    args::Dev,
    config::{self, Client, Peer},
    failure::{Failure, Kind, OrFail as _, Outcome},
};

/// The version of the layout that this program writes and reads.
const FORMAT: u32 = 1;
/// Block servers of a `dev` cluster.
const SERVERS: u64 = 3;
/// MapReduce workers of a `dev` cluster.
const WORKERS: u64 = 2;
/// The shortest lease: renewals every third of it must survive a busy machine.
const LEASE_MIN: Duration = Duration::from_secs(2);
/// A Unix socket's path must fit in the kernel's 108 bytes.
const SOCKET_PATH_MAX: usize = 100;

/// What is fixed when a data directory is made; `DIR/plumeria.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layout {
    /// The version of the layout.
    pub(crate) format: u32,
    /// The cluster's id.
    #[serde(with = "config::hex")]
    pub(crate) cluster: u128,
    pub(crate) coordinators: u8,
    pub(crate) replicas: u8,
    #[serde(with = "config::duration")]
    pub(crate) lease: Duration,
    /// Consensus groups among which the locks are divided.
    #[serde(default = "config::one", skip_serializing_if = "config::is_one")]
    pub(crate) lock_shards: u32,
}

/// A data directory, locked by this process until it is dropped.
pub(crate) struct DataDir {
    pub(crate) root: PathBuf,
    pub(crate) layout: Layout,
    sockets: PathBuf,
    _lock: Arc<dyn File>,
}

impl DataDir {
    /// Opens the data directory of `dev`, making it if there is none.
    pub(crate) fn open(world: &World, dev: &Dev) -> Outcome<Self> {
        let named = &dev.dir;
        let io = |doing: &str| format!("cannot {doing} the data directory {}", named.display());
        refuse_strangers(named)?;
        world.disk.create_dir_all(&named.join("run")).or_fail(Kind::Failed, || io("make"))?;
        let root = named.canonicalize().or_fail(Kind::Failed, || io("open"))?;
        let lock = lock(world, &root)?;
        let file = root.join("plumeria.toml");
        let layout = if file.is_file() {
            let layout = read_layout(&file)?;
            layout.check(dev)?;
            layout
        } else {
            let layout = Layout::new(world, dev)?;
            let text = toml::to_string(&layout).or_fail(Kind::Failed, || io("describe"))?;
            world.disk.replace(&file, text.as_bytes()).or_fail(Kind::Failed, || io("write to"))?;
            layout
        };
        let sockets = socket_dir(&root, layout.cluster)?;
        Ok(Self { root, layout, sockets, _lock: lock })
    }

    /// The directory of pid files, logs, sockets and generated configuration.
    pub(crate) fn run(&self) -> PathBuf {
        self.root.join("run")
    }

    /// The client configuration file, which also names the cluster in the kernel's table of mounts.
    pub(crate) fn client_file(&self) -> PathBuf {
        self.run().join("client.toml")
    }

    fn socket(&self, role: &str, node: u64) -> Address {
        Address::Unix(self.sockets.join(format!("{role}{node}.sock")))
    }

    /// What clients must know.
    pub(crate) fn client(&self) -> Client {
        let peers = |role: &str, nodes: &mut dyn Iterator<Item = u64>| -> Vec<Peer> {
            nodes.map(|node| Peer { node, address: self.socket(role, node) }).collect()
        };
        Client {
            cluster: self.layout.cluster,
            lease: self.layout.lease,
            coordinators: peers("c", &mut (1..=u64::from(self.layout.coordinators))),
            lock_shards: self.layout.lock_shards,
            workers: peers("w", &mut (21..21 + WORKERS)),
        }
    }

    /// The coordinators' configurations.
    pub(crate) fn coordinators(&self) -> Vec<config::Coordinator> {
        let client = self.client();
        let servers: Vec<u64> = first_servers();
        let one = |peer: &Peer| config::Coordinator {
            node: peer.node,
            dir: self.root.join(format!("coordinator-{}", peer.node)),
            replicas: self.layout.replicas,
            servers: servers.clone(),
            joining: false,
            client: client.clone(),
        };
        client.coordinators.iter().map(one).collect()
    }

    /// The block servers' configurations.
    pub(crate) fn blocks(&self) -> Vec<config::Block> {
        let client = self.client();
        let one = |node: u64| config::Block {
            node,
            dir: self.root.join(format!("block-{node}")),
            listen: self.socket("b", node),
            client: client.clone(),
        };
        servers(&self.root).into_iter().map(one).collect()
    }

    /// The workers' configurations.
    pub(crate) fn workers(&self) -> Vec<config::Worker> {
        let client = self.client();
        let one = |peer: &Peer| config::Worker {
            node: peer.node,
            scratch: self.root.join(format!("worker-{}", peer.node)),
            client: client.clone(),
        };
        client.workers.iter().map(one).collect()
    }
}

impl Layout {
    fn new(world: &World, dev: &Dev) -> Outcome<Self> {
        let mut id = [0; 16];
        world.dice.fill(&mut id);
        let layout = Self {
            format: FORMAT,
            cluster: u128::from_le_bytes(id),
            coordinators: dev.coordinators.unwrap_or(1),
            replicas: dev.replicas.unwrap_or(3),
            lease: dev.lease.unwrap_or(Duration::from_secs(30)),
            lock_shards: dev.lock_shards.unwrap_or(1),
        };
        if ![1, 3, 5].contains(&layout.coordinators) {
            return Err(Failure::usage(
                "--coordinators is 1, 3 or 5: a majority must be able to decide",
            ));
        }
        if !(1..=SERVERS).contains(&u64::from(layout.replicas)) {
            return Err(Failure::usage("--replicas is 1, 2 or 3: `dev` runs three block servers"));
        }
        if !(1..=lockservice::Shard::MOST).contains(&layout.lock_shards) {
            let most = lockservice::Shard::MOST;
            return Err(Failure::usage(format!("--lock-shards is between 1 and {most}")));
        }
        if layout.lease < LEASE_MIN {
            return Err(Failure::usage("--lease is at least 2s"));
        }
        Ok(layout)
    }

    /// Refuses flags that contradict what was fixed when the directory was made.
    fn check(&self, dev: &Dev) -> Outcome {
        let fixed = [
            (
                "--coordinators",
                dev.coordinators.is_none_or(|n| n == self.coordinators),
                self.coordinators.to_string(),
            ),
            (
                "--replicas",
                dev.replicas.is_none_or(|n| n == self.replicas),
                self.replicas.to_string(),
            ),
            (
                "--lease",
                dev.lease.is_none_or(|d| d == self.lease),
                humantime::format_duration(self.lease).to_string(),
            ),
        ];
        let shards = (
            "--lock-shards",
            dev.lock_shards.is_none_or(|n| n == self.lock_shards),
            self.lock_shards.to_string(),
        );
        for (flag, same, value) in fixed.into_iter().chain([shards]) {
            if !same {
                let dir = dev.dir.display();
                return Err(Failure::usage(format!(
                    "{dir} was made with {flag} {value}, which is fixed: leave the flag out, or use another directory"
                )));
            }
        }
        Ok(())
    }
}

/// The block servers that a cluster is made with.
fn first_servers() -> Vec<u64> {
    (11..11 + SERVERS).collect()
}

/// The block servers that run in a data directory; `DIR/servers.toml` once that has changed.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Servers {
    servers: Vec<u64>,
}

/// The block servers that run in a data directory.
fn servers(root: &Path) -> Vec<u64> {
    match config::read::<Servers>(&root.join("servers.toml")) {
        Ok(Servers { servers }) => servers,
        Err(_) => first_servers(),
    }
}

/// Notes that a block server was added or removed, if `cluster` is a data directory of `dev`: then
/// `dev` runs it, or no longer. Says whether it is one.
pub(crate) fn note_server(cluster: &Path, server: u64, there: bool) -> Outcome<bool> {
    if !cluster.join("plumeria.toml").is_file() {
        return Ok(false);
    }
    let mut all = servers(cluster);
    all.retain(|other| *other != server);
    if there {
        all.push(server);
    }
    all.sort_unstable();
    config::write(&cluster.join("servers.toml"), &Servers { servers: all })?;
    Ok(true)
}

fn read_layout(file: &Path) -> Outcome<Layout> {
    #[derive(Deserialize)]
    struct Version {
        format: u32,
    }
    let Version { format } = config::read(file)?;
    if format != FORMAT {
        let message = format!(
            "{} has format version {format}, but this program reads version {FORMAT}: use the program that made it; nothing was changed",
            file.parent().unwrap_or(file).display()
        );
        return Err(Failure::usage(message));
    }
    config::read(file)
}

/// A directory with content that is not ours stays untouched.
fn refuse_strangers(dir: &Path) -> Outcome {
    if !dir.exists() || dir.join("plumeria.toml").is_file() {
        return Ok(());
    }
    let shown = dir.display();
    let entries = std::fs::read_dir(dir)
        .or_fail(Kind::Usage, || format!("cannot read {shown} as a directory"))?;
    let strange = entries
        .filter_map(Result::ok)
        .any(|entry| entry.file_name() != "run" && entry.file_name() != "lock");
    if strange {
        return Err(Failure::usage(format!(
            "{shown} is neither empty nor a data directory of Plumeria: name another one"
        )));
    }
    Ok(())
}

fn lock(world: &World, root: &Path) -> Outcome<Arc<dyn File>> {
    let path = root.join("lock");
    let file = world
        .disk
        .open(&path, OpenMode::Create)
        .or_fail(Kind::Failed, || format!("cannot open {}", path.display()))?;
    file.lock().or_fail(Kind::Failed, || {
        let dir = root.display();
        format!("{dir} is in use by another process: stop it with `plumeria stop {dir}`")
    })?;
    Ok(file)
}

/// Whether a process holds the data directory.
pub(crate) fn in_use(world: &World, root: &Path) -> bool {
    match world.disk.open(&root.join("lock"), OpenMode::Write) {
        Ok(file) => file.lock().is_err(),
        Err(_) => false,
    }
}

/// Where sockets lie: in the run directory, or under /tmp where that path is too long for a socket.
fn socket_dir(root: &Path, cluster: u128) -> Outcome<PathBuf> {
    let run = root.join("run");
    if run.join("c1.sock").as_os_str().len() + 4 <= SOCKET_PATH_MAX {
        return Ok(run);
    }
    let short = std::env::temp_dir().join(format!("plumeria-{cluster:032x}"));
    std::fs::create_dir_all(&short)
        .or_fail(Kind::Failed, || format!("cannot make {}", short.display()))?;
    // Only the owner may connect, as with the data directory itself.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(&short, mode)
        .or_fail(Kind::Failed, || format!("cannot protect {}", short.display()))?;
    Ok(short)
}
