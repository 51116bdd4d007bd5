//! How a client reaches a cluster: the lock service, the volume map and the block servers, in this
//! process or over the wire; and the questions that `plumeria status` asks.

use std::{sync::Arc, time::Duration};

use blockstore::{
    bulk::Lines,
    link::MapLink,
    map::{Change, MapClient, MapError, MapService, MapWire},
};
use fs::Fs;
use lockservice::{Member, Registry, Service};
use wire::{ClusterId, Identity, NodeId, Role};
use world::World;

use crate::{
    config::{Client, Peer},
    failure::{Failure, Kind, OrFail as _, Outcome},
    role::rows::{CoordinatorRow, ServerRow, SessionRow},
};

/// Makes the lock service for another thread.
pub(crate) type Apart = Arc<dyn Fn(&World) -> Arc<dyn Service> + Send + Sync>;

/// What a client needs of a cluster.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) locks: Arc<dyn Service>,
    /// The lock service again, with connections that live in the world that is given: leases are
    /// renewed on a thread of their own.
    pub(crate) apart: Apart,
    pub(crate) map: MapClient,
    /// Block servers: function calls for those of this process, else the addresses that the map tells.
    pub(crate) lines: Lines,
    /// Workers, likewise.
    pub(crate) peers: mapreduce::Peers,
}

impl Access {
    /// What jobs and workers need, on a file system that is started.
    pub(crate) fn cluster(&self, fs: Arc<Fs>, registry: Registry) -> mapreduce::Cluster {
        let peers = self.peers.clone();
        mapreduce::Cluster { files: fs, peers, ballots: Some(Arc::new(registry)) }
    }
}

/// A cluster in other processes.
pub(crate) struct Remote {
    pub(crate) me: Identity,
    client: Client,
}

impl Remote {
    /// The cluster of `client`, for the given role; node 0 stands for a random number.
    pub(crate) fn new(world: &World, client: &Client, role: Role, node: u64) -> Outcome<Self> {
        let node = NodeId(if node == 0 { world.dice.roll() >> 1 } else { node });
        Ok(Self {
            me: Identity { cluster: ClusterId(client.cluster), node, role },
            client: client.clone(),
        })
    }

    /// The volume map, as a block server sees it.
    pub(crate) fn link(&self, world: &World) -> Arc<dyn MapLink> {
        Arc::new(self.map(world))
    }

    fn map(&self, world: &World) -> MapClient {
        let peer = |peer: &Peer| {
            let service: Arc<dyn MapService> =
                Arc::new(MapWire::new(world, self.me, &peer.address));
            (peer.node, service)
        };
        MapClient::new(world, self.client.coordinators.iter().map(peer).collect())
    }

    /// Everything that a client needs.
    pub(crate) fn access(&self, world: &World) -> Access {
        let (me, peers) = (self.me, self.client.coordinators.clone());
        let members = move |world: &World| -> Vec<Member> {
            let peer = |peer: &Peer| {
                let service: Arc<dyn Service> = lockservice::Remote::new(world, me, &peer.address);
                (peer.node, service)
            };
            peers.iter().map(peer).collect()
        };
        let locks = lockservice::Router::new(world.clone(), members(world));
        let router = Arc::clone(&locks);
        let apart: Apart = Arc::new(move |world| router.apart(world.clone(), members(world)));
        Access {
            locks,
            apart,
            map: self.map(world),
            lines: Lines::new(world, self.me),
            peers: mapreduce::Peers::new(world, Some(self.me)),
        }
    }
}

const UNREACHABLE: &str =
    "the cluster does not answer: is it running? (`plumeria dev DIR MOUNTPOINT` starts it)";

/// The sessions of the lock service, with fresh numbers.
pub(crate) async fn sessions(
    world: &World,
    client: &Client,
    timeout: Duration,
) -> Outcome<Vec<SessionRow>> {
    let access = Remote::new(world, client, Role::Tool, 0)?.access(world);
    let rows = access
        .locks
        .sessions(world.clock.now() + timeout)
        .await
        .or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
    Ok(rows.into_iter().map(SessionRow::from).collect())
}

/// The block servers.
pub(crate) async fn servers(
    world: &World,
    client: &Client,
    timeout: Duration,
) -> Outcome<Vec<ServerRow>> {
    let map = Remote::new(world, client, Role::Tool, 0)?.map(world);
    let rows = map
        .servers(world.clock.now() + timeout)
        .await
        .or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
    Ok(rows.into_iter().map(ServerRow).collect())
}

/// Changes the set of block servers.
pub(crate) async fn change(
    world: &World,
    client: &Client,
    change: Change,
    timeout: Duration,
) -> Outcome {
    let map = Remote::new(world, client, Role::Tool, 0)?.map(world);
    map.change(change, world.clock.now() + timeout).await.map_err(|error| match error {
        MapError::Refused(why) => Failure::new(Kind::Failed, why),
        _ => Failure::new(Kind::Unreachable, UNREACHABLE),
    })
}

/// The coordinators' replicas; those that do not answer are listed as down.
pub(crate) async fn coordinators(
    world: &World,
    client: &Client,
    timeout: Duration,
) -> Outcome<Vec<CoordinatorRow>> {
    let me = Remote::new(world, client, Role::Tool, 0)?.me;
    // A dead coordinator must not use up the time of the living.
    let patience = timeout.min(Duration::from_secs(2));
    let mut rows = Vec::new();
    for peer in &client.coordinators {
        let found = replica::look(world, me, &peer.address, world.clock.now() + patience)
            .await
            .unwrap_or_default();
        for (group, name) in super::coordinator::groups(client.lock_shards) {
            rows.push(CoordinatorRow {
                node: peer.node,
                address: peer.address.to_string(),
                group: name,
                status: found
                    .iter()
                    .map(|look| &look.status)
                    .find(|status| status.group == group)
                    .cloned(),
            });
        }
    }
    Ok(rows)
}
