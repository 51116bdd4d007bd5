//! The whole service for tests: coordinators in one process with logs on disk, and clerks that reach
//! them by call or over a socket.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use lockservice::{
    Clerk, Held, Holder, Mode, RecoverError, Recoverer, Remote, Router, Server, Service, SessionId,
    Span, Table, adapter, clerk, engine::Replicated, message::Kind, registry, server,
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
}

pub(crate) struct Cluster {
    pub(crate) world: World,
    pub(crate) nodes: Vec<Node>,
    pub(crate) mesh: LocalMesh,
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start(size: u64, lease: Duration) -> Self {
        let world = World::real();
        let mesh = LocalMesh::new(&world);
        let dir = TempDir::new().unwrap();
        let ids: Vec<NodeId> = (1..=size).map(NodeId).collect();
        let mut nodes = Vec::new();
        for id in &ids {
            let home = dir.path().join(format!("node{id}"));
            let config = GroupConfig::new(ClusterId(7), GroupId(1), *id, ids.clone(), home);
            let host = Host::open(&world, config, Table::new(), mesh.transport(*id)).await.unwrap();
            let engine = Arc::new(Replicated::new(host.clone()));
            let server = Server::start(world.clone(), engine, server::Config { lease });
            nodes.push(Node { host, server });
        }
        Self { world, nodes, mesh, dir }
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
            node.server.stop();
            node.host.stop().await;
        }
        drop(self.dir);
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
