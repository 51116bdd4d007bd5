//! A coordinator: one replica of each of the lock service's groups and one of the volume map's, served
//! on one listener.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use blockstore::{
    map::{Map, MapConfig, MapRpc, MapServer, MapService},
    place::{GroupBits, ServerId},
};
use lockservice::{Server, Service, Shard, Table, engine::Replicated};
use replica::{GroupConfig, GroupId, Host, Mesh, Runtime, Transport};
use wire::{ClusterId, Identity, NodeId, Role, Serving};
use world::{File, OpenMode, World};

use crate::{
    config,
    failure::{Failure, Kind, OrFail as _, Outcome},
};

/// The lock service's group; that of the home shard, if there are several.
pub(crate) const LOCKS: GroupId = GroupId(1);
/// The volume map's group.
pub(crate) const MAP: GroupId = GroupId(2);
/// All groups of a cluster with so many shards of the lock service, with the names that operators call
/// them by.
pub(crate) fn groups(lock_shards: u32) -> Vec<(GroupId, String)> {
    let more = (1..lock_shards).map(|shard| (group_of(Shard(shard)), format!("locks-{shard}")));
    [(LOCKS, "locks".to_owned()), (MAP, "map".to_owned())].into_iter().chain(more).collect()
}

/// The group that replicates a shard of the lock service.
fn group_of(shard: Shard) -> GroupId {
    if shard == Shard::HOME { LOCKS } else { GroupId(MAP.0 + u64::from(shard.0)) }
}

/// Groups of chunks, as a power of two: fixed for now.
const GROUP_BITS: u8 = 6;

/// A running coordinator.
pub(crate) struct Coordinator {
    world: World,
    pub(crate) node: u64,
    runtime: Runtime,
    /// By shard, home first.
    lock_hosts: Vec<Host<Table>>,
    map_host: Host<Map>,
    locks: Vec<Arc<Server>>,
    map: Arc<MapServer>,
    serving: Serving,
    _mesh: Arc<Mesh>,
    _lock: Arc<dyn File>,
}

impl Coordinator {
    /// Starts it and serves it on its address.
    pub(crate) async fn start_serving(
        world: &World,
        config: &config::Coordinator,
        exposed: bool,
    ) -> Outcome<Self> {
        let peers = &config.client.coordinators;
        let Some(listen) = peers.iter().find(|peer| peer.node == config.node) else {
            return Err(Failure::usage(format!(
                "coordinator {} is not among the coordinators of its configuration",
                config.node
            )));
        };
        wire::check_exposure(&listen.address, exposed)
            .or_fail(Kind::Usage, || "the coordinator's address".into())?;
        let lock = lock_dir(world, &config.dir)?;
        let me = Identity {
            cluster: ClusterId(config.client.cluster),
            node: NodeId(config.node),
            role: Role::Coordinator,
        };
        let addresses: BTreeMap<_, _> =
            peers.iter().map(|peer| (NodeId(peer.node), peer.address.clone())).collect();
        let mesh = Mesh::new(world, me, &addresses);
        let nodes: Vec<NodeId> = addresses.keys().copied().collect();
        let dir = config.dir.join("raft");
        let group = |group| {
            let mut settings =
                GroupConfig::new(me.cluster, group, me.node, nodes.clone(), dir.clone());
            settings.joining = config.joining;
            settings
        };
        let transport: Arc<dyn Transport> = mesh.clone();
        let cannot = || format!("coordinator {} cannot start", config.node);
        let peers = config.joining || nodes.len() > 1;
        let runtime = Runtime::open(world, me.cluster, me.node, &dir, peers)
            .await
            .or_fail(Kind::Failed, cannot)?;
        let shards = shards_of(&config.client)?;
        let mut lock_hosts = Vec::new();
        for shard in shards.clone() {
            let settings = group(group_of(shard));
            let table = Table::of(shard);
            let host = Host::open_on(world, &runtime, settings, table, transport.clone()).await;
            lock_hosts.push(host.or_fail(Kind::Failed, cannot)?);
        }
        let map_host = Host::open_on(world, &runtime, group(MAP), Map::new(), transport)
            .await
            .or_fail(Kind::Failed, cannot)?;
        let locks = serve_locks(world, me, config, &lock_hosts);
        let map = MapServer::open(world, map_host.clone(), map_config(config));
        let service: Arc<dyn Service> = locks[0].clone();
        let serving = wire::Server::new(world, me)
            .service(mesh.service())
            .service(lockservice::adapter(world, service))
            .service(lockservice::registry::adapter(world, locks[0].clone()))
            .service(MapRpc::serve(world, map.clone()))
            .serve(&listen.address)
            .await
            .or_fail(Kind::Failed, cannot)?;
        Ok(Self {
            world: world.clone(),
            node: config.node,
            runtime,
            lock_hosts,
            map_host,
            locks,
            map,
            serving,
            _mesh: mesh,
            _lock: lock,
        })
    }

    /// The lock service of this coordinator.
    pub(crate) fn locks(&self) -> Arc<dyn Service> {
        self.locks[0].clone()
    }

    /// The volume map of this coordinator.
    pub(crate) fn map(&self) -> Arc<dyn MapService> {
        self.map.clone()
    }

    /// Ends it cleanly.
    pub(crate) async fn stop(self) {
        self.locks.iter().for_each(|server| server.stop());
        self.serving.stop(self.world.clock.now() + Duration::from_millis(500)).await;
        for host in self.lock_hosts {
            host.stop().await;
        }
        self.map_host.stop().await;
        self.runtime.stop().await;
    }
}

/// The shards of the lock service, home first.
fn shards_of(client: &config::Client) -> Outcome<impl Iterator<Item = Shard> + Clone + use<>> {
    if !(1..=Shard::MOST).contains(&client.lock_shards) {
        let message = format!("lock_shards is between 1 and {}", Shard::MOST);
        return Err(Failure::usage(message));
    }
    Ok((0..client.lock_shards).map(Shard))
}

/// A server of each shard. With several they are one service, and each reaches the others wherever
/// those are led.
fn serve_locks(
    world: &World,
    me: Identity,
    config: &config::Coordinator,
    hosts: &[Host<Table>],
) -> Vec<Arc<Server>> {
    let settings = lockservice::server::Config { lease: config.client.lease };
    let start = |host: &Host<Table>| {
        Server::start(world.clone(), Arc::new(Replicated::new(host.clone())), settings)
    };
    let servers: Vec<Arc<Server>> = hosts.iter().map(start).collect();
    if servers.len() > 1 {
        let peer = |shard: usize| -> Arc<dyn Service> {
            let member = |peer: &config::Peer| -> lockservice::Member {
                if peer.node == me.node.0 {
                    return (peer.node, servers[shard].clone());
                }
                let remote = lockservice::Remote::new(world, me, &peer.address);
                (peer.node, remote.at(Shard(shard as u32)))
            };
            let members = config.client.coordinators.iter().map(member).collect();
            lockservice::Router::new(world.clone(), members)
        };
        let peers: Vec<Arc<dyn Service>> = (0..servers.len()).map(peer).collect();
        Server::join(&servers, &peers);
    }
    servers
}

fn map_config(config: &config::Coordinator) -> MapConfig {
    MapConfig {
        cluster: config.client.cluster,
        servers: config.servers.iter().map(|node| ServerId(*node)).collect(),
        replication: config.replicas,
        bits: GroupBits(GROUP_BITS),
        lease: MapConfig::lease_for(config.client.lease),
        replace: MapConfig::REPLACE,
        rate: 0,
    }
}

/// Locks a role's directory: whoever holds it knows that the process before is dead.
pub(crate) fn lock_dir(world: &World, dir: &Path) -> Outcome<Arc<dyn File>> {
    let shown = dir.display();
    world.disk.create_dir_all(dir).or_fail(Kind::Failed, || format!("cannot make {shown}"))?;
    let file = world
        .disk
        .open(&dir.join("lock"), OpenMode::Create)
        .or_fail(Kind::Failed, || format!("cannot open {shown}/lock"))?;
    file.lock().or_fail(Kind::Failed, || {
        format!("{shown} is in use by another process: stop that one first")
    })?;
    Ok(file)
}
