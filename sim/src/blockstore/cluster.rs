//! A simulated cluster: block servers, each the real engine on a disk of its own; the volume map; and who is alive.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use ::blockstore::{
    Fence,
    client::{Client, ClientConfig},
    engine::{Drive, Engine, EngineConfig},
    map::{Chart, MapClient, MapConfig, MapServer, MapService},
    message::Service,
    place::{GroupBits, ServerId},
    server::{Server, ServerConfig},
};
use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use world::{Address, Clock, Task, Tasks, Time, World};

use super::{
    faults::{Fault, Struck},
    net::{MapLine, Net, Phone, Place},
};
use crate::{
    dice::Dice,
    disk::SimDisk,
    executor::{Executor, MachineId, Pace},
};

/// The lease of servers.
pub(crate) const LEASE: Duration = Duration::from_secs(1);
/// Bytes of a server's disk, and what of them clients may not take. Extent files grow by 16 MiB.
pub(crate) const CAPACITY: u64 = 128 << 20;
const RESERVE: u64 = 32 << 20;
/// Uncommitted bytes from which on commits start by themselves.
const DIRTY: u64 = 512 << 10;
const CLUSTER: u128 = 7;

/// A running server, with its store.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) server: Arc<Server>,
    pub(crate) engine: Arc<Engine>,
}

type Slot = Arc<Mutex<Option<Running>>>;

/// The machine of a block server.
struct Machine {
    id: MachineId,
    world: World,
    disk: SimDisk,
    slow: Arc<Mutex<u64>>,
    slot: Slot,
    /// Small writes that its engine keeps before it folds them.
    fold: u64,
}

pub(crate) struct Cluster {
    pub(crate) executor: Executor,
    pub(crate) net: Net,
    pub(crate) map: Arc<MapServer>,
    map_world: World,
    machines: BTreeMap<Place, Machine>,
    dice: Dice,
    struck: Struck,
    drift: bool,
    /// Servers whose process ended by itself, to be started again.
    ended: Arc<Mutex<Vec<Place>>>,
}

impl Cluster {
    /// `servers` servers, `copies` copies.
    pub(crate) fn new(mut dice: Dice, servers: u64, copies: u8, drift: bool) -> Self {
        let mut executor = Executor::new(dice.fork());
        let struck = Struck::default();
        let net = Net::new(dice.fork(), struck.clone());
        let (_, map_world) = executor.machine(still());
        let config = MapConfig {
            cluster: CLUSTER,
            servers: (1..=servers).map(ServerId).collect(),
            replication: copies,
            bits: GroupBits([0, 1, 2][dice.pick(3)]),
            lease: LEASE,
            replace: Duration::from_secs(8),
            rate: 0,
        };
        let map = MapServer::solo(&map_world, config);
        let mut cluster = Self {
            executor,
            net,
            map,
            map_world,
            machines: BTreeMap::new(),
            dice,
            struck,
            drift,
            ended: Arc::default(),
        };
        for id in 1..=servers {
            cluster.install(id);
        }
        cluster
    }

    pub(crate) fn struck(&self) -> &Struck {
        &self.struck
    }

    /// A new machine for a server, with an empty disk.
    pub(crate) fn install(&mut self, id: Place) {
        let fast = if self.drift { 40_000 - self.dice.between(0, 80_000).cast_signed() } else { 0 };
        let pace = Pace { offset: self.dice.millis(0, 100_000), fast: fast / 4 };
        let (machine, world) = self.executor.machine(pace);
        let disk = SimDisk::new(self.dice.fork(), CAPACITY);
        let slow = Arc::new(Mutex::new(0));
        let tasks = Hands {
            tasks: Arc::clone(&world.tasks),
            clock: Arc::clone(&world.clock),
            dice: Mutex::new(self.dice.fork()),
            slow: Arc::clone(&slow),
            struck: self.struck.clone(),
        };
        let world = World { disk: Arc::new(disk.clone()), tasks: Arc::new(tasks), ..world };
        let fold = [0, 1, 1000][self.dice.pick(3)];
        let machine = Machine { id: machine, world, disk, slow, slot: Slot::default(), fold };
        self.machines.insert(id, machine);
    }

    pub(crate) fn servers(&self) -> Vec<Place> {
        self.machines.keys().copied().collect()
    }

    pub(crate) fn disk(&self, id: Place) -> Option<&SimDisk> {
        self.machines.get(&id).map(|machine| &machine.disk)
    }

    pub(crate) fn disks(&self) -> impl Iterator<Item = (Place, &SimDisk)> {
        self.machines.iter().map(|(id, machine)| (*id, &machine.disk))
    }

    /// Work on the disk takes so many milliseconds more.
    pub(crate) fn slow_down(&self, id: Place, millis: u64) {
        if let Some(machine) = self.machines.get(&id) {
            *machine.slow.lock() = millis;
        }
    }

    /// The servers that run.
    pub(crate) fn running(&self) -> Vec<(Place, Running)> {
        let running =
            self.machines.iter().filter_map(|(id, m)| Some((*id, m.slot.lock().clone()?)));
        running.collect()
    }

    pub(crate) fn is_running(&self, id: Place) -> bool {
        self.machines.get(&id).is_some_and(|machine| machine.slot.lock().is_some())
    }

    /// Servers whose process ended by itself since this was asked last.
    pub(crate) fn ended(&self) -> Vec<Place> {
        std::mem::take(&mut self.ended.lock())
    }

    pub(crate) fn freeze(&self, id: Place) {
        if let Some(machine) = self.machines.get(&id) {
            self.executor.freeze(machine.id);
        }
    }

    pub(crate) fn thaw(&self, id: Place) {
        if let Some(machine) = self.machines.get(&id) {
            self.executor.thaw(machine.id);
        }
    }

    pub(crate) fn map_client(&self, me: Place, world: &World) -> MapClient {
        let line = MapLine {
            net: self.net.clone(),
            me,
            world: world.clone(),
            there: self.map_world.clone(),
            map: Arc::clone(&self.map) as Arc<dyn MapService>,
        };
        MapClient::new(world, vec![(1, Arc::new(line) as Arc<dyn MapService>)])
    }

    /// The map's chart, as it is now.
    pub(crate) fn chart(&self) -> Option<Chart> {
        self.map.chart(0, Time::NEVER).now_or_never()?.ok()?
    }

    /// Starts a server on what its disk has.
    pub(crate) fn start(&self, id: Place) {
        let Some(machine) = self.machines.get(&id) else { return };
        let (disk, slot, world) =
            (machine.disk.clone(), Arc::clone(&machine.slot), machine.world.clone());
        let config = EngineConfig {
            dirty_limit: DIRTY,
            fold: machine.fold,
            ..EngineConfig::new(PathBuf::from("/data"), CLUSTER, ServerId(id))
        };
        let link = Arc::new(self.map_client(id, &world));
        let dial = Arc::new(Phone { net: self.net.clone(), me: id, world: world.clone() });
        let (net, ended, own) = (self.net.clone(), Arc::clone(&self.ended), world.clone());
        world.spawn("boot", async move {
            let index = |path: &std::path::Path| {
                // What a database does in its directory is not simulated; that it is there is.
                let _ = own.disk.create_dir_all(path);
                Ok(disk.index())
            };
            let address = Address::Unix(format!("/server/{id}").into());
            let server = ServerConfig { server: ServerId(id), address, reserve: RESERVE };
            let started = async {
                let engine = Arc::new(Engine::over(&own, config, index, Drive::Stepped).ok()?);
                let server = Server::start(&own, server, engine.clone(), link, dial).await.ok()?;
                Some(Running { server, engine })
            };
            let Some(running) = started.await else { return ended.lock().push(id) };
            net.attach(id, own.clone(), Arc::clone(&running.server) as Arc<dyn Service>);
            let server = Arc::clone(&running.server);
            *slot.lock() = Some(running);
            server.failure().await;
            ended.lock().push(id);
        });
    }

    /// A server's process is gone at once, with what it had in memory. `power`: how many percent of what its disk was not
    /// told to sync are kept; none: nothing of what it wrote is lost.
    pub(crate) fn kill(&mut self, id: Place, power: Option<u64>) {
        self.net.detach(id);
        let Some(machine) = self.machines.get(&id) else { return };
        self.executor.kill(machine.id);
        let gone = machine.slot.lock().take();
        drop(gone);
        let Some(percent) = power else { return machine.disk.let_go() };
        let loss = machine.disk.lose_power(percent);
        if loss.lost > 0 {
            self.struck.add(Fault::LostWrites);
        }
        if loss.is_torn() {
            self.struck.add(Fault::TornWrites);
        }
    }

    /// Stops a server in order; its machine says when it has ended.
    pub(crate) fn stop(&self, id: Place) -> bool {
        let Some((machine, running)) =
            self.machines.get(&id).and_then(|m| Some((m, m.slot.lock().clone()?)))
        else {
            return false;
        };
        let ended = Arc::clone(&self.ended);
        machine.world.spawn("stop", async move {
            // Clean or not, the process ends.
            let _ = running.server.stop(Duration::from_secs(2)).await;
            ended.lock().push(id);
        });
        true
    }

    /// Begins to open a disk for a session, on a machine of its own; it is put into the slot.
    pub(crate) fn open(
        &mut self,
        place: Place,
        session: u64,
        slot: Arc<Mutex<Option<Arc<Client>>>>,
    ) -> World {
        let (_, world) = self.executor.machine(still());
        let map = self.map_client(place, &world);
        let dial = Arc::new(Phone { net: self.net.clone(), me: place, world: world.clone() });
        let own = world.clone();
        world.spawn("open", async move {
            loop {
                let config = ClientConfig {
                    deadline: Duration::from_secs(600),
                    ..ClientConfig::new(Fence(session))
                };
                if let Ok(client) = Client::open(&own, map.clone(), dial.clone(), config).await {
                    *slot.lock() = Some(client);
                    return;
                }
            }
        });
        world
    }

    /// A clock that shows the true time.
    pub(crate) fn true_clock(&mut self) -> Arc<dyn Clock> {
        let exact = Pace { offset: Duration::ZERO, fast: 0 };
        self.executor.machine(exact).1.clock
    }

    /// A machine that only waits and asks.
    pub(crate) fn bystander(&mut self) -> World {
        self.executor.machine(still()).1
    }
}

fn still() -> Pace {
    Pace { offset: Duration::from_secs(1), fast: 0 }
}

/// Tasks of a machine whose work on its disk takes time.
struct Hands {
    tasks: Arc<dyn Tasks>,
    clock: Arc<dyn Clock>,
    dice: Mutex<Dice>,
    slow: Arc<Mutex<u64>>,
    struck: Struck,
}

impl Tasks for Hands {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        self.tasks.spawn(name, future)
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        let slow = *self.slow.lock();
        if slow > 0 {
            self.struck.add(Fault::SlowDisk);
        }
        let time = self.dice.lock().millis(0, 2 + slow);
        let timer = self.clock.sleep(time);
        // The handle does not end the task when it is dropped.
        let _ = self.tasks.spawn(
            "disk",
            Box::pin(async move {
                timer.await;
                work();
            }),
        );
    }

    fn thread(&self, name: &'static str, _: Box<dyn FnOnce() + Send>) {
        unreachable!("no simulated machine has a thread of its own: {name}");
    }
}
