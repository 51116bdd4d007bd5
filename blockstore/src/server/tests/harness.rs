//! A cluster of three block servers in one process, with a volume map that is not replicated.
#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use wire::{ClusterId, Identity, NodeId, Role};
use world::{Address, World};

use crate::{
    bulk::Lines,
    disk::Fence,
    link::Chain,
    map::{Chart, MAIN, MapClient, MapConfig, MapServer},
    message::{Change, Dial, Freshness, Reply, Request, Service, Ticket, Write, Writer, page_sums},
    place::{ChainVersion, Group, GroupBits, Sequence, ServerId, Volume},
    server::{Server, ServerConfig},
    store::{Store, mem::MemStore},
};

pub(super) const VOLUME: Volume = MAIN;
pub(super) const SESSION: u64 = 11;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn pattern(length: u64, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 512) as u8 ^ (i as u8).wrapping_mul(31) ^ seed).collect()
}

pub(super) struct Cluster {
    world: World,
    map: MapClient,
    lines: Lines,
    dir: Option<PathBuf>,
    memory: BTreeMap<u64, MemStore>,
    servers: BTreeMap<u64, Arc<Server>>,
    chart: parking_lot::Mutex<Option<Chart>>,
}

impl Cluster {
    pub(super) async fn start() -> Self {
        Self::start_on(None).await
    }

    pub(super) async fn start_on(dir: Option<PathBuf>) -> Self {
        let world = World::real();
        let config = MapConfig {
            cluster: 7,
            servers: (1..=3).map(ServerId).collect(),
            replication: 3,
            bits: GroupBits(3),
            lease: Duration::from_secs(3),
            replace: MapConfig::REPLACE,
            rate: 0,
        };
        let map = MapClient::new(&world, vec![(1, MapServer::solo(&world, config))]);
        let me = Identity { cluster: ClusterId(7), node: NodeId(1), role: Role::Block };
        let lines = Lines::new(&world, me);
        let memory = (1..=3).map(|server| (server, MemStore::new(u128::from(server)))).collect();
        let (servers, chart) = (BTreeMap::new(), parking_lot::Mutex::new(None));
        let mut cluster = Self { world, map, lines, dir, memory, servers, chart };
        for server in 1..=3 {
            cluster.restart(server).await;
        }
        cluster.serving().await;
        cluster
    }

    #[cfg(feature = "engine")]
    async fn engine(&self, dir: PathBuf, server: u64) -> Arc<dyn Store> {
        use crate::engine::{Engine, EngineConfig};
        let config = EngineConfig::new(dir.join(server.to_string()), 7, ServerId(server));
        for _ in 0..1000 {
            // The engine of the server that crashed may still hold the directory.
            match Engine::open(&self.world, config.clone()) {
                Ok(engine) => return Arc::new(engine),
                Err(error) => {
                    assert!(error.to_string().contains("in use"), "{error}");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            }
        }
        panic!("the directory is never let go");
    }

    #[cfg(not(feature = "engine"))]
    async fn engine(&self, _dir: PathBuf, _server: u64) -> Arc<dyn Store> {
        panic!("built without the engine")
    }

    #[cfg(feature = "engine")]
    pub(super) fn client_parts(&self) -> (MapClient, Arc<dyn Dial>) {
        (self.map.clone(), Arc::new(self.lines.clone()))
    }

    pub(super) fn server(&self, server: u64) -> &Server {
        &self.servers[&server]
    }

    pub(super) fn row(&self, offset: u64) -> Chain {
        let group = self.group(offset);
        self.chart(|chart| chart.chain(group).unwrap().clone())
    }

    pub(super) fn store(&self, server: u64) -> &MemStore {
        &self.memory[&server]
    }

    pub(super) async fn restart(&mut self, server: u64) {
        let store: Arc<dyn Store> = match &self.dir {
            Some(dir) => self.engine(dir.clone(), server).await,
            None => Arc::new(self.memory[&server].clone()),
        };
        let address = Address::Unix(format!("/nowhere/{server}").into());
        let config = ServerConfig { reserve: 0, ..ServerConfig::new(ServerId(server), address) };
        let (link, dial) = (Arc::new(self.map.clone()), Arc::new(self.lines.clone()));
        let started = Server::start(&self.world, config, store, link, dial).await.unwrap();
        self.lines.attach(ServerId(server), Arc::clone(&started) as Arc<dyn Service>);
        self.servers.insert(server, started);
    }

    /// The server is gone, and what it had not committed.
    pub(super) fn crash(&mut self, server: u64) {
        self.lines.detach(ServerId(server));
        self.servers.remove(&server);
        let after = self.memory[&server].restart();
        self.memory.insert(server, after);
    }

    pub(super) async fn stop(&mut self, server: u64) -> bool {
        let stopped = self.servers.remove(&server).unwrap();
        self.lines.detach(ServerId(server));
        let clean = stopped.stop(Duration::from_secs(1)).await.unwrap();
        let after = self.memory[&server].restart();
        self.memory.insert(server, after);
        clean
    }

    /// Waits until every chain serves.
    pub(super) async fn serving(&self) {
        let deadline = self.world.clock.now() + PATIENCE;
        while self.servers.values().any(|server| {
            let status = server.status();
            status.serving < 8
        }) {
            assert!(self.world.clock.now() < deadline, "the chains do not come to serve");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        *self.chart.lock() = self.map.chart(0, deadline).await.unwrap();
    }

    fn chart<R>(&self, look: impl FnOnce(&Chart) -> R) -> R {
        look(self.chart.lock().as_ref().unwrap())
    }

    pub(super) fn group(&self, offset: u64) -> Group {
        self.chart(|chart| chart.group_of(VOLUME, offset))
    }

    pub(super) fn same_group(&self, a: u64, b: u64) -> bool {
        self.group(a) == self.group(b)
    }

    pub(super) fn chain(&self, offset: u64) -> ChainVersion {
        let group = self.group(offset);
        self.chart(|chart| chart.chain(group).unwrap().version)
    }

    pub(super) fn member(&self, place: usize, offset: u64) -> u64 {
        let group = self.group(offset);
        self.chart(|chart| chart.chain(group).unwrap().members[place].server.0)
    }

    pub(super) async fn call(&self, place: usize, offset: u64, request: Request) -> Reply {
        self.call_for(place, offset, request, PATIENCE).await
    }

    async fn call_for(
        &self,
        place: usize,
        offset: u64,
        request: Request,
        patience: Duration,
    ) -> Reply {
        let server = ServerId(self.member(place, offset));
        let peer = self.lines.dial(server, &Address::Unix("/nowhere/x".into()));
        peer.call(request, self.world.clock.now() + patience).await.unwrap()
    }

    fn request(&self, sequence: u64, floor: u64, group: Group, change: Change) -> Request {
        let writer = Writer { session: Fence(SESSION), client: 1 };
        let ticket = Ticket { writer, sequence: Sequence(sequence), floor: Sequence(floor) };
        let chain = self.chart(|chart| chart.chain(group).unwrap().version);
        Request::Mutate { group, chain, ticket, change }
    }

    pub(super) async fn mutate(&self, sequence: u64, group: Group, change: Change) -> Reply {
        let server = self.chart(|chart| chart.chain(group).unwrap().members[0].server);
        let peer = self.lines.dial(server, &Address::Unix("/nowhere/x".into()));
        let deadline = self.world.clock.now() + PATIENCE;
        peer.call(self.request(sequence, 1, group, change), deadline).await.unwrap()
    }

    fn change(offset: u64, bytes: &[u8], durable: bool) -> Change {
        Change::Write(Write {
            volume: VOLUME,
            offset,
            durable,
            condition: None,
            sums: page_sums(offset, bytes),
            body: bytes.to_vec().into(),
        })
    }

    pub(super) async fn write(
        &self,
        sequence: u64,
        offset: u64,
        bytes: &[u8],
        durable: bool,
    ) -> Reply {
        self.write_with_floor(sequence, 1, offset, bytes, durable).await
    }

    pub(super) async fn write_with_floor(
        &self,
        sequence: u64,
        floor: u64,
        offset: u64,
        bytes: &[u8],
        durable: bool,
    ) -> Reply {
        let change = Self::change(offset, bytes, durable);
        let request = self.request(sequence, floor, self.group(offset), change);
        self.call(0, offset, request).await
    }

    pub(super) async fn try_write(
        &self,
        sequence: u64,
        offset: u64,
        bytes: &[u8],
        patience: Duration,
    ) -> Reply {
        let change = Self::change(offset, bytes, false);
        let request = self.request(sequence, 1, self.group(offset), change);
        self.call_for(0, offset, request, patience).await
    }

    pub(super) async fn read_reply(&self, place: usize, offset: u64, length: u32) -> Reply {
        let request = Request::Read {
            group: self.group(offset),
            chain: self.chain(offset),
            volume: VOLUME,
            offset,
            length,
            freshness: Freshness::Strong,
        };
        self.call(place, offset, request).await
    }

    pub(super) async fn read(&self, place: usize, offset: u64, length: usize) -> Vec<u8> {
        match self.read_reply(place, offset, u32::try_from(length).unwrap()).await {
            Reply::Data { body, .. } if body.is_empty() => vec![0; length],
            Reply::Data { body, sums, .. } => {
                assert_eq!(sums, page_sums(offset, &body));
                body.to_vec()
            }
            other => panic!("not read: {other:?}"),
        }
    }

    pub(super) async fn flush(&self, offset: u64) {
        for place in 0..3 {
            let groups = vec![(self.group(offset), self.chain(offset))];
            let reply = self.call(place, offset, Request::Flush { groups }).await;
            assert!(matches!(reply, Reply::Done { .. }), "{reply:?}");
        }
    }

    pub(super) async fn fence(&self, session: Fence) {
        self.map.fence(session, self.world.clock.now() + PATIENCE).await.unwrap();
    }
}
