//! How a schedule begins: the servers start, the volume is formatted, its directories are made.

use std::sync::Arc;
use std::time::Duration;

use ::blockstore::client::{Client, ClientConfig};
use ::blockstore::{Fence, VirtualDisk};
use ::fs::{Caller, Fs, InodeNo, Node, mkfs};
use ::lockservice::{Server, server};
use parking_lot::Mutex;
use world::World;

use super::{CLIENTS, LEASE, LOCK_SERVICE, MAKER, Schedule};
use crate::Error;
use crate::blockstore::net::Phone;
use crate::cluster::view::DIRECTORIES;

/// No session has this number.
const NOBODY: Fence = Fence(u64::MAX - 1);

impl Schedule {
    pub(super) fn begin(&mut self) -> Result<(), Error> {
        for id in self.servers.servers() {
            self.servers.start(id);
        }
        self.desks.push((LOCK_SERVICE, Arc::default()));
        self.lead_locks();
        let made = Arc::new(Mutex::new(false));
        let done = Arc::clone(&made);
        self.with_disk(|world, disk| async move {
            let root = mkfs::Root { uid: 0, gid: 0, mode: 0o777 };
            let formatted = mkfs::format(&world, &disk, root).await.is_ok();
            *done.lock() = formatted && disk.flush().await.is_ok();
        });
        self.until("the volume is formatted", |_| *made.lock())?;
        self.make_directories()
    }

    /// Another machine leads the lock service: it knows all that was agreed on, and no leases.
    pub(super) fn lead_locks(&mut self) {
        let pace = self.pace();
        let (machine, world) = self.servers.executor.machine(pace);
        let settings = server::Config { lease: LEASE };
        let server = Server::start(world.clone(), Arc::clone(&self.engine) as _, settings);
        if let Some((_, desk)) = self.desks.first() {
            let before = desk.lock().replace((world, server as _));
            drop(before);
        }
        if let Some(before) = self.locks.replace(machine) {
            self.servers.executor.kill(before);
        }
    }

    /// Has something done with the virtual disk, by nobody's session, on a machine of its own.
    pub(super) fn with_disk<F>(
        &mut self,
        work: impl FnOnce(World, Arc<dyn VirtualDisk>) -> F + Send + 'static,
    ) where
        F: Future<Output = ()> + Send,
    {
        let world = self.servers.bystander();
        let map = self.servers.map_client(MAKER, &world);
        let net = self.servers.net.clone();
        let dial = Arc::new(Phone { net, me: MAKER, world: world.clone() });
        let own = world.clone();
        world.spawn("with disk", async move {
            let disk = loop {
                let settings = ClientConfig::new(NOBODY);
                if let Ok(disk) = Client::open(&own, map.clone(), dial.clone(), settings).await {
                    break disk;
                }
                own.clock.sleep(Duration::from_millis(50)).await;
            };
            work(own, disk).await;
        });
    }

    fn make_directories(&mut self) -> Result<(), Error> {
        let mount = self.begin_mount(CLIENTS);
        let made = Arc::new(Mutex::new(None));
        let (slot, running) = (Arc::clone(&made), Arc::clone(&mount.running));
        let world = mount.world.clone();
        mount.world.spawn("make directories", async move {
            let running = loop {
                if let Some(running) = running.lock().clone() {
                    break running;
                }
                world.clock.sleep(Duration::from_millis(10)).await;
            };
            *slot.lock() = Some(directories(&running.view.fs).await);
        });
        self.until("the directories are made", |_| made.lock().is_some())?;
        self.servers.executor.kill(mount.machine);
        let dirs = made.lock().take().unwrap_or_else(|| Ok(Vec::new()));
        self.dirs = dirs.map_err(|error| self.stuck(format!("no directories: {error}")))?;
        Ok(())
    }
}

/// Makes the directories that clients work in, and unmounts.
async fn directories(fs: &Arc<Fs>) -> Result<Vec<InodeNo>, ::fs::Error> {
    let mut dirs = Vec::new();
    for name in DIRECTORIES {
        let node = Node::directory(0o777);
        let entry = fs.make(InodeNo::ROOT, name.as_bytes(), node, Caller::default()).await?;
        dirs.push(entry.attributes.ino);
    }
    fs.close().await?;
    Ok(dirs)
}
