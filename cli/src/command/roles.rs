//! `plumeria coordinator`, `block` and `worker`: one role from one configuration file, in front
//! until it is asked to end.

use std::time::Duration;

use world::World;

use crate::{
    args::Role,
    config,
    failure::Outcome,
    interrupted, launch,
    role::{BlockServer, Coordinator, Remote, Worker},
};

pub(crate) async fn coordinator(world: &World, role: &Role, exposed: bool) -> Outcome {
    let config: config::Coordinator = config::read(&role.config)?;
    let coordinator = Coordinator::start_serving(world, &config, exposed).await?;
    launch::tell_ready();
    interrupted().await?;
    coordinator.stop().await;
    Ok(())
}

pub(crate) async fn block(world: &World, role: &Role, exposed: bool) -> Outcome {
    let config: config::Block = config::read(&role.config)?;
    let remote = Remote::new(world, &config.client, wire::Role::Block, config.node)?;
    let lines = blockstore::bulk::Lines::new(world, remote.me);
    let server = BlockServer::start(world, &config, remote.link(world), &lines, exposed).await?;
    launch::tell_ready();
    tokio::select! {
        biased;
        done = interrupted() => done?,
        why = server.failed() => return Err(why),
    }
    server.stop().await
}

pub(crate) async fn worker(
    world: &World,
    role: &Role,
    programs: mapreduce::Programs,
    (exposed, timeout): (bool, Duration),
) -> Outcome {
    let config: config::Worker = config::read(&role.config)?;
    let remote = Remote::new(world, &config.client, wire::Role::Worker, config.node)?;
    let access = remote.access(world);
    let worker = Worker::start(world, &config, &access, programs, (exposed, timeout)).await?;
    launch::tell_ready();
    interrupted().await?;
    worker.stop(timeout).await
}
