//! A block server: the storage engine on one directory, served on one listener.

use std::{sync::Arc, time::Duration};

use blockstore::{
    bulk::{Answers, Lines},
    engine::{Engine, EngineConfig},
    link::MapLink,
    place::ServerId,
    server::{Server, ServerConfig},
    store::Store,
};
use wire::{ClusterId, Identity, NodeId, Role};
use world::World;

use crate::{
    config,
    failure::{Failure, Kind, OrFail as _, Outcome},
};

/// How long a stop waits for writes under way.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running block server.
pub(crate) struct BlockServer {
    node: u64,
    server: Arc<Server>,
    serving: wire::Serving,
    world: World,
}

impl BlockServer {
    /// Starts it. It calls its peers by way of `lines`, and is called that way by whoever shares them.
    pub(crate) async fn start(
        world: &World,
        config: &config::Block,
        link: Arc<dyn MapLink>,
        lines: &Lines,
        exposed: bool,
    ) -> Outcome<Self> {
        wire::check_exposure(&config.listen, exposed)
            .or_fail(Kind::Usage, || "the block server's address".into())?;
        let cannot = || format!("block server {} cannot start", config.node);
        let id = ServerId(config.node);
        let settings = EngineConfig::new(config.dir.clone(), config.client.cluster, id);
        let own = world.clone();
        let opened = world.blocking(move || Engine::open(&own, settings)).await;
        let store: Arc<dyn Store> = Arc::new(opened.or_fail(Kind::Failed, cannot)?);
        // Bound before it registers: the map tells this address to everyone.
        let listener = wire::listen(world, &config.listen).await.or_fail(Kind::Failed, cannot)?;
        let settings = ServerConfig::new(id, listener.address());
        let server = Server::start(world, settings, store, link, Arc::new(lines.clone()))
            .await
            .or_fail(Kind::Failed, cannot)?;
        lines.attach(id, server.clone());
        let me = Identity {
            cluster: ClusterId(config.client.cluster),
            node: NodeId(config.node),
            role: Role::Block,
        };
        let serving =
            wire::bulk::serve(world, me, listener, Arc::new(Answers::new(world, server.clone())));
        Ok(Self { node: config.node, server, serving, world: world.clone() })
    }

    /// Ready when the server has stopped by itself.
    pub(crate) async fn failed(&self) -> Failure {
        let why = self.server.failure().await;
        Failure::new(Kind::Failed, format!("block server {} has stopped: {why}", self.node))
    }

    /// Ends it cleanly.
    pub(crate) async fn stop(self) -> Outcome {
        let stopped = self.server.stop(PATIENCE).await;
        self.serving.stop(self.world.clock.now() + Duration::from_millis(200)).await;
        let clean = stopped
            .or_fail(Kind::Failed, || format!("block server {} did not stop cleanly", self.node))?;
        if !clean {
            tracing::warn!(
                "block server {} was stopped with writes under way; the next start repairs",
                self.node
            );
        }
        Ok(())
    }
}
