//! The whole virtual disk in one process: three block servers on stores in memory, the volume map
//! of one coordinator without a log, and the client. Restarts, power losses and fences while a
//! client works.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::suite;
use blockstore::{
    BLOCK, CHUNK, Durability, Error, Fence, Offset, PAGE, VirtualDisk,
    bulk::Lines,
    client::{Client, ClientConfig},
    map::{Change, MapClient, MapConfig, MapServer, MapService},
    place::{GroupBits, ServerId},
    server::{Server, ServerConfig},
    store::mem::MemStore,
};
use bytes::Bytes;
use wire::{ClusterId, Identity, NodeId, Role};
use world::{Address, World};

struct Cluster {
    world: World,
    map: MapClient,
    lines: Lines,
    servers: BTreeMap<u64, (MemStore, Arc<Server>)>,
}

impl Cluster {
    async fn start() -> Self {
        let world = World::real();
        let config = MapConfig {
            cluster: 1,
            servers: (1..=3).map(ServerId).collect(),
            replication: 3,
            bits: GroupBits(6),
            lease: Duration::from_secs(1),
            replace: MapConfig::REPLACE,
            rate: 0,
        };
        let map: Arc<dyn MapService> = MapServer::solo(&world, config);
        let me = Identity { cluster: ClusterId(1), node: NodeId(9), role: Role::Mount };
        let mut cluster = Self {
            map: MapClient::new(&world, vec![(1, map)]),
            lines: Lines::new(&world, me),
            servers: BTreeMap::new(),
            world,
        };
        for server in 1..=3 {
            cluster.run(server, MemStore::new(u128::from(server))).await;
        }
        cluster
    }

    async fn run(&mut self, server: u64, store: MemStore) {
        let id = ServerId(server);
        let address = Address::Unix(format!("/server/{server}").into());
        let config = ServerConfig { server: id, address, reserve: 0 };
        let (link, dial) = (Arc::new(self.map.clone()), Arc::new(self.lines.clone()));
        let running =
            Server::start(&self.world, config, Arc::new(store.clone()), link, dial).await.unwrap();
        self.lines.attach(id, Arc::clone(&running) as _);
        self.servers.insert(server, (store, running));
    }

    /// Kills a server: what it had not committed is gone.
    fn kill(&mut self, server: u64) -> MemStore {
        let (store, running) = self.servers.remove(&server).unwrap();
        self.lines.detach(ServerId(server));
        drop(running);
        store.restart()
    }

    /// Waits until every chain has so many members, all of them equal.
    async fn whole(&self, members: usize) {
        let deadline = self.world.clock.now() + LONG;
        loop {
            let chart = self.map.chart(0, deadline).await.unwrap().unwrap();
            if chart.chains.iter().all(|chain| chain.equal && chain.members.len() == members) {
                return;
            }
            assert!(self.world.clock.now() < deadline, "the chains are not whole: {chart:?}");
            self.world.clock.sleep(Duration::from_millis(20)).await;
        }
    }

    async fn power_loss(&mut self) {
        let stores: Vec<(u64, MemStore)> = (1..=3).map(|id| (id, self.kill(id))).collect();
        for (server, store) in stores {
            self.run(server, store).await;
        }
    }

    async fn open(&self, session: u64, deadline: Duration) -> Arc<Client> {
        let mut config = ClientConfig::new(Fence(session));
        config.deadline = deadline;
        let dial = Arc::new(self.lines.clone());
        Client::open(&self.world, self.map.clone(), dial, config).await.unwrap()
    }
}

const LONG: Duration = Duration::from_secs(20);

fn page(byte: u8) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; PAGE as usize])]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_passes_the_suite() {
    let cluster = Cluster::start().await;
    let mut disks = BTreeMap::new();
    for session in 1..=8 {
        disks.insert(session, cluster.open(session, LONG).await as Arc<dyn VirtualDisk>);
    }
    suite::everything(&|session| Arc::clone(&disks[&session])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_of_one_server_at_a_time_are_pauses() {
    let mut cluster = Cluster::start().await;
    let disk = cluster.open(1, LONG).await;
    let writer = Arc::clone(&disk);
    let writes = async move {
        for number in 0..300_u64 {
            let bytes = page(number as u8 | 1);
            let when = if number % 10 == 0 { Durability::Now } else { Durability::Later };
            writer.write(Offset(number * 137 * BLOCK), bytes, when).await.unwrap();
            if number % 60 == 59 {
                writer.flush().await.unwrap();
            }
        }
    };
    let crashes = async {
        for server in [1, 3, 2] {
            let store = cluster.kill(server);
            cluster.world.clock.sleep(Duration::from_millis(30)).await;
            cluster.run(server, store).await;
            cluster.world.clock.sleep(Duration::from_millis(50)).await;
        }
    };
    futures_util::future::join(writes, crashes).await;
    cluster.power_loss().await;
    disk.flush().await.unwrap();
    cluster.power_loss().await;
    let reader = cluster.open(2, LONG).await;
    for number in 0..300_u64 {
        let bytes = reader.read(Offset(number * 137 * BLOCK), PAGE).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == number as u8 | 1), "page {number}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_down_is_waited_out_by_a_fence_and_cut_off() {
    let mut cluster = Cluster::start().await;
    let (dead, live) = (cluster.open(1, LONG).await, cluster.open(2, LONG).await);
    dead.write(Offset(0), page(1), Durability::Now).await.unwrap();
    let store = cluster.kill(2);
    let hasty = cluster.open(3, Duration::from_millis(300)).await;
    let stalled = hasty.write(Offset(0), page(2), Durability::Later).await;
    assert!(matches!(stalled, Err(Error::Stalled { .. })), "{stalled:?}");
    live.fence(Fence(1)).await.unwrap();
    live.write(Offset(PAGE), page(4), Durability::Now).await.unwrap();
    while let Err(error) = hasty.flush().await {
        assert!(matches!(error, Error::Stalled { .. }));
    }
    assert_eq!(live.read(Offset(0), PAGE).await.unwrap()[0], 2, "what stalled went on by itself");
    let refused = dead.write(Offset(0), page(3), Durability::Later).await;
    assert_eq!(refused, Err(Error::Fenced(1)));
    cluster.run(2, store).await;
    cluster.whole(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_server_is_a_pause_and_when_it_comes_back_it_is_brought_what_it_missed() {
    let mut cluster = Cluster::start().await;
    let disk = cluster.open(1, LONG).await;
    for number in 0..64 {
        disk.write(Offset(number * 3 * CHUNK), page(1), Durability::Later).await.unwrap();
    }
    disk.flush().await.unwrap();
    let store = cluster.kill(2);
    let began = cluster.world.clock.now();
    for number in 0..40 {
        disk.write(Offset(number * 3 * CHUNK), page(2), Durability::Later).await.unwrap();
        disk.discard(Offset((number + 100) * 3 * CHUNK), PAGE).await.unwrap();
    }
    disk.discard(Offset(50 * 3 * CHUNK), PAGE).await.unwrap();
    disk.flush().await.unwrap();
    let paused = cluster.world.clock.now().since(began);
    assert!(paused < Duration::from_secs(6), "a dead server held writes up for {paused:?}");
    cluster.run(2, store).await;
    cluster.whole(3).await;
    // Only the server that came back is left.
    cluster.kill(1);
    cluster.kill(3);
    let reader = cluster.open(2, LONG).await;
    for number in 0..64 {
        let expected = match number {
            50 => 0,
            0..40 => 2,
            _ => 1,
        };
        let bytes = reader.read(Offset(number * 3 * CHUNK), PAGE).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == expected), "page {number}: {}", bytes[0]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_is_added_and_another_drained_and_removed_while_a_client_writes() {
    let mut cluster = Cluster::start().await;
    let disk = cluster.open(1, LONG).await;
    let soon = |cluster: &Cluster| cluster.world.clock.now() + LONG;
    let add = Change::Add { server: ServerId(4), weight: 100, domain: String::new() };
    cluster.map.change(add, soon(&cluster)).await.unwrap();
    cluster.run(4, MemStore::new(4)).await;
    cluster.map.change(Change::Drain(ServerId(1)), soon(&cluster)).await.unwrap();
    let (mut number, mut longest) = (0_u64, Duration::ZERO);
    loop {
        let began = cluster.world.clock.now();
        let bytes = page((number % 255) as u8 + 1);
        disk.write(Offset(number * 137 * BLOCK), bytes, Durability::Now).await.unwrap();
        longest = longest.max(cluster.world.clock.now().since(began));
        number += 1;
        let servers = cluster.map.servers(soon(&cluster)).await.unwrap();
        let drained = servers.iter().any(|info| info.server.0 == 1 && info.groups == 0);
        if drained && number > 200 {
            break;
        }
        assert!(number < 20_000, "server 1 is never empty: {servers:?}");
    }
    assert!(longest < Duration::from_secs(3), "a write waited for {longest:?}");
    cluster.map.change(Change::Remove(ServerId(1)), soon(&cluster)).await.unwrap();
    cluster.kill(1);
    cluster.whole(3).await;
    let reader = cluster.open(2, LONG).await;
    for number in 0..number {
        let bytes = reader.read(Offset(number * 137 * BLOCK), PAGE).await.unwrap();
        assert!(bytes.iter().all(|byte| *byte == (number % 255) as u8 + 1), "page {number}");
    }
}
