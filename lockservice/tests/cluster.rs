//! The whole service: three coordinators in one process with logs on disk, clerks that reach them
//! by call or over sockets; a leader dies, a clerk dies.
#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use lockservice::{
    Clerk, Held, Holder, Locks, Mode, Name, RecoverError, Recoverer, Remote, Router, Server,
    Service, SessionId, Span, Table, adapter, clerk, engine::Replicated, message::Kind, server,
};
use parking_lot::Mutex;
use replica::{GroupConfig, GroupId, Host, LocalMesh, Role};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use wire::{ClusterId, Identity, NodeId};
use world::{Address, World};

const LEASE: Duration = Duration::from_millis(1500);
const SOON: Duration = Duration::from_secs(8);

struct Node {
    host: Host<Table>,
    server: Arc<Server>,
}

struct Cluster {
    world: World,
    nodes: Vec<Node>,
    mesh: LocalMesh,
    dir: TempDir,
}

impl Cluster {
    async fn start(size: u64, lease: Duration) -> Self {
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

    fn router(&self) -> Arc<Router> {
        let members = self
            .nodes
            .iter()
            .zip(1..)
            .map(|(node, id)| (id, Arc::clone(&node.server) as Arc<dyn Service>))
            .collect();
        Router::new(self.world.clone(), members)
    }

    async fn join(&self, service: Arc<dyn Service>, owner: &str) -> (Arc<Clerk>, Arc<Notes>) {
        let config = clerk::Config {
            owner: owner.to_owned(),
            host: "localhost".to_owned(),
            kind: Kind::Mount,
            able: true,
            replace: false,
            patience: Some(SOON),
        };
        let clerk = Clerk::open(self.world.clone(), service, config).await.unwrap();
        let notes = Arc::new(Notes::default());
        clerk.attach(Arc::clone(&notes) as _, Some(Arc::clone(&notes) as _));
        (clerk, notes)
    }

    async fn leader(&self) -> usize {
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

    async fn stop(self) {
        for node in self.nodes {
            node.server.stop();
            node.host.stop().await;
        }
        drop(self.dir);
    }
}

/// What happened to a clerk, in order.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

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

fn one(index: u32) -> Span {
    Span::one(Name::new(1, 0, index))
}

async fn get(clerk: &Clerk, index: u32) -> lockservice::Pin {
    clerk.acquire(one(index), one(index), Mode::Exclusive).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_outlive_the_leader_and_pass_on_under_the_next() {
    let cluster = Cluster::start(3, LEASE).await;
    let (a, a_notes) = cluster.join(cluster.router(), "a").await;
    let (b, b_notes) = cluster.join(cluster.router(), "b").await;
    drop(get(&a, 1).await);
    let before = a.held(Name::new(1, 0, 1), Mode::Exclusive).unwrap();
    let leader = cluster.leader().await;
    cluster.mesh.cut(NodeId(leader as u64 + 1));
    cluster.nodes[leader].server.stop();
    cluster.nodes[leader].host.stop().await;

    assert_eq!(a.held(Name::new(1, 0, 1), Mode::Exclusive), Some(before));
    drop(get(&b, 2).await);
    drop(get(&b, 1).await);
    assert!(a.held(Name::new(1, 0, 1), Mode::Shared).is_none());
    sleep(LEASE * 2).await;
    assert!(b.held(Name::new(1, 0, 1), Mode::Exclusive).is_some(), "leases were renewed");
    assert_eq!(a_notes.0.lock().len(), 1, "one revocation, nothing else");
    assert!(b_notes.0.lock().is_empty());
    a.close().await.unwrap();
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_clerk_is_fenced_and_replayed_before_its_locks_pass_on() {
    let cluster = Cluster::start(3, LEASE).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    let (b, notes) = cluster.join(cluster.router(), "b").await;
    drop(get(&a, 1).await);
    drop(get(&a, 3).await);
    let dead = a.session().0;
    let began = Instant::now();
    a.abandon();
    drop(get(&b, 1).await);
    let took = began.elapsed();
    assert_eq!(*notes.0.lock(), [format!("fence {dead}"), format!("replayed {dead} with 2 locks")]);
    assert!(took < LEASE + Duration::from_secs(1), "{took:?}");
    assert!(took > LEASE / 2, "not before the lease was over: {took:?}");
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clerk_without_coordinators_stops_using_its_locks_before_they_could_pass_on() {
    let cluster = Cluster::start(1, LEASE).await;
    let (a, notes) = cluster.join(cluster.router(), "a").await;
    drop(get(&a, 1).await);
    let began = Instant::now();
    cluster.nodes[0].server.stop();
    cluster.nodes[0].host.stop().await;
    while notes.0.lock().is_empty() && began.elapsed() < SOON {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() < LEASE, "{:?}", began.elapsed());
    assert_eq!(*notes.0.lock(), ["expired"]);
    assert!(a.held(Name::new(1, 0, 1), Mode::Shared).is_none());
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clerks_work_the_same_over_a_socket() {
    let cluster = Cluster::start(1, LEASE).await;
    let me = Identity { cluster: ClusterId(7), node: NodeId(1), role: wire::Role::Coordinator };
    let address = Address::Unix(cluster.dir.path().join("lock.sock"));
    let service = Arc::clone(&cluster.nodes[0].server) as Arc<dyn Service>;
    let serving = wire::Server::new(&cluster.world, me)
        .service(adapter(&cluster.world, service))
        .serve(&address)
        .await
        .unwrap();
    let mount = Identity { role: wire::Role::Mount, ..me };
    let remote = || {
        Router::new(
            cluster.world.clone(),
            vec![(1, Remote::new(&cluster.world, mount, &address) as _)],
        )
    };
    let (a, notes) = cluster.join(remote(), "a").await;
    let (b, _) = cluster.join(remote(), "b").await;
    let began = Instant::now();
    for index in 1..=200 {
        drop(get(&a, index).await);
    }
    eprintln!("200 single acquires over a socket: {:?}", began.elapsed());
    let began = Instant::now();
    for index in 1..=100 {
        drop(get(&b, index).await);
    }
    eprintln!("100 hand-overs over a socket: {:?}", began.elapsed());
    assert_eq!(notes.0.lock().len(), 100);
    a.report("{\"x\":1}".to_owned());
    let deadline = cluster.world.clock.now() + SOON;
    let rows = remote().sessions(deadline).await.unwrap();
    assert_eq!((rows.len(), rows[0].report.as_str()), (2, "{\"x\":1}"));
    assert!(rows[0].lease_left > LEASE / 2, "{:?}", rows[0].lease_left);
    assert_eq!(remote().locks(deadline).await.unwrap().locks.len(), 200);
    let stranger = Identity { cluster: ClusterId(8), ..mount };
    let refused =
        Remote::new(&cluster.world, stranger, &address).locks(deadline).await.unwrap_err();
    assert!(refused.to_string().contains("belongs to cluster"), "{refused}");
    a.close().await.unwrap();
    b.close().await.unwrap();
    serving.stop(cluster.world.clock.now() + Duration::from_secs(1)).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_acquires_at_once_share_their_batches() {
    let cluster = Cluster::start(3, Duration::from_secs(30)).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    let sent = a.messages();
    let began = Instant::now();
    let all = (0..2000).map(|index| get(&a, index));
    let pins = futures_util::future::join_all(all).await;
    let messages = a.messages() - sent;
    eprintln!("2000 acquires at once: {:?} in {messages} messages", began.elapsed());
    assert_eq!(pins.len(), 2000);
    assert!(messages < 50, "{messages}");
    drop(pins);
    a.close().await.unwrap();
    cluster.stop().await;
}
