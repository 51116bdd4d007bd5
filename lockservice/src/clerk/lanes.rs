//! The ways of a clerk to the shards: to each it sends and from each it hears by tasks of their own.

use std::sync::Arc;

use tokio::sync::Notify;

use super::{Shared, tasks};
use crate::{group::Shard, service::Service};

/// The way to a shard and back.
pub(super) struct Lane {
    pub(super) shard: Shard,
    pub(super) service: Arc<dyn Service>,
    pub(super) send: Notify,
    pub(super) relisten: Notify,
}

impl Shared {
    /// From here on the clerk talks to this shard, too.
    pub(super) fn open_lane(self: &Arc<Self>, shard: Shard, service: Arc<dyn Service>) {
        let (send, relisten) = (Notify::new(), Notify::new());
        let lane = Arc::new(Lane { shard, service, send, relisten });
        let sends = tasks::send(Arc::clone(self), Arc::clone(&lane));
        let listens = tasks::listen(Arc::clone(self), Arc::clone(&lane));
        self.lanes.lock().push(lane);
        let mut tasks = self.tasks.lock();
        tasks.push(self.world.spawn("lock-send", sends));
        tasks.push(self.world.spawn("lock-listen", listens));
    }

    pub(super) fn open_lanes(self: &Arc<Self>, shards: u32) {
        let known = u32::try_from(self.lanes.lock().len()).unwrap_or(u32::MAX);
        for shard in (known..shards).map(Shard) {
            match self.service.shard(shard) {
                Some(service) => self.open_lane(shard, service),
                None => tracing::error!(?shard, "a shard of the lock service cannot be reached"),
            }
        }
    }

    /// Lets all who send and listen look again.
    pub(super) fn stir(&self) {
        for lane in self.lanes.lock().iter() {
            lane.send.notify_one();
        }
    }

    pub(super) fn listen_again(&self, shard: Shard) {
        let lanes = self.lanes.lock();
        lanes.iter().filter(|l| l.shard == shard).for_each(|lane| lane.relisten.notify_one());
    }
}
