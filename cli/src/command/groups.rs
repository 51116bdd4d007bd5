//! `plumeria locks groups` and `plumeria locks move`: where the lock groups lie, how busy each is, and
//! how one goes elsewhere. Without either word, who holds what.

use std::time::Duration;

use lockservice::{
    LockGroup, Shard,
    message::{GroupCommand, GroupReply, GroupRow, LoadRow},
    shards,
};
use serde_json::{Value, json};
use world::World;

use super::locks::{self, UNREACHABLE, service};
use crate::{
    args::{Cluster, LockGroups, Locks, MoveGroup},
    failure::{Failure, Kind, OrFail as _, Outcome},
    output::Output,
};

/// Between two looks at a move that is under way.
const PAUSE: Duration = Duration::from_millis(20);

pub(crate) async fn run(world: &World, what: Locks, timeout: Duration, output: Output) -> Outcome {
    match (what.what, what.cluster) {
        (Some(LockGroups::Groups(cluster)), _) => show(world, &cluster, timeout, output).await,
        (Some(LockGroups::Move(asked)), _) => start_move(world, &asked, timeout, output).await,
        (None, Some(cluster)) => locks::locks(world, &Cluster { cluster }, timeout, output).await,
        (None, None) => Err(Failure::usage("which cluster?")),
    }
}

async fn show(world: &World, cluster: &Cluster, timeout: Duration, output: Output) -> Outcome {
    let service = service(world, cluster)?;
    let (count, rows) = shards::groups(service, world.clock.now() + timeout)
        .await
        .or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
    let groups: Vec<Value> = rows.iter().map(row_json).collect();
    output.json(&json!({ "shards": count, "groups": groups }));
    output.heading(&format!("{} lock groups over {count} shard(s)", rows.len()));
    let header = ["group", "shard", "move", "spans held", "waiting", "asked", "goes to"];
    output.table(&header, rows.iter().map(cells).collect());
    Ok(())
}

async fn start_move(
    world: &World,
    asked: &MoveGroup,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let service = service(world, &asked.cluster)?;
    let Some(group) = LockGroup::new(asked.group) else {
        let last = LockGroup::COUNT - 1;
        return Err(Failure::usage(format!("there is no such lock group: they are 0 to {last}")));
    };
    let (deadline, to) = (world.clock.now() + timeout, Shard(asked.shard));
    let reply = service
        .direct(GroupCommand::Move { group, to }, deadline)
        .await
        .or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
    if reply != GroupReply::Done {
        let assignment = service.groups(deadline).await;
        let count = assignment.map_or(0, |assignment| assignment.shards);
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "group {} cannot go to shard {}: there are {count} shards (0 to {}), and a group that \
                 is on its way elsewhere must arrive first (see `plumeria locks groups`)",
                asked.group,
                asked.shard,
                count.saturating_sub(1)
            ),
        ));
    }
    while world.clock.now() < deadline {
        let assignment =
            service.groups(deadline).await.or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
        let there = |row: &&GroupRow| row.group == group && row.moving.is_none();
        if let Some(row) = assignment.groups.iter().find(there) {
            output.json(&json!({ "group": asked.group, "shard": row.shard.0, "move": row.by.0 }));
            output.line(&format!("group {} is served by shard {}", asked.group, row.shard.0));
            return Ok(());
        }
        world.clock.sleep(PAUSE).await;
    }
    Err(Failure::new(
        Kind::Unreachable,
        "the move is recorded and goes on, but it was not done in time: see `plumeria locks groups`",
    ))
}

fn cells((row, load): &(GroupRow, LoadRow)) -> Vec<String> {
    vec![
        row.group.number().to_string(),
        row.shard.0.to_string(),
        row.by.0.to_string(),
        load.spans.to_string(),
        load.waiters.to_string(),
        load.asked.to_string(),
        row.moving.map_or_else(|| "-".to_owned(), |(to, _)| to.0.to_string()),
    ]
}

fn row_json((row, load): &(GroupRow, LoadRow)) -> Value {
    json!({
        "group": row.group.number(),
        "shard": row.shard.0,
        "move": row.by.0,
        "moving_to": row.moving.map(|(to, _)| to.0),
        "spans": load.spans,
        "waiting": load.waiters,
        "asked": load.asked,
    })
}
