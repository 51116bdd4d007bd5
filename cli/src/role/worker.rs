//! A MapReduce worker: reads and writes through the file-system library, without the kernel.

use std::{sync::Arc, time::Duration};

use fs::Fs;
use lockservice::Registry;
use mapreduce::Programs;
use serde_json::json;
use wire::{ClusterId, Identity, NodeId, Role, Serving};
use world::{File, World};

use crate::{
    config,
    failure::{Failure, Kind, OrFail as _, Outcome},
    role::{Access, FileSystem, Tie, coordinator::lock_dir, known},
};

/// A running worker.
pub(crate) struct Worker {
    world: World,
    serving: Serving,
    _worker: Arc<mapreduce::Worker>,
    file_system: Option<FileSystem>,
    _lock: Arc<dyn File>,
}

impl Worker {
    /// Starts it with a session of its own.
    pub(crate) async fn start(
        world: &World,
        config: &config::Worker,
        access: &Access,
        programs: Programs,
        (exposed, timeout): (bool, Duration),
    ) -> Outcome<Self> {
        let lock = lock_dir(world, &config.scratch)?;
        let me = config.client.workers.iter().find(|peer| peer.node == config.node);
        let tie = Tie::worker(config.node, me.map(|peer| peer.address.host()));
        let file_system = FileSystem::open(world, access, tie, false, timeout).await?;
        let client = (file_system.fs.clone(), &file_system.registry);
        let (worker, serving) = serve(world, config, access, client, (programs, exposed)).await?;
        Ok(Self {
            world: world.clone(),
            serving,
            _worker: worker,
            file_system: Some(file_system),
            _lock: lock,
        })
    }

    /// Starts it on the file system of this process's mount: what one has cached, both have.
    pub(crate) async fn start_on(
        world: &World,
        config: &config::Worker,
        access: &Access,
        client: (Arc<Fs>, &Registry),
        exposed: bool,
    ) -> Outcome<Self> {
        let lock = lock_dir(world, &config.scratch)?;
        let with = (Programs::shipped(), exposed);
        let (worker, serving) = serve(world, config, access, client, with).await?;
        Ok(Self { world: world.clone(), serving, _worker: worker, file_system: None, _lock: lock })
    }

    /// Ends it; tasks under way are lost and run elsewhere.
    pub(crate) async fn stop(self, timeout: Duration) -> Outcome {
        self.serving.stop(self.world.clock.now() + Duration::from_millis(500)).await;
        match self.file_system {
            Some(file_system) => file_system.close(&self.world, timeout).await,
            None => Ok(()),
        }
    }
}

async fn serve(
    world: &World,
    config: &config::Worker,
    access: &Access,
    (fs, registry): (Arc<Fs>, &Registry),
    (programs, exposed): (Programs, bool),
) -> Outcome<(Arc<mapreduce::Worker>, Serving)> {
    let Some(listen) = config.client.workers.iter().find(|peer| peer.node == config.node) else {
        return Err(Failure::usage(format!(
            "worker {} is not among the workers of its configuration",
            config.node
        )));
    };
    wire::check_exposure(&listen.address, exposed)
        .or_fail(Kind::Usage, || "the worker's address".into())?;
    let cannot = || format!("worker {} cannot start", config.node);
    let me = Identity {
        cluster: ClusterId(config.client.cluster),
        node: NodeId(config.node),
        role: Role::Worker,
    };
    let place = mapreduce::Place::from(&listen.address);
    // Two workers share the two cores of a small machine.
    let settings = mapreduce::Config {
        place,
        dir: config.scratch.join("maps"),
        slots: 1,
        memory: 256 << 20,
        programs,
    };
    let worker = mapreduce::Worker::open(world, &access.cluster(fs, registry.clone()), settings)
        .await
        .or_fail(Kind::Failed, cannot)?;
    let server = wire::Server::new(world, me).service(mapreduce::server(&worker));
    let serving = server.serve(&listen.address).await.or_fail(Kind::Failed, cannot)?;
    let about = json!({ "what": listen.address.to_string() });
    let node = config.node.to_string();
    known::register(world, registry, (known::WORKERS, &node), about).await;
    Ok((worker, serving))
}
