//! `plumeria server`: the block servers of a cluster, who may join, and how replicas move.

use std::{path::Path, time::Duration};

use blockstore::{map::Change, place::ServerId};
use world::World;

use crate::{
    args::{ServerAdd, ServerCommand, ServerOne},
    config::Client,
    datadir,
    failure::{Failure, Kind, Outcome},
    output::{self, Output},
    role::{self, ServerRow},
};

/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) async fn run(
    world: &World,
    command: &ServerCommand,
    timeout: Duration,
    output: Output,
) -> Outcome {
    match command {
        ServerCommand::Ls(cluster) => {
            let client = Client::find(&cluster.cluster)?;
            let servers = role::servers(world, &client, timeout).await?;
            output.json(&serde_json::json!({
                "block_servers": servers.iter().map(ServerRow::json).collect::<Vec<_>>(),
            }));
            table(output, &servers);
            Ok(())
        }
        ServerCommand::Add(add) => self::add(world, add, timeout, output).await,
        ServerCommand::Drain(one) => drain(world, one, timeout, output).await,
        ServerCommand::Remove(one) => remove(world, one, timeout, output).await,
    }
}

fn table(output: Output, servers: &[ServerRow]) {
    output.table(
        &[
            "node", "state", "groups", "to come", "left", "eta", "weight", "domain", "free", "of",
            "address",
        ],
        servers.iter().map(ServerRow::placement).collect(),
    );
}

async fn add(world: &World, add: &ServerAdd, timeout: Duration, output: Output) -> Outcome {
    let client = Client::find(&add.cluster)?;
    let change = Change::Add {
        server: ServerId(add.server),
        weight: add.weight,
        domain: add.domain.clone(),
    };
    role::change(world, &client, change, timeout).await?;
    let dev = datadir::note_server(Path::new(&add.cluster), add.server, true)?;
    output.json(&serde_json::json!({"server": add.server, "starts": dev}));
    if dev {
        output.line(&format!(
            "block server {} may join: `plumeria dev --processes` starts it at once, `plumeria dev` when it is started again",
            add.server
        ));
    } else {
        output.line(&format!(
            "block server {} may join: start it with `plumeria block --config FILE`",
            add.server
        ));
    }
    Ok(())
}

/// Moves all replicas away, and shows how far that is. It takes as long as it takes to copy them;
/// `timeout` bounds how long nothing may move.
async fn drain(world: &World, one: &ServerOne, timeout: Duration, output: Output) -> Outcome {
    let client = Client::find(&one.cluster)?;
    role::change(world, &client, Change::Drain(ServerId(one.server)), timeout).await?;
    let (mut shown, mut moved) = (None, world.clock.now());
    loop {
        let servers = role::servers(world, &client, timeout).await?;
        let Some(row) = servers.iter().find(|row| row.0.server.0 == one.server) else {
            return Err(Failure::new(
                Kind::Failed,
                format!("there is no block server {}", one.server),
            ));
        };
        let left = row.0.groups;
        if one.no_wait || left == 0 {
            output.json(&serde_json::json!({"server": one.server, "groups": left}));
            output.line(&match left {
                0 => format!(
                    "block server {0} is empty: `plumeria server remove CLUSTER {0}` takes it out of the cluster",
                    one.server
                ),
                left => format!("block server {} is being drained: {left} groups are left", one.server),
            });
            return Ok(());
        }
        let owed: u64 = servers.iter().map(|row| row.0.owed).sum();
        if shown != Some((left, owed)) {
            output.line(&format!("{left} groups are left; {} to copy", output::bytes(owed)));
            (shown, moved) = (Some((left, owed)), world.clock.now());
        }
        if world.clock.now().since(moved) > timeout {
            return Err(Failure::new(
                Kind::Failed,
                format!(
                    "nothing of block server {} moved for {timeout:?}: {left} groups are left, and it goes on being drained; \
                     `plumeria server ls` shows which servers are down or still lack something",
                    one.server
                ),
            ));
        }
        world.clock.sleep(LOOK).await;
    }
}

async fn remove(world: &World, one: &ServerOne, timeout: Duration, output: Output) -> Outcome {
    let client = Client::find(&one.cluster)?;
    role::change(world, &client, Change::Remove(ServerId(one.server)), timeout).await?;
    datadir::note_server(Path::new(&one.cluster), one.server, false)?;
    output.json(&serde_json::json!({"server": one.server}));
    output.line(&format!(
        "block server {} is no part of the cluster any more; its data directory can be deleted",
        one.server
    ));
    Ok(())
}
