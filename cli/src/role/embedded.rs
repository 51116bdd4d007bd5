//! All servers of a `dev` cluster in this process. They listen on Unix sockets for other processes;
//! among themselves they call each other's functions.

use std::sync::Arc;

use blockstore::{bulk::Lines, link::MapLink, map::MapClient};
use wire::{ClusterId, Identity, NodeId, Role};
use world::World;

use crate::{
    config,
    datadir::DataDir,
    failure::Outcome,
    role::{Access, BlockServer, Coordinator, Mounted, Worker},
};

/// Coordinators and block servers.
pub(crate) struct Embedded {
    coordinators: Vec<Coordinator>,
    blocks: Vec<BlockServer>,
    access: Access,
}

impl Embedded {
    /// Starts them; returns when they have started, which is before they have agreed on a leader.
    pub(crate) async fn start(world: &World, dir: &DataDir) -> Outcome<Self> {
        let client = dir.client();
        let me =
            Identity { cluster: ClusterId(client.cluster), node: NodeId(1), role: Role::Mount };
        let mut coordinators = Vec::new();
        for config in dir.coordinators() {
            coordinators.push(Coordinator::start_serving(world, &config, false).await?);
        }
        let map =
            MapClient::new(world, coordinators.iter().map(|one| (one.node, one.map())).collect());
        let locks = coordinators.iter().map(|one| (one.node, one.locks())).collect();
        let locks = lockservice::Router::new(world.clone(), locks);
        let same = locks.clone();
        let access = Access {
            locks,
            // Function calls need no connection.
            apart: Arc::new(move |_| same.clone()),
            map: map.clone(),
            lines: Lines::new(world, me),
            peers: mapreduce::Peers::new(world, Some(me)),
        };
        let link: Arc<dyn MapLink> = Arc::new(map);
        let configs = dir.blocks();
        let starts = configs
            .iter()
            .map(|config| BlockServer::start(world, config, link.clone(), &access.lines, false));
        let blocks = futures_util::future::try_join_all(starts).await;
        let blocks = match blocks {
            Ok(blocks) => blocks,
            Err(failure) => {
                for coordinator in coordinators {
                    coordinator.stop().await;
                }
                return Err(failure);
            }
        };
        Ok(Self { coordinators, blocks, access })
    }

    /// How the clients of this process reach them.
    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Starts the workers, which share the file system of this process's mount.
    pub(crate) async fn workers(
        &self,
        world: &World,
        dir: &DataDir,
        mounted: &Mounted,
    ) -> Outcome<Vec<Worker>> {
        let mut workers = Vec::new();
        for config in dir.workers() {
            let config: config::Worker = config;
            let client = (mounted.fs(), mounted.registry());
            workers.push(Worker::start_on(world, &config, &self.access, client, false).await?);
        }
        Ok(workers)
    }

    /// Ends them cleanly, block servers first: they tell the map.
    pub(crate) async fn stop(self) -> Outcome {
        let mut outcome = Ok(());
        for block in self.blocks {
            let stopped = block.stop().await;
            outcome = outcome.and(stopped);
        }
        for coordinator in self.coordinators {
            coordinator.stop().await;
        }
        outcome
    }
}
