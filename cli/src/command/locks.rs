//! `plumeria locks` and `plumeria sessions`: who holds what, who waits for whom, and since when.

use std::time::Duration;

use lockservice::{
    Mode, Span,
    advisory::ClaimRow,
    message::{LockRow, SessionRow, WaiterRow},
};
use serde_json::{Value, json};
use world::World;

use crate::{
    args::Cluster,
    config::Client,
    failure::{Kind, OrFail as _, Outcome},
    output::{self, Output},
    role,
};

pub(super) const UNREACHABLE: &str =
    "the lock service does not answer: is the cluster running, and a majority of its coordinators?";

/// Who holds what, and who waits.
pub(crate) async fn locks(
    world: &World,
    cluster: &Cluster,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let service = service(world, cluster)?;
    let rows = lockservice::shards::locks(service, world.clock.now() + timeout)
        .await
        .or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
    output.json(&json!({
        "locks": rows.locks.iter().map(lock_json).collect::<Vec<_>>(),
        "waiters": rows.waiters.iter().map(waiter_json).collect::<Vec<_>>(),
        "advisory": rows.claims.iter().map(claim_json).collect::<Vec<_>>(),
        "more": rows.cut,
    }));
    output.heading("held");
    output.table(
        &["from", "to", "mode", "sessions", "grant", "held for"],
        rows.locks.iter().map(lock_cells).collect(),
    );
    output.heading("waiting");
    output.table(
        &["session", "from", "to", "mode", "for sessions", "waits for"],
        rows.waiters.iter().map(waiter_cells).collect(),
    );
    output.heading("advisory");
    output.table(
        &["session", "file", "process", "from byte", "to byte", "mode", "state"],
        rows.claims.iter().map(claim_cells).collect(),
    );
    if rows.cut {
        output.line("  (there are more than are shown)");
    }
    Ok(())
}

/// The sessions, dead ones too.
pub(crate) async fn sessions(
    world: &World,
    cluster: &Cluster,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let service = service(world, cluster)?;
    let rows = lockservice::shards::sessions(service, world.clock.now() + timeout)
        .await
        .or_fail(Kind::Unreachable, || UNREACHABLE.into())?;
    output.json(&json!({ "sessions": rows.iter().map(session_json).collect::<Vec<_>>() }));
    output.table(
        &["session", "kind", "state", "lease left", "spans", "names", "waits", "flushing", "owner"],
        rows.iter().map(session_cells).collect(),
    );
    Ok(())
}

pub(super) fn service(
    world: &World,
    cluster: &Cluster,
) -> Outcome<std::sync::Arc<dyn lockservice::Service>> {
    let client = Client::find(&cluster.cluster)?;
    Ok(role::Remote::new(world, &client, wire::Role::Tool, 0)?.access(world).locks)
}

const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Shared => "shared",
        Mode::Exclusive => "exclusive",
    }
}

/// The last name of a span, which people read more easily than the one behind it.
fn last(span: Span) -> String {
    lockservice::Name(span.end().0 - 1).to_string()
}

fn list(sessions: impl Iterator<Item = u64>) -> String {
    let all: Vec<String> = sessions.map(|session| session.to_string()).collect();
    if all.is_empty() { "-".to_owned() } else { all.join(" ") }
}

fn lock_cells(row: &LockRow) -> Vec<String> {
    let first = row.owners.first();
    vec![
        row.span.start().to_string(),
        last(row.span),
        first.map_or("-", |owner| mode(owner.mode)).to_owned(),
        list(row.owners.iter().map(|owner| owner.session.0)),
        first.map_or_else(String::new, |owner| owner.grant.0.to_string()),
        row.held.map_or_else(|| "-".to_owned(), output::seconds),
    ]
}

fn waiter_cells(row: &WaiterRow) -> Vec<String> {
    vec![
        row.session.0.to_string(),
        row.need.start().to_string(),
        last(row.need),
        mode(row.mode).to_owned(),
        list(row.on.iter().map(|session| session.0)),
        output::seconds(row.waited),
    ]
}

fn claim_cells(row: &ClaimRow) -> Vec<String> {
    let claim = &row.claim;
    vec![
        row.session.0.to_string(),
        claim.file.to_string(),
        claim.process.to_string(),
        claim.stretch.first().to_string(),
        claim.stretch.last().to_string(),
        claim.mode.map_or("-", mode).to_owned(),
        if row.waits { "waits" } else { "held" }.to_owned(),
    ]
}

fn claim_json(row: &ClaimRow) -> Value {
    let claim = &row.claim;
    json!({
        "session": row.session.0,
        "file": claim.file,
        "process": claim.process,
        "first": claim.stretch.first(),
        "last": claim.stretch.last(),
        "mode": claim.mode.map(mode),
        "waits": row.waits,
    })
}

const fn state(row: &SessionRow) -> &'static str {
    match (row.live, row.lease_left.is_zero(), row.recoverer.is_some()) {
        (true, false, _) => "live",
        (true, true, _) => "silent",
        (false, _, true) => "recovering",
        (false, _, false) => "expired",
    }
}

fn session_cells(row: &SessionRow) -> Vec<String> {
    vec![
        row.session.0.to_string(),
        row.client.kind.to_string(),
        state(row).to_owned(),
        output::seconds(row.lease_left),
        row.spans.to_string(),
        row.names.to_string(),
        row.waiting.to_string(),
        row.flushing.to_string(),
        format!("{}:{}", row.client.host, row.client.owner),
    ]
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock_json(row: &LockRow) -> Value {
    let owner = |owner: &lockservice::message::Owner| {
        json!({
            "session": owner.session.0,
            "mode": mode(owner.mode),
            "grant": owner.grant.0,
        })
    };
    json!({
        "start": row.span.start().0,
        "end": row.span.end().0,
        "owners": row.owners.iter().map(owner).collect::<Vec<_>>(),
        "held_ms": row.held.map(millis),
    })
}

fn waiter_json(row: &WaiterRow) -> Value {
    json!({
        "session": row.session.0,
        "start": row.need.start().0,
        "end": row.need.end().0,
        "mode": mode(row.mode),
        "for": row.on.iter().map(|session| session.0).collect::<Vec<_>>(),
        "waited_ms": millis(row.waited),
    })
}

fn session_json(row: &SessionRow) -> Value {
    json!({
        "session": row.session.0,
        "kind": row.client.kind.to_string(),
        "owner": row.client.owner,
        "host": row.client.host,
        "state": state(row),
        "recoverer": row.recoverer.map(|by| by.0),
        "lease_left_ms": millis(row.lease_left),
        "spans": row.spans,
        "names": row.names,
        "waiting": row.waiting,
        "flushing": row.flushing,
    })
}
