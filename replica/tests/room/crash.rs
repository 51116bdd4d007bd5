//! Power goes, again and again, and takes with it what was not synced: no command that was
//! acknowledged is lost, none happens twice.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use crate::common::{CLUSTER, GROUP, Sum, number};
use crate::power::PowerDisk;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use replica::{Caller, Client, ClientId, Door, Error, GroupConfig, Host, LocalMesh};
use wire::NodeId;
use world::{Time, World};

const NODES: u64 = 3;

struct Machine {
    world: World,
    disk: Arc<PowerDisk>,
    host: Arc<Mutex<Option<Host<Sum>>>>,
}

impl Machine {
    async fn start(&self, me: NodeId, mesh: &LocalMesh) {
        let nodes = (1..=NODES).map(NodeId).collect();
        let mut config = GroupConfig::new(CLUSTER, GROUP, me, nodes, "/node".into());
        // Often, so that power goes in the middle of a checkpoint and of a transfer too.
        config.checkpoint_every = 40;
        let host = Host::open(&self.world, config, Sum::default(), mesh.transport(me)).await;
        *self.host.lock() = Some(host.unwrap());
    }
}

/// The way to a node that is sometimes not there.
struct Way(Arc<Mutex<Option<Host<Sum>>>>);

#[async_trait]
impl Door for Way {
    async fn enrol(&self, deadline: Time) -> Result<ClientId, Error> {
        let host = self.0.lock().clone();
        host.ok_or(Error::NotLeader { leader: None })?.enrol(deadline).await
    }

    async fn call(&self, caller: Caller, command: Bytes, deadline: Time) -> Result<Bytes, Error> {
        let host = self.0.lock().clone();
        let host = host.ok_or(Error::NotLeader { leader: None })?;
        host.propose_once(caller, command, deadline).await
    }
}

async fn power_goes(seed: u64, all: bool) {
    let world = World::real();
    let mesh = LocalMesh::new(&world);
    let mut machines = BTreeMap::new();
    for me in (1..=NODES).map(NodeId) {
        let disk = Arc::new(PowerDisk::default());
        let world = World { disk: disk.clone(), ..world.clone() };
        let machine = Machine { world, disk, host: Arc::default() };
        machine.start(me, &mesh).await;
        machines.insert(me, machine);
    }
    let doors = machines.iter().map(|(node, machine)| {
        let door: Arc<dyn Door> = Arc::new(Way(machine.host.clone()));
        (*node, door)
    });
    let client = Arc::new(Client::new(&world, doors.collect()));
    let (deadline, stop) =
        (world.clock.now() + Duration::from_secs(60), Arc::new(AtomicU64::new(0)));
    let calls = (0..8).map(|_| {
        let (client, stop) = (client.clone(), stop.clone());
        tokio::spawn(async move {
            let mut done = 0;
            while stop.load(Ordering::Relaxed) == 0 {
                client.call(number(1), deadline).await.unwrap();
                done += 1;
            }
            done
        })
    });
    let calls: Vec<_> = calls.collect();
    for round in 0..12 {
        world.clock.sleep(Duration::from_millis(400 + 37 * ((seed + round) % 7))).await;
        let hit = |node: &NodeId| all || node.0 == (seed + round) % NODES + 1;
        for (_, machine) in machines.iter().filter(|(node, _)| hit(node)) {
            machine.disk.lose_power(seed * 100 + round);
        }
        for (node, machine) in machines.iter().filter(|(node, _)| hit(node)) {
            drop(machine.host.lock().take());
            machine.start(*node, &mesh).await;
        }
    }
    stop.store(1, Ordering::Relaxed);
    let mut acknowledged = 0;
    for call in calls {
        acknowledged += call.await.unwrap();
    }
    let reply = client.call(number(0), deadline).await.unwrap();
    assert_eq!(u64::from_le_bytes(reply[..].try_into().unwrap()), acknowledged);
    assert!(acknowledged > 200, "only {acknowledged} commands: the group hardly ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_when_all_nodes_lose_power() {
    power_goes(1, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_or_doubled_when_one_node_after_the_other_loses_power() {
    power_goes(2, false).await;
}
