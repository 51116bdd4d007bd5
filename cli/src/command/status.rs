//! `plumeria status`: who is there and how they are.

use std::time::Duration;

use world::World;

use crate::{
    args::Status,
    config::Client,
    failure::Outcome,
    output::Output,
    role::{self, CoordinatorRow, Known, ServerRow, SessionRow},
};

pub(crate) async fn run(
    world: &World,
    status: &Status,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let client = Client::find(&status.cluster)?;
    let coordinators = role::coordinators(world, &client, timeout).await?;
    let servers = role::servers(world, &client, timeout).await?;
    let sessions = role::sessions(world, &client, timeout).await?;
    // The rest is worth showing without it.
    let registered = role::registered(world, &client, timeout).await.unwrap_or_else(|failure| {
        tracing::warn!(error = %failure.error, "the registry does not answer");
        Vec::new()
    });
    let (mounts, others): (Vec<_>, Vec<_>) =
        sessions.into_iter().partition(|session| session.kind == "mount");
    output.json(&serde_json::json!({
        "cluster": format!("{:032x}", client.cluster),
        "coordinators": coordinators.iter().map(CoordinatorRow::json).collect::<Vec<_>>(),
        "block_servers": servers.iter().map(ServerRow::json).collect::<Vec<_>>(),
        "mounts": mounts.iter().map(SessionRow::json).collect::<Vec<_>>(),
        "workers": others.iter().filter(|row| row.kind == "worker").map(SessionRow::json).collect::<Vec<_>>(),
        "registered": registered.iter().map(Known::json).collect::<Vec<_>>(),
        "configured_workers": client.workers.iter().map(|peer| peer.address.to_string()).collect::<Vec<_>>(),
    }));
    output.heading("coordinators");
    output.table(
        &["node", "group", "state", "term", "applied", "address"],
        coordinators.iter().map(CoordinatorRow::cells).collect(),
    );
    output.heading("block servers");
    output.table(
        &["node", "state", "free", "of", "lease left", "incarnation", "address"],
        servers.iter().map(ServerRow::cells).collect(),
    );
    output.heading("mounts");
    output.table(
        &["session", "state", "lease left", "dirty", "locks", "place"],
        mounts.iter().map(SessionRow::cells).collect(),
    );
    output.heading("workers");
    let workers =
        client.workers.iter().map(|peer| vec![peer.node.to_string(), peer.address.to_string()]);
    output.table(&["node", "address"], workers.collect());
    output.heading("registered");
    output
        .table(&["node", "host", "process", "what"], registered.iter().map(Known::cells).collect());
    Ok(())
}
