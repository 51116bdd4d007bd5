//! What a dead session held at all shards, for whoever recovers it. The lists of the shards belong together
//! if they tell of every group, and of each once: one that was on its way meanwhile is in none of them, or in
//! two. A session that is dead at a shard is given nothing more there, so when each list was made does
//! not matter otherwise.

use std::sync::Arc;

use world::Time;

use super::{Shared, tasks};
use crate::{
    bug::{Bug, seeded},
    error::Error,
    group::LockGroup,
    locks::Held,
    name::{Grant, SessionId},
    service::Service,
};

/// All that `dead` held, and a number past all that it was given; `home` is what home said. `None` if this
/// session is over before that is known.
pub(super) async fn of(
    shared: &Arc<Shared>,
    dead: SessionId,
    home: Vec<Held>,
) -> Option<(Vec<Held>, Grant)> {
    if shared.state.lock().machine.shards() == 1 || seeded(Bug::EstateOfHomeOnly) {
        return Some((home, Grant(0)));
    }
    loop {
        if shared.over().is_some() {
            return None;
        }
        let deadline = shared.world.clock.now() + tasks::CALL;
        match shared.world.until(deadline, collect(shared, dead, deadline)).await {
            Ok(Ok(Some(found))) => return Some(found),
            Ok(Ok(None)) => tracing::debug!(dead = dead.0, "lock groups move; asked again"),
            Ok(Err(error)) => tracing::debug!(%error, dead = dead.0, "a shard cannot tell yet"),
            Err(_) => {}
        }
        shared.world.clock.sleep(tasks::BACK_OFF).await;
    }
}

/// Asks all shards; nothing if a group was on its way meanwhile.
async fn collect(
    shared: &Arc<Shared>,
    dead: SessionId,
    deadline: Time,
) -> Result<Option<(Vec<Held>, Grant)>, Error> {
    let shards: Vec<Arc<dyn Service>> =
        shared.lanes.lock().iter().map(|lane| Arc::clone(&lane.service)).collect();
    let (mut held, mut newest) = (Vec::new(), Grant(0));
    let mut told: Vec<LockGroup> = Vec::new();
    for shard in &shards {
        let estate = shard.estate(dead, deadline).await?;
        held.extend(estate.held);
        told.extend(estate.here);
        newest = newest.max(estate.newest);
    }
    told.sort_unstable();
    Ok(LockGroup::all().eq(told).then_some((held, newest)))
}
