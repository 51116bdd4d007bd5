//! The volume map on three coordinators with logs on disk: a leader dies, the map and its fences
//! do not.

use std::{path::Path, sync::Arc, time::Duration};

use blockstore::{
    Fence, Space,
    link::{Heartbeat, Known, MapLink, Past, Registration},
    map::{Map, MapClient, MapConfig, MapServer, MapService, MapWire},
    place::{GroupBits, Incarnation, ServerId},
};
use replica::{GroupConfig, GroupId, Host, LocalMesh};
use tempfile::TempDir;
use wire::{ClusterId, Identity, NodeId, Role};
use world::{Address, World};

/// Longer than the test: not all servers renew it all the time.
const LEASE: Duration = Duration::from_secs(30);

struct Cluster {
    world: World,
    mesh: LocalMesh,
    nodes: Vec<(Host<Map>, Arc<MapServer>)>,
}

impl Cluster {
    async fn start(dir: &Path) -> Self {
        let world = World::real();
        let mesh = LocalMesh::new(&world);
        let ids: Vec<NodeId> = (1..=3).map(NodeId).collect();
        let mut nodes = Vec::new();
        for id in &ids {
            let home = dir.join(format!("node{id}"));
            let config = GroupConfig::new(ClusterId(7), GroupId(2), *id, ids.clone(), home);
            let host = Host::open(&world, config, Map::new(), mesh.transport(*id)).await.unwrap();
            nodes.push((host.clone(), MapServer::open(&world, host, settings())));
        }
        Self { world, mesh, nodes }
    }

    fn client(&self) -> MapClient {
        let peers = self.nodes.iter().zip(1..);
        let peers = peers.map(|((_, map), node)| (node, Arc::clone(map) as Arc<dyn MapService>));
        MapClient::new(&self.world, peers.collect())
    }

    fn leader(&self) -> NodeId {
        let leads = self.nodes.iter().zip(1..).find(|((host, _), _)| host.role().borrow().leads());
        NodeId(leads.unwrap().1)
    }
}

fn settings() -> MapConfig {
    MapConfig {
        cluster: 7,
        servers: (1..=3).map(ServerId).collect(),
        replication: 3,
        bits: GroupBits(4),
        lease: LEASE,
        replace: MapConfig::REPLACE,
        rate: 0,
    }
}

fn start(server: u64, start: u128) -> Registration {
    Registration {
        server: ServerId(server),
        directory: u128::from(server),
        start,
        address: Address::Unix(format!("/run/{server}").into()),
        past: Past::Clean,
        space: Space { total: 300, free: 200 },
    }
}

fn beat(server: u64, known: Known) -> Heartbeat {
    let (server, incarnation) = (ServerId(server), Incarnation(1));
    Heartbeat { server, incarnation, known, confirmed: known.fences, ..Heartbeat::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_map_outlives_its_leader_and_a_restart_of_all() {
    let dir = TempDir::new().unwrap();
    let cluster = Cluster::start(dir.path()).await;
    let client = cluster.client();
    let soon = || cluster.world.clock.now() + Duration::from_secs(8);
    for server in 1..=3 {
        assert_eq!(client.register(start(server, 1), soon()).await, Ok(Incarnation(1)));
    }
    let granted = client.heartbeat(beat(1, Known::default()), soon()).await.unwrap();
    assert_eq!(granted.lease, LEASE);
    assert_eq!(granted.news.chains.len(), 16);
    let before = client.chart(0, soon()).await.unwrap().unwrap();

    let began = cluster.world.clock.now();
    cluster.mesh.cut(cluster.leader());
    let after = client.chart(0, soon()).await.unwrap().unwrap();
    assert_eq!(before, after);

    // Servers that go on beating confirm the fence to the new leader.
    let fence = client.fence(Fence(9), soon());
    let beats = async {
        loop {
            for server in 1..=3 {
                let known = Known { map: after.version, fences: 0 };
                let granted = client.heartbeat(beat(server, known), soon()).await.unwrap();
                client.heartbeat(beat(server, granted.news.known), soon()).await.unwrap();
            }
            cluster.world.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        fenced = fence => fenced.unwrap(),
        () = beats => {}
    }
    let took = cluster.world.clock.now().since(began);
    assert!(took < Duration::from_secs(6), "a cut off leader held the fence up for {took:?}");
    for (host, _) in &cluster.nodes {
        host.stop().await;
    }

    let cluster = Cluster::start(dir.path()).await;
    let client = cluster.client();
    let granted = client.heartbeat(beat(2, Known::default()), soon()).await.unwrap();
    assert_eq!(granted.news.fenced, [Fence(9)]);
    assert_eq!(client.chart(0, soon()).await.unwrap().unwrap(), before);
}

#[tokio::test]
async fn whoever_asks_for_any_chart_is_held_up_by_a_frozen_coordinator_for_a_moment_only() {
    let world = World::real();
    let map = MapServer::solo(&world, settings());
    let began = world.clock.now();
    let until = began + Duration::from_secs(60);
    for server in 1..=3 {
        map.register(start(server, 1), until).await.unwrap();
    }
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("frozen");
    // The kernel takes connections for a process that is stopped, which never answers.
    let frozen = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let me = Identity { cluster: ClusterId(7), node: NodeId(3), role: Role::Block };
    let silent = Arc::new(MapWire::new(&world, me, &Address::Unix(path)));
    let client = MapClient::new(&world, vec![(2, silent), (1, map)]);
    let chart = client.chart(0, until).await.unwrap().unwrap();
    assert_eq!(chart.chains.len(), 16);
    let took = world.clock.now().since(began);
    assert!(took < Duration::from_secs(20), "a frozen coordinator held the chart up for {took:?}");
    drop(frozen);
}
