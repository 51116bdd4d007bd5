//! The whole service for tests: coordinators in one process with logs on disk, and clerks that reach
//! them by call or over a socket.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lockservice::{
    Clerk, Held, Holder, Member, Mode, RecoverError, Recoverer, Remote, Router, Server, Service,
    SessionId, Shard, Span, Table, adapter, clerk, engine::Replicated, message::Kind, registry,
    server,
};
use parking_lot::Mutex;
use replica::{GroupConfig, GroupId, Host, LocalMesh, Role};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wire::{ClusterId, Identity, NodeId, Serving};
use world::{Address, World};

pub(crate) const LEASE: Duration = Duration::from_millis(1500);
pub(crate) const SOON: Duration = Duration::from_secs(8);

pub(crate) struct Node {
    pub(crate) host: Host<Table>,
    pub(crate) server: Arc<Server>,
    /// Of the shards behind home.
    pub(crate) more: Vec<(Host<Table>, Arc<Server>)>,
}

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) nodes: Vec<Node>,
    pub(crate) mesh: LocalMesh,
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start(size: u64, lease: Duration) -> Self {
        Self::with_shards(size, lease, 1).await
    }

    pub(crate) async fn with_shards(size: u64, lease: Duration, shards: u32) -> Self {
        let world = World::real();
        let mesh = LocalMesh::new(&world);
        let dir = TempDir::new().unwrap();
        let ids: Vec<NodeId> = (1..=size).map(NodeId).collect();
        let mut nodes = Vec::new();
        for id in &ids {
            let home = dir.path().join(format!("node{id}"));
            let mut all = Vec::new();
            for shard in (0..shards).map(Shard) {
                let group = GroupId(u64::from(shard.0) + 1);
                let home = home.join(format!("shard{}", shard.0));
                let config = GroupConfig::new(ClusterId(7), group, *id, ids.clone(), home);
                let transport = mesh.transport(*id);
                let host = Host::open(&world, config, Table::of(shard), transport).await.unwrap();
                let engine = Arc::new(Replicated::new(host.clone()));
                let server = Server::start(world.clone(), engine, server::Config { lease });
                all.push((host, server));
            }
            let (host, server) = all.remove(0);
            nodes.push(Node { host, server, more: all });
        }
        let cluster = Self { world, nodes, mesh, dir };
        if shards > 1 {
            cluster.join_shards();
        }
        cluster
    }

    /// Each coordinator's servers become one service, and reach all others.
    fn join_shards(&self) {
        let servers = |node: &Node| -> Vec<Arc<Server>> {
            let more = node.more.iter().map(|(_, server)| Arc::clone(server));
            std::iter::once(Arc::clone(&node.server)).chain(more).collect()
        };
        let all: Vec<Vec<Arc<Server>>> = self.nodes.iter().map(servers).collect();
        let peers: Vec<Arc<dyn Service>> = (0..all[0].len())
            .map(|shard| {
                let member = |(servers, id): (&Vec<Arc<Server>>, u64)| -> Member {
                    (id, Arc::clone(&servers[shard]) as _)
                };
                let members = all.iter().zip(1..).map(member).collect();
                Router::new(self.world.clone(), members) as Arc<dyn Service>
            })
            .collect();
        all.iter().for_each(|servers| Server::join(servers, &peers));
    }

    pub(crate) fn router(&self) -> Arc<Router> {
        let members = self
            .nodes
            .iter()
            .zip(1..)
            .map(|(node, id)| (id, Arc::clone(&node.server) as Arc<dyn Service>))
            .collect();
        Router::new(self.world.clone(), members)
    }

    pub(crate) async fn join(
        &self,
        service: Arc<dyn Service>,
        owner: &str,
    ) -> (Arc<Clerk>, Arc<Notes>) {
        let clerk = Clerk::open(self.world.clone(), service, config(owner)).await.unwrap();
        let notes = Arc::new(Notes::default());
        clerk.attach(Arc::clone(&notes) as _, Some(Arc::clone(&notes) as _));
        (clerk, notes)
    }

    /// Serves the first coordinator on a socket.
    pub(crate) async fn serve(&self) -> Far {
        let me = Identity { cluster: ClusterId(7), node: NodeId(1), role: wire::Role::Coordinator };
        let address = Address::Unix(self.dir.path().join("lock.sock"));
        let server = &self.nodes[0].server;
        let serving = wire::Server::new(&self.world, me)
            .service(adapter(&self.world, Arc::clone(server) as _))
            .service(registry::adapter(&self.world, Arc::clone(server) as _))
            .serve(&address)
            .await
            .unwrap();
        Far { me: Identity { role: wire::Role::Mount, ..me }, address, serving }
    }

    pub(crate) async fn leader(&self) -> usize {
        let find = async {
            loop {
                let leads = |node: &Node| {
                    matches!(*node.host.role().borrow(), Role::Leader { ready: true, .. })
                };
                if let Some(at) = self.nodes.iter().position(leads) {
                    return at;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(SOON, find).await.unwrap()
    }

    pub(crate) async fn stop(self) {
        for node in self.nodes {
            node.stop().await;
        }
        drop(self.dir);
    }
}

impl Node {
    pub(crate) async fn stop(&self) {
        self.server.stop();
        self.more.iter().for_each(|(_, server)| server.stop());
        self.host.stop().await;
        for (host, _) in &self.more {
            host.stop().await;
        }
    }
}

/// A coordinator behind a socket.
pub(crate) struct Far {
    pub(crate) me: Identity,
    pub(crate) address: Address,
    serving: Serving,
}

impl Far {
    /// The service over connections that live in `world`.
    pub(crate) fn reach(&self, world: &World) -> Arc<dyn Service> {
        Router::new(world.clone(), vec![(1, Remote::new(world, self.me, &self.address) as _)])
    }

    pub(crate) async fn stop(self, world: &World) {
        self.serving.stop(world.clock.now() + Duration::from_secs(1)).await;
    }
}

pub(crate) fn config(owner: &str) -> clerk::Config {
    clerk::Config {
        owner: owner.to_owned(),
        host: "localhost".to_owned(),
        kind: Kind::Mount,
        replace: false,
        patience: Some(SOON),
    }
}

/// What happened to a clerk, in order.
#[derive(Default)]
pub(crate) struct Notes(pub(crate) Mutex<Vec<String>>);

#[async_trait]
impl Holder for Notes {
    async fn revoke(&self, span: Span, _: Option<Mode>) {
        self.0.lock().push(format!("revoke {span:?}"));
    }
    fn expired(&self) {
        self.0.lock().push("expired".to_owned());
    }
}

#[async_trait]
impl Recoverer for Notes {
    async fn recover(&self, dead: SessionId, held: Vec<Held>) -> Result<(), RecoverError> {
        self.0.lock().push(format!("fence {}", dead.0));
        sleep(Duration::from_millis(50)).await;
        self.0.lock().push(format!("replayed {} with {} locks", dead.0, held.len()));
        Ok(())
    }
}
