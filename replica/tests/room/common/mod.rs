//! A small state machine and clusters of it, for the tests of the host.
#![allow(unreachable_pub, reason = "one program, and its parts are called as if they were a room")]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use replica::{
    Damaged, Error, GroupConfig, GroupId, Host, Image, Index, LocalMesh, Mesh, StateMachine,
    Transport,
};
use wire::{ClusterId, Identity, NodeId, Role, Serving};
use world::{Address, Time, World};

/// Remembers the sum of all numbers and how many there were; each command is one number.
#[derive(Default)]
pub struct Sum {
    pub sum: u64,
    pub count: u64,
    pub restored: bool,
}

impl StateMachine for Sum {
    fn apply(&mut self, _: Index, command: &[u8]) -> Bytes {
        let number: [u8; 8] = command[..8].try_into().unwrap();
        self.sum += u64::from_le_bytes(number);
        self.count += 1;
        Bytes::copy_from_slice(&self.sum.to_le_bytes())
    }

    fn checkpoint(&self) -> Box<dyn Image> {
        Box::new([self.sum.to_le_bytes(), self.count.to_le_bytes()].concat())
    }

    fn restore(&mut self, checkpoint: &mut dyn Read) -> Result<(), Damaged> {
        let checkpoint = replica::read_whole(checkpoint)?;
        if checkpoint.len() != 16 {
            return Err(Damaged("a sum has 16 bytes".to_owned()));
        }
        let word = |at| u64::from_le_bytes(checkpoint[at..at + 8].try_into().unwrap());
        (self.sum, self.count, self.restored) = (word(0), word(8), true);
        Ok(())
    }
}

pub const CLUSTER: ClusterId = ClusterId(77);
pub const GROUP: GroupId = GroupId(1);

pub fn number(number: u64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// Nodes in one process over one kind of transport.
pub struct Cluster {
    pub world: World,
    pub dir: tempfile::TempDir,
    pub nodes: BTreeMap<NodeId, Node>,
    pub local: Option<LocalMesh>,
    pub checkpoint_every: u64,
    pub joining: BTreeSet<NodeId>,
    size: u64,
}

pub struct Node {
    pub host: Host<Sum>,
    _mesh: Option<Arc<Mesh>>,
    _serving: Option<Serving>,
}

impl Cluster {
    /// `size` nodes which talk without sockets.
    pub async fn local(size: u64) -> Self {
        let mut cluster = Self::empty(size);
        cluster.local = Some(LocalMesh::new(&cluster.world));
        cluster.start_all().await;
        cluster
    }

    /// `size` nodes which talk over Unix sockets.
    pub async fn sockets(size: u64) -> Self {
        let mut cluster = Self::empty(size);
        cluster.start_all().await;
        cluster
    }

    pub fn empty(size: u64) -> Self {
        Self {
            world: World::real(),
            dir: tempfile::tempdir().unwrap(),
            nodes: BTreeMap::new(),
            local: None,
            checkpoint_every: 50_000,
            joining: BTreeSet::new(),
            size,
        }
    }

    pub async fn start_all(&mut self) {
        for node in 1..=self.size {
            self.start(NodeId(node)).await.unwrap();
        }
    }

    pub fn config(&self, me: NodeId) -> GroupConfig {
        let peers = (1..=self.size).map(NodeId).collect();
        let dir = self.dir.path().join(format!("node-{me}"));
        let mut config = GroupConfig::new(CLUSTER, GROUP, me, peers, dir);
        config.checkpoint_every = self.checkpoint_every;
        config.joining = self.joining.contains(&me);
        config
    }

    pub fn path(&self, me: NodeId) -> PathBuf {
        self.config(me).dir
    }

    pub fn address(&self, node: NodeId) -> Address {
        Address::Unix(self.dir.path().join(format!("socket-{node}")))
    }

    /// Starts a node that waits to be added.
    pub async fn start_joining(&mut self, me: NodeId) {
        self.joining.insert(me);
        self.start(me).await.unwrap();
    }

    pub async fn start(&mut self, me: NodeId) -> Result<(), Error> {
        let node = match &self.local {
            Some(local) => {
                let transport: Arc<dyn Transport> = local.transport(me);
                Node { host: self.open(me, transport).await?, _mesh: None, _serving: None }
            }
            None => {
                let identity = Identity { cluster: CLUSTER, node: me, role: Role::Coordinator };
                let peers = (1..=self.size).map(NodeId).chain([me]);
                let peers = peers.map(|peer| (peer, self.address(peer))).collect();
                let mesh = Mesh::new(&self.world, identity, &peers);
                let server = wire::Server::new(&self.world, identity).service(mesh.service());
                let serving = server.serve_on(self.listen(me).await);
                let host = self.open(me, mesh.clone()).await?;
                Node { host, _mesh: Some(mesh), _serving: Some(serving) }
            }
        };
        self.nodes.insert(me, node);
        Ok(())
    }

    /// Listens; the listener of a node that was just dropped may still be closing.
    async fn listen(&self, me: NodeId) -> Box<dyn world::Listener> {
        let deadline = self.soon();
        loop {
            match wire::listen(&self.world, &self.address(me)).await {
                Ok(listener) => return listener,
                Err(error) => assert!(self.world.clock.now() < deadline, "{error}"),
            }
            self.world.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    async fn open(&self, me: NodeId, transport: Arc<dyn Transport>) -> Result<Host<Sum>, Error> {
        Host::open(&self.world, self.config(me), Sum::default(), transport).await
    }

    pub fn soon(&self) -> Time {
        self.world.clock.now() + Duration::from_secs(10)
    }

    pub fn host(&self, node: NodeId) -> &Host<Sum> {
        &self.nodes[&node].host
    }

    /// The node that leads and is ready.
    pub async fn leader(&self) -> NodeId {
        let deadline = self.soon();
        loop {
            for (node, running) in &self.nodes {
                if running.host.role().borrow().leads() {
                    return *node;
                }
            }
            assert!(self.world.clock.now() < deadline, "no leader");
            self.world.clock.sleep(Duration::from_millis(5)).await;
        }
    }

    /// Proposes to whoever leads until it is answered.
    pub async fn add(&self, value: u64) -> u64 {
        loop {
            let leader = self.leader().await;
            match self.host(leader).propose(number(value), self.soon()).await {
                Ok(reply) => return u64::from_le_bytes(reply[..].try_into().unwrap()),
                Err(Error::NotLeader { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until `node` has applied `count` commands.
    pub async fn applied(&self, node: NodeId, count: u64) {
        let deadline = self.soon();
        let host = self.host(node);
        let mut applied = host.applied();
        while host.with(|sum| sum.count) < count {
            let moved = self.world.until(deadline, applied.changed()).await;
            moved.expect("applied in time").unwrap();
        }
        assert_eq!(host.with(|sum| sum.count), count);
    }
}
