//! A file-system client as a process: a session, the virtual disk, the file system on both, and what is above it.

use std::sync::Arc;
use std::time::Duration;

use ::blockstore::client::{Client, ClientConfig};
use ::blockstore::{Fence, VirtualDisk};
use ::fs::{Config, Fs, Recovery};
use ::lockservice::message::Kind;
use ::lockservice::{Clerk, Locks, Router, Service, clerk};
use parking_lot::Mutex;
use world::World;

use super::locks::{Desk, LockLine};
use super::view::View;
use crate::blockstore::cluster::Cluster as Servers;
use crate::blockstore::net::{Phone, Place};
use crate::executor::{MachineId, Pace};

/// A file system that is mounted.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) view: View,
    pub(super) clerk: Arc<Clerk>,
}

/// A process that mounts, and what came of it.
pub(super) struct Mount {
    pub(super) place: Place,
    pub(super) machine: MachineId,
    pub(super) world: World,
    pub(super) running: Arc<Mutex<Option<Running>>>,
}

/// What a mount needs to reach the cluster.
pub(super) struct Ways<'a> {
    pub(super) servers: &'a mut Servers,
    pub(super) desks: &'a [(Place, Desk)],
    pub(super) config: Config,
    /// Whether a kernel keeps what it was told.
    pub(super) keeps: bool,
}

impl Mount {
    /// Begins a process that mounts, and tries again while that fails.
    pub(super) fn begin(place: Place, pace: Pace, ways: Ways<'_>) -> Self {
        let Ways { servers, desks, config, keeps } = ways;
        let (machine, world) = servers.executor.machine(pace);
        let net = servers.net.clone();
        let members = desks.iter().map(|(there, desk)| {
            let line = LockLine {
                net: net.clone(),
                me: place,
                world: world.clone(),
                there: *there,
                desk: Arc::clone(desk),
            };
            (*there, Arc::new(line) as Arc<dyn Service>)
        });
        let locks = Router::new(world.clone(), members.collect());
        let map = servers.map_client(place, &world);
        let dial = Arc::new(Phone { net, me: place, world: world.clone() });
        let own = world.clone();
        let running = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&running);
        world.spawn("mount", async move {
            loop {
                let disk = |fence| {
                    let settings = ClientConfig::new(fence);
                    Client::open(&own, map.clone(), dial.clone(), settings)
                };
                if let Ok(ready) = start(&own, &locks, disk, (config.clone(), keeps)).await {
                    *slot.lock() = Some(ready);
                    return;
                }
                own.clock.sleep(Duration::from_millis(200)).await;
            }
        });
        Self { place, machine, world, running }
    }
}

/// One try to mount.
async fn start<F>(
    world: &World,
    locks: &Arc<Router>,
    disk: impl Fn(Fence) -> F + Send,
    (config, keeps): (Config, bool),
) -> Result<Running, Box<dyn std::error::Error + Send + Sync>>
where
    F: Future<Output = Result<Arc<Client>, ::blockstore::Error>> + Send,
{
    let settings = clerk::Config {
        owner: "mount".to_owned(),
        host: "simulated".to_owned(),
        kind: Kind::Mount,
        replace: false,
        patience: None,
    };
    let clerk = Clerk::open(world.clone(), Arc::clone(locks) as _, settings).await?;
    let disk: Arc<dyn VirtualDisk> = disk(Fence(clerk.session().0)).await?;
    let fs = Fs::new(world.clone(), Arc::clone(&disk), Arc::clone(&clerk) as _, config);
    let recovery = Recovery::new(world.clone(), disk);
    clerk.attach(Arc::clone(&fs) as _, Some(recovery as _));
    let view = View::new(world, Arc::clone(&fs), keeps);
    fs.start().await?;
    view.walk().await?;
    Ok(Running { view, clerk })
}
