//! All shards seen as one service, for whoever only looks: the lists of the shards put together. Each is
//! true for itself; a group that moves meanwhile may be in two of them, or in none.

use std::sync::Arc;

use world::Time;

use crate::{
    error::Error,
    group::Shard,
    message::{GroupRow, LoadRow, LockRows, SessionRow},
    service::Service,
};

/// Every shard of the service behind `home`, home first.
async fn all(home: Arc<dyn Service>, deadline: Time) -> Result<Vec<Arc<dyn Service>>, Error> {
    let shards = home.groups(deadline).await?.shards;
    let others = (1..shards).map(|shard| home.shard(Shard(shard)).ok_or(Error::Unreachable));
    let others = others.collect::<Result<Vec<_>, Error>>()?;
    Ok(std::iter::once(home).chain(others).collect())
}

/// Who holds what and who waits, at all shards.
///
/// # Errors
/// If one of them did not answer.
pub async fn locks(home: Arc<dyn Service>, deadline: Time) -> Result<LockRows, Error> {
    let mut rows = LockRows::default();
    for shard in all(home, deadline).await? {
        let more = shard.locks(deadline).await?;
        rows.locks.extend(more.locks);
        rows.waiters.extend(more.waiters);
        rows.claims.extend(more.claims);
        rows.cut |= more.cut;
    }
    rows.locks.sort_by_key(|row| row.span);
    Ok(rows)
}

/// The sessions as home knows them, with what they hold and wait for at all shards.
///
/// # Errors
/// If a shard did not answer.
pub async fn sessions(home: Arc<dyn Service>, deadline: Time) -> Result<Vec<SessionRow>, Error> {
    let shards = all(home, deadline).await?;
    let mut rows = Vec::new();
    for (number, shard) in shards.iter().enumerate() {
        let found = shard.sessions(deadline).await?;
        if number == 0 {
            rows = found;
            continue;
        }
        for row in &mut rows {
            let here = found.iter().find(|here| here.session == row.session);
            let counts = here.map_or((0, 0, 0), |h| (h.spans, h.names, h.waiting));
            row.spans += counts.0;
            row.names += counts.1;
            row.waiting += counts.2;
        }
    }
    Ok(rows)
}

/// Where each group lies and how much there is to do for it; the number of shards in front.
///
/// # Errors
/// If a shard did not answer.
pub async fn groups(
    home: Arc<dyn Service>,
    deadline: Time,
) -> Result<(u32, Vec<(GroupRow, LoadRow)>), Error> {
    let assignment = home.groups(deadline).await?;
    let mut loads = Vec::new();
    for shard in all(home, deadline).await? {
        loads.push(shard.load(deadline).await?);
    }
    let load = |row: &GroupRow| {
        let there = loads.get(row.shard.0 as usize).into_iter().flatten();
        let found = there.copied().find(|load| load.group == row.group);
        found.unwrap_or(LoadRow { group: row.group, spans: 0, waiters: 0, asked: 0 })
    };
    let rows = assignment.groups.iter().map(|row| (*row, load(row))).collect();
    Ok((assignment.shards, rows))
}
