//! Many groups on one log: they share its syncs and do not mix.

use std::{path::Path, time::Duration};

use crate::common::{CLUSTER, Sum, number};
use crate::faulty;
use replica::{GroupConfig, GroupId, Host, LocalMesh, Runtime};
use wire::NodeId;
use world::World;

const ME: NodeId = NodeId(1);
const GROUPS: u64 = 20;

async fn open(world: &World, dir: &Path) -> (Runtime, Vec<Host<Sum>>) {
    let runtime = Runtime::open(world, CLUSTER, ME, dir, false).await.unwrap();
    let mesh = LocalMesh::new(world);
    let mut hosts = Vec::new();
    for group in 1..=GROUPS {
        let mut config = GroupConfig::new(CLUSTER, GroupId(group), ME, vec![ME], dir.to_owned());
        config.checkpoint_every = 30;
        let (machine, transport) = (Sum::default(), mesh.transport(ME));
        let host = Host::open_on(world, &runtime, config, machine, transport).await.unwrap();
        let mut role = host.role();
        let soon = world.clock.now() + Duration::from_secs(10);
        let leads = world.until(soon, role.wait_for(|role| role.leads())).await;
        leads.expect("a node alone leads").unwrap();
        hosts.push(host);
    }
    (runtime, hosts)
}

async fn add_to_all(world: &World, hosts: &[Host<Sum>], times: u64) {
    let deadline = world.clock.now() + Duration::from_secs(20);
    let calls = hosts.iter().zip(1..).map(|(host, value)| {
        let host = host.clone();
        tokio::spawn(async move {
            for _ in 0..times {
                host.propose(number(value), deadline).await.unwrap();
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_share_syncs_and_each_has_its_own_state_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real();
    let fault = faulty::install(&mut world);
    let (runtime, hosts) = open(&world, dir.path()).await;
    let before = fault.syncs();
    add_to_all(&world, &hosts, 20).await;
    let spent = fault.syncs() - before;
    // By itself each command would have needed a sync of its own.
    assert!(spent < GROUPS * 20 / 2, "{spent} syncs for {} commands", GROUPS * 20);
    add_to_all(&world, &hosts, 40).await;
    for host in &hosts {
        host.stop().await;
    }
    drop(hosts);
    runtime.stop().await;
    drop(runtime);
    let (_runtime, hosts) = open(&world, dir.path()).await;
    for (host, value) in hosts.iter().zip(1..) {
        host.barrier(world.clock.now() + Duration::from_secs(10)).await.unwrap();
        assert_eq!(host.with(|sum| sum.sum), value * 60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_stopped_group_leaves_the_others_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::real();
    let (_runtime, hosts) = open(&world, dir.path()).await;
    hosts[0].stop().await;
    // A machine that panics on a command that is too short takes only itself down.
    let short = bytes::Bytes::from_static(b"short");
    let soon = world.clock.now() + Duration::from_secs(10);
    assert!(hosts[1].propose(short, soon).await.is_err());
    add_to_all(&world, &hosts[2..], 5).await;
    for (host, value) in hosts[2..].iter().zip(1..) {
        assert_eq!(host.with(|sum| sum.sum), value * 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_disk_stops_every_group() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::real();
    let fault = faulty::install(&mut world);
    let (_runtime, hosts) = open(&world, dir.path()).await;
    fault.fail_syncs();
    let soon = world.clock.now() + Duration::from_secs(10);
    assert!(hosts[3].propose(number(1), soon).await.is_err());
    for host in &hosts {
        let mut role = host.role();
        let stopped = role.wait_for(|role| *role == replica::Role::Stopped);
        world.until(soon, stopped).await.expect("stopped").unwrap();
    }
}
