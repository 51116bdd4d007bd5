//! `plumeria registry`: look at the registry's nodes, change them, watch them.

use std::{sync::Arc, time::Duration};

use lockservice::{
    Clerk, Error, Locks as _, Registry,
    registry::{Happened, Make, Node, NodePath, Scope, Stat},
};
use serde_json::{Value, json};
use world::World;

use crate::{
    args,
    config::Client,
    failure::{Failure, Kind, OrFail as _, Outcome},
    output::Output,
    role::{self, FileSystem, Tie},
};

/// Runs one of the subcommands under a session of its own, which ends with it.
pub(crate) async fn run(
    world: &World,
    command: &args::Registry,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let client = Client::find(command.cluster())?;
    let access = role::Remote::new(world, &client, wire::Role::Tool, 0)?.access(world);
    let tie = Tie::tool("registry");
    let open = FileSystem::clerk(world, &access, &tie);
    let clerk: Arc<Clerk> = world
        .until(world.clock.now() + timeout, open)
        .await
        .or_fail(Kind::Unreachable, || "the lock service does not answer".into())??;
    clerk.attach(Arc::new(lockservice::clerk::Nothing), None);
    let done = act(world, &clerk.registry(), command, timeout, output).await;
    // A session that cannot be closed ends by itself a lease later.
    let _ = clerk.close().await;
    done
}

fn failed(error: Error) -> Failure {
    let kind = match error {
        Error::Unreachable => Kind::Unreachable,
        _ => Kind::Failed,
    };
    Failure { kind, error: error.into() }
}

fn path(text: &str) -> Outcome<NodePath> {
    NodePath::new(text).or_fail(Kind::Usage, || format!("{text:?}"))
}

fn missing(node: &str) -> Failure {
    Failure::new(Kind::Failed, format!("there is no registry node {node}"))
}

async fn act(
    world: &World,
    registry: &Registry,
    command: &args::Registry,
    timeout: Duration,
    output: Output,
) -> Outcome {
    // What anybody wrote before this command began is seen.
    registry.sync().await.map_err(failed)?;
    match command {
        args::Registry::Ls { at } => list(registry, &at.node, output).await,
        args::Registry::Get { at } => {
            let found = registry.get(&path(&at.node)?).await.map_err(failed)?;
            let node = found.ok_or_else(|| missing(&at.node))?;
            output.json(&node_json(&at.node, &node));
            output.line(&String::from_utf8_lossy(&node.data));
            Ok(())
        }
        args::Registry::Create { at, data, parents, sequential } => {
            let at = path(&at.node)?;
            if let Some(above) = at.parent().filter(|_| *parents) {
                registry.ensure(&above).await.map_err(failed)?;
            }
            let make = Make { ephemeral: false, sequential: *sequential };
            let made = registry.create(&at, data.clone(), make).await.map_err(failed)?;
            output.json(&json!({ "path": made.as_str() }));
            output.line(made.as_str());
            Ok(())
        }
        args::Registry::Set { at, data, revision } => {
            let stat = registry.set(&path(&at.node)?, data.clone(), *revision).await;
            let stat = stat.map_err(failed)?;
            output.json(&stat_json(&at.node, &stat));
            output.line(&format!("version {}", stat.version));
            Ok(())
        }
        args::Registry::Delete { at, revision } => {
            registry.delete(&path(&at.node)?, *revision).await.map_err(failed)?;
            output.json(&json!({ "path": at.node }));
            Ok(())
        }
        args::Registry::Watch { at, count, below } => {
            let scope = if *below { Scope::Below } else { Scope::Node };
            watch(world, registry, &path(&at.node)?, scope, *count, timeout, output).await
        }
    }
}

async fn list(registry: &Registry, node: &str, output: Output) -> Outcome {
    let at = path(node)?;
    if registry.exists(&at).await.map_err(failed)?.is_none() {
        return Err(missing(node));
    }
    let mut found = Vec::new();
    for name in registry.children(&at).await.map_err(failed)? {
        let child = at.child(&name).or_fail(Kind::Failed, || name.clone())?;
        if let Some(stat) = registry.exists(&child).await.map_err(failed)? {
            found.push((child, stat));
        }
    }
    let rows = found.iter().map(|(path, stat)| stat_json(path.as_str(), stat)).collect::<Vec<_>>();
    output.json(&json!({ "nodes": rows }));
    let cells = |(path, stat): &(NodePath, Stat)| {
        vec![
            path.to_string(),
            stat.version.to_string(),
            stat.children.to_string(),
            stat.owner.map_or_else(|| "-".to_owned(), |owner| owner.0.to_string()),
        ]
    };
    output.table(&["node", "version", "children", "session"], found.iter().map(cells).collect());
    Ok(())
}

async fn watch(
    world: &World,
    registry: &Registry,
    at: &NodePath,
    scope: Scope,
    count: u64,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let watch = registry.watch(at, scope).await.map_err(failed)?;
    // From here on nothing is missed: scripts may wait for this line.
    output.json(&json!({ "path": at.as_str(), "happened": "watching" }));
    output.line(&format!("{at} watching"));
    for _ in 0..count {
        let change = watch.next(world.clock.now() + timeout).await.map_err(failed)?;
        let happened = match change.happened {
            Happened::Created => "created",
            Happened::Set => "set",
            Happened::Deleted => "deleted",
            Happened::Resumed => "changes may have been missed: look again",
        };
        output.json(&json!({
            "path": change.path.as_str(),
            "happened": happened,
            "revision": change.revision.0,
        }));
        output.line(&format!("{} {happened}", change.path));
    }
    Ok(())
}

fn stat_json(path: &str, stat: &Stat) -> Value {
    json!({
        "path": path,
        "version": stat.version,
        "created": stat.created.0,
        "changed": stat.changed.0,
        "children": stat.children,
        "session": stat.owner.map(|owner| owner.0),
    })
}

fn node_json(path: &str, node: &Node) -> Value {
    let mut value = stat_json(path, &node.stat);
    value["data"] = Value::from(String::from_utf8_lossy(&node.data).into_owned());
    value
}
