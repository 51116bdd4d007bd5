//! What the leader of the volume map does unasked: it cuts off servers whose lease ran out, lets
//! chains go on without those that do not come back, and gives their replicas to others. Also what
//! it remembers of repairs, for people. How chains change is the machine's business.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use world::{Time, World};

use super::{
    machine::{Command, Map},
    service::MapServer,
};
use crate::{
    bug::{self, Bug},
    place::{Incarnation, ServerId},
};

/// Leases that chains wait for a silent member when all others started anew: it may be the only one
/// that still has what was acknowledged and not flushed.
const FORSAKE: u32 = 4;
/// Leases that a server is given that this leader has never heard of.
const UNHEARD: u32 = 2;
/// The shortest time over which a pace is measured.
const PACE: Duration = Duration::from_secs(1);

/// Looks after the servers for as long as there is a service.
pub(super) async fn care(map: Weak<MapServer>, world: World) {
    while let Some(map) = map.upgrade() {
        if let Err(error) = map.look_after().await {
            tracing::debug!(%error, "the servers are looked after by another leader, or later");
        }
        let pause = map.lease() / 4;
        drop(map);
        world.clock.sleep(pause).await;
    }
}

/// Spawns [`care`].
pub(super) fn spawn(world: &World, map: &Arc<MapServer>) {
    world.spawn("map-care", care(Arc::downgrade(map), world.clone()));
}

/// A server that may act, as far as the leader knows.
pub(super) struct Acting {
    pub(super) server: ServerId,
    pub(super) incarnation: Incarnation,
    pub(super) until: Time,
    /// It has spoken to this leader.
    pub(super) heard: bool,
}

/// Since when servers are down, as this leader saw it.
#[derive(Default)]
pub(super) struct Down(BTreeMap<(ServerId, Incarnation), Time>);

/// What is to be done about servers that do not speak.
pub(super) fn due(
    map: &Map,
    acting: &[Acting],
    down: &mut Down,
    (now, since): (Time, Time),
    (lease, replace): (Duration, Duration),
) -> Vec<Command> {
    let mut due = Vec::new();
    for one in acting {
        let until = if one.heard { one.until } else { one.until.max(since + lease * UNHEARD) };
        let until = if bug::on(Bug::CutTooEarly) { until - lease / 2 } else { until };
        if now >= until {
            due.push(Command::Expire { server: one.server, incarnation: one.incarnation });
        }
    }
    let mut still = BTreeMap::new();
    for (id, row) in map.servers.iter().filter(|(_, row)| !row.up) {
        let (server, incarnation) = (*id, row.incarnation);
        let from = down.0.get(&(server, incarnation)).copied().unwrap_or(now);
        still.insert((server, incarnation), from);
        let spared = || map.rows.iter().any(|row| row.spares(server, &map.servers));
        if incarnation.0 == 0 {
            if now >= since + lease * (UNHEARD + 1) && spared() {
                due.push(Command::Expire { server, incarnation });
            }
        } else if now >= from + lease * FORSAKE && spared() {
            due.push(Command::Forsake { server, incarnation });
        }
        if now >= from + replace && map.drops(server) {
            due.push(Command::Replace { server, incarnation });
        }
    }
    down.0 = still;
    due
}

/// How much joiners lack, by the heads that bring it to them, and how fast that becomes less.
#[derive(Default)]
pub(super) struct Owed {
    by_head: BTreeMap<ServerId, Vec<(ServerId, u64)>>,
    paces: BTreeMap<ServerId, (Time, u64, u64)>,
}

impl Owed {
    /// A head told.
    pub(super) fn note(&mut self, head: ServerId, owed: Vec<(ServerId, u64)>, now: Time) {
        let known: Vec<ServerId> = owed.iter().map(|(joiner, _)| *joiner).collect();
        self.by_head.insert(head, owed);
        for joiner in known {
            let bytes = self.bytes(joiner);
            let (at, before, pace) = *self.paces.entry(joiner).or_insert((now, bytes, 0));
            let passed = now.since(at);
            if passed >= PACE {
                let done = u128::from(before.saturating_sub(bytes)) * 1_000_000_000;
                let fresh = u64::try_from(done / passed.as_nanos().max(1)).unwrap_or(u64::MAX);
                let pace = if pace == 0 { fresh } else { pace / 2 + fresh / 2 };
                self.paces.insert(joiner, (now, bytes, pace));
            }
        }
    }

    /// A head brings nothing to anybody any more.
    pub(super) fn forget(&mut self, head: ServerId) {
        self.by_head.remove(&head);
    }

    /// Bytes that a joiner lacks.
    pub(super) fn bytes(&self, joiner: ServerId) -> u64 {
        let of = |rows: &Vec<(ServerId, u64)>| -> u64 {
            rows.iter().filter(|(id, _)| *id == joiner).map(|(_, bytes)| bytes).sum()
        };
        self.by_head.values().map(of).sum()
    }

    /// Bytes a second.
    pub(super) fn pace(&self, joiner: ServerId) -> u64 {
        self.paces.get(&joiner).map_or(0, |(_, _, pace)| *pace)
    }
}

/// A sentence for the log.
pub(super) fn tell(command: &Command) {
    match command {
        Command::Expire { server, .. } => {
            tracing::warn!(%server, "a block server was silent for its whole lease: cut off");
        }
        Command::Forsake { server, .. } => {
            tracing::warn!(%server, "chains go on without a block server that does not come back");
        }
        Command::Replace { server, .. } => {
            tracing::warn!(%server, "a block server was down for long: others take its replicas");
        }
        _ => {}
    }
}
