//! The leader's side of the volume map: leases of block servers, what they say about their space,
//! confirmations of fences, and the waiting for all of it. Leases live in this coordinator's
//! memory; a new leader grants every server one full lease before it counts any as over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::{
    StreamExt,
    future::{Either, select},
};
use parking_lot::Mutex;
use replica::Host;
use tokio::sync::watch;
use world::{Time, World};

use super::{
    api::{Change, Chart, MapError, MapService, ServerInfo, ServerState},
    care::{self, Acting, Down, Owed},
    codec,
    log::{Log, Replicated, Solo},
    machine::{Command, Map, Server},
};
use crate::{
    disk::{Fence, Space, SpaceAsk},
    link::{Granted, Heartbeat, Known, News, Registration},
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId},
};

/// What the coordinators are told about the volume map. All of them are told the same.
#[derive(Clone, Debug)]
pub struct MapConfig {
    /// The cluster's number.
    pub cluster: u128,
    /// Its block servers.
    pub servers: BTreeSet<ServerId>,
    /// Copies of each group; no more than servers.
    pub replication: u8,
    /// How many groups; counts only when the map is made.
    pub bits: GroupBits,
    /// How long a block server may act without a renewal: see [`MapConfig::lease_for`].
    pub lease: Duration,
    /// How long a server may be down before others take its replicas.
    pub replace: Duration,
    /// Bytes a second that each server may send to repair others; zero: no limit.
    pub rate: u64,
}

impl MapConfig {
    /// How long a server may be down before others take its replicas, unless told otherwise: a
    /// restart of its machine is no reason to copy a disk.
    pub const REPLACE: Duration = Duration::from_secs(600);

    /// The lease of block servers where sessions have leases of `session`.
    #[must_use]
    pub fn lease_for(session: Duration) -> Duration {
        (session / 3).max(Duration::from_secs(1))
    }
}

/// How long a grant of space lasts. Whoever has one asks every few seconds.
const GRANT: Duration = Duration::from_secs(60);

/// The volume map's service on one coordinator.
pub struct MapServer {
    world: World,
    log: Arc<dyn Log>,
    config: MapConfig,
    leases: Mutex<Leases>,
    /// Moves when a server has said something that a fence may wait for.
    said: watch::Sender<u64>,
}

/// What this coordinator knows as the leader of `term`.
#[derive(Default)]
struct Leases {
    term: u64,
    since: Time,
    servers: BTreeMap<ServerId, Lease>,
    /// Fences that somebody waits for, by number, and when this leader first heard of them: who
    /// asks again does not wait for a silent server anew.
    fences: BTreeMap<u64, Time>,
    down: Down,
    owed: Owed,
    /// What sessions said that they wrote, and until when the servers may not have told that it is taken.
    settling: Vec<(Time, u64)>,
    /// When sessions asked for space last.
    asked: BTreeMap<Fence, Time>,
}

/// A server, as it last spoke to this leader.
#[derive(Clone, Copy, Default)]
struct Lease {
    incarnation: Incarnation,
    until: Time,
    known: Known,
    confirmed: u64,
    /// Not known until a heartbeat tells it: other words of a server say nothing of space.
    space: Option<Space>,
    dirty: u64,
    /// It has spoken to this leader.
    heard: bool,
    /// This start gets no lease any more: it is being cut off.
    cut: bool,
}

impl MapServer {
    pub(crate) fn new(world: &World, log: Arc<dyn Log>, config: MapConfig) -> Arc<Self> {
        let said = watch::Sender::new(0);
        let leases = Mutex::default();
        Arc::new(Self { world: world.clone(), log, config, leases, said })
    }

    /// The service of the map that `host` replicates. As the first leader it makes the map.
    #[must_use]
    pub fn open(world: &World, host: Host<Map>, config: MapConfig) -> Arc<Self> {
        let map = Self::new(world, Arc::new(Replicated(host)), config);
        care::spawn(world, &map);
        map
    }

    /// A map that is neither replicated nor on disk, for tests of clients and block servers.
    #[must_use]
    pub fn solo(world: &World, config: MapConfig) -> Arc<Self> {
        let map = Self::new(world, Arc::new(Solo::new()), config);
        care::spawn(world, &map);
        map
    }

    pub(super) fn lease(&self) -> Duration {
        self.config.lease
    }

    /// As the leader, does what is due about servers that do not speak.
    pub(super) async fn look_after(&self) -> Result<(), MapError> {
        let deadline = self.world.clock.now() + self.config.lease;
        self.lead(deadline).await?;
        for command in self.due() {
            care::tell(&command);
            self.propose(&command, deadline).await?;
        }
        for session in self.silent() {
            let ask = SpaceAsk::default();
            self.propose(&Command::Grant { session, ask, room: 0 }, deadline).await?;
        }
        Ok(())
    }

    /// Sessions that have a grant and stopped asking for it: they ended, and could not say so.
    fn silent(&self) -> Vec<Fence> {
        let now = self.world.clock.now();
        let mut leases = self.leases.lock();
        let since = leases.since;
        leases.asked.retain(|_, asked| now.since(*asked) < GRANT);
        let silent = |session: &Fence| !leases.asked.contains_key(session);
        if now.since(since) < GRANT {
            return Vec::new();
        }
        self.look(|map| map.grants.keys().copied().filter(silent).collect())
    }

    /// What is due; those that are to be cut off get no lease any more.
    fn due(&self) -> Vec<Command> {
        let now = self.world.clock.now();
        let (lease, replace) = (self.config.lease, self.config.replace);
        let acting = self.acting();
        let mut leases = self.leases.lock();
        let acting: Vec<Acting> = acting
            .into_iter()
            .map(|(server, incarnation)| {
                let Lease { until, heard, .. } = *leases.of(server, incarnation, now + lease);
                Acting { server, incarnation, until, heard }
            })
            .collect();
        let (since, mut down) = (leases.since, std::mem::take(&mut leases.down));
        let due =
            self.look(|map| care::due(map, &acting, &mut down, (now, since), (lease, replace)));
        leases.down = down;
        for command in &due {
            if let Command::Expire { server, incarnation } = command {
                leases.of(*server, *incarnation, now + lease).cut = true;
                leases.owed.forget(*server);
            }
        }
        due
    }

    /// What this coordinator knew of leases is gone, as when it becomes the leader anew. For tests.
    pub fn forget_leases(&self) {
        *self.leases.lock() = Leases::default();
    }

    /// The starts of servers that were not cut off: only they may act.
    #[must_use]
    pub fn acting(&self) -> Vec<(ServerId, Incarnation)> {
        self.look(|map| {
            let acting = map.servers.iter().filter(|(_, row)| row.up);
            acting.map(|(id, row)| (*id, row.incarnation)).collect()
        })
    }

    /// Checks that this is the leader; notes when it became so. Makes the map if there is none.
    async fn lead(&self, deadline: Time) -> Result<(), MapError> {
        let term = self.log.lead()?;
        {
            let mut leases = self.leases.lock();
            if leases.term != term {
                *leases = Leases { term, since: self.world.clock.now(), ..Leases::default() };
            }
        }
        if self.look(|map| map.cluster) == Some(self.config.cluster) {
            return Ok(());
        }
        let format = Command::Format {
            cluster: self.config.cluster,
            servers: self.config.servers.clone(),
            replication: self.config.replication,
            bits: self.config.bits,
        };
        self.propose(&format, deadline).await.map(drop)
    }

    fn look<R>(&self, look: impl FnOnce(&Map) -> R) -> R {
        let (mut look, mut result) = (Some(look), None);
        self.log.look(&mut |map| {
            if let Some(look) = look.take() {
                result = Some(look(map));
            }
        });
        result.expect("a log shows its machine once")
    }

    async fn propose(&self, command: &Command, deadline: Time) -> Result<u64, MapError> {
        let reply = self.log.propose(codec::encode_command(command), deadline).await?;
        codec::decode_outcome(&reply)?
    }

    /// Waits until `ready` gives something, looking again whenever the machine or a server's word
    /// moved, until `limit`.
    async fn wait<R>(
        &self,
        limit: Time,
        ready: impl Fn() -> Result<Option<R>, MapError>,
    ) -> Result<Option<R>, MapError> {
        let (mut moves, mut said) = (self.log.moves(), self.said.subscribe());
        loop {
            said.borrow_and_update();
            if let Some(result) = ready()? {
                return Ok(Some(result));
            }
            let moved = async {
                let said = said.changed();
                futures_util::pin_mut!(said);
                match select(moves.next(), said).await {
                    Either::Left((moved, _)) => moved.is_some(),
                    Either::Right((moved, _)) => moved.is_ok(),
                }
            };
            match self.world.until(limit, moved).await {
                Ok(true) => {}
                Ok(false) => return Err(MapError::Stopped("the coordinator stops".to_owned())),
                Err(_) => return ready(),
            }
        }
    }

    /// Waits until all servers that may act have told this leader their space, for one lease at most: what the
    /// machine knows is of their start.
    async fn hear_space(&self, deadline: Time) -> Result<(), MapError> {
        let limit = self.leases.lock().since + self.config.lease;
        let told = || {
            let acting = self.acting();
            let leases = self.leases.lock();
            let told = |(server, incarnation): &(ServerId, Incarnation)| {
                let lease = leases.servers.get(server);
                lease
                    .is_some_and(|lease| lease.incarnation == *incarnation && lease.space.is_some())
            };
            Ok(acting.iter().all(told).then_some(()))
        };
        self.wait(limit.min(deadline), told).await.map(drop)
    }

    fn check(&self, server: ServerId, incarnation: Incarnation) -> Result<(), MapError> {
        self.look(|map| map.current(server, incarnation))
    }

    /// Changes what is remembered of a start that is not over, and wakes those who wait for it.
    fn note(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        note: impl FnOnce(&mut Lease),
    ) -> Result<(), MapError> {
        self.check(server, incarnation)?;
        {
            let mut leases = self.leases.lock();
            let lease = leases.of(server, incarnation, self.world.clock.now() + self.config.lease);
            // A server that is being cut off gets no lease, or the fence would not hold it.
            if lease.cut {
                return Err(MapError::Expired(server));
            }
            if lease.incarnation != incarnation {
                return Err(MapError::Superseded(server));
            }
            lease.heard = true;
            note(lease);
        }
        self.said.send_modify(|said| *said += 1);
        Ok(())
    }

    /// The reported chains that the machine does not know to be equal yet.
    fn unknown_equals(&self, equal: &[(Group, ChainVersion)]) -> Vec<(Group, ChainVersion)> {
        let news = |map: &Map, group: Group, version: ChainVersion| {
            map.rows.get(group.0 as usize).is_some_and(|row| row.version == version && !row.equal)
        };
        self.look(|map| equal.iter().copied().filter(|(g, v)| news(map, *g, *v)).collect())
    }

    /// The joiners that the machine does not know to be ready yet.
    fn unknown_ready(
        &self,
        ready: &[(Group, ChainVersion, ServerId)],
    ) -> Vec<(Group, ChainVersion, ServerId)> {
        let news = |map: &Map, (group, version, joiner): (Group, ChainVersion, ServerId)| {
            map.rows.get(group.0 as usize).is_some_and(|row| {
                row.version == version && row.equal && row.spare.contains(&joiner)
            })
        };
        self.look(|map| ready.iter().copied().filter(|row| news(map, *row)).collect())
    }

    /// What a fence waits for: `None` once every server that may act has confirmed it; else who
    /// can be given up now, and when to look again. With `cut`, those get no lease any more.
    fn pending(
        &self,
        fence: &PendingFence,
        cut: bool,
    ) -> Option<(Vec<(ServerId, Incarnation)>, Time)> {
        let now = self.world.clock.now();
        let acting = self.acting();
        let mut leases = self.leases.lock();
        let (mut over, mut next, mut all) = (Vec::new(), Time::NEVER, true);
        for (server, incarnation) in acting {
            let lease = leases.of(server, incarnation, now + self.config.lease);
            if lease.confirmed >= fence.number && lease.known.map >= fence.map {
                continue;
            }
            all = false;
            // A server that was silent for long still gets one lease to answer this fence.
            let until = lease.until.max(fence.since + self.config.lease);
            if now >= until {
                lease.cut |= cut;
                over.push((server, incarnation));
            } else {
                next = next.min(until);
            }
        }
        if all { None } else { Some((over, next)) }
    }
}

impl Leases {
    /// What is known of a server, if `incarnation` is its latest start. One that has not spoken to
    /// this leader yet may have a lease of the last leader, or have started a moment ago, however
    /// long a fence has been waiting: it is given until `until` to speak.
    fn of(&mut self, server: ServerId, incarnation: Incarnation, until: Time) -> &mut Lease {
        let row = self.servers.entry(server).or_default();
        if row.incarnation < incarnation {
            *row = Lease { incarnation, until, ..Lease::default() };
        }
        row
    }
}

/// A fence on its way.
struct PendingFence {
    /// Its place in the list of fences.
    number: u64,
    /// The map that the servers must have heard of, because of servers that were cut off.
    map: u64,
    since: Time,
}

#[async_trait]
impl MapService for MapServer {
    async fn register(
        &self,
        registration: Registration,
        deadline: Time,
    ) -> Result<Incarnation, MapError> {
        self.lead(deadline).await?;
        let (server, space) = (registration.server, registration.space);
        let number = self.propose(&Command::Register(registration), deadline).await?;
        let incarnation = Incarnation(number);
        self.note(server, incarnation, |lease| lease.space = Some(space))?;
        Ok(incarnation)
    }

    async fn heartbeat(&self, beat: Heartbeat, deadline: Time) -> Result<Granted, MapError> {
        self.lead(deadline).await?;
        self.log.barrier(deadline).await?;
        self.check(beat.server, beat.incarnation)?;
        let groups = self.unknown_equals(&beat.equal);
        if !groups.is_empty() {
            let (server, incarnation) = (beat.server, beat.incarnation);
            self.propose(&Command::Equal { server, incarnation, groups }, deadline).await?;
        }
        let groups = self.unknown_ready(&beat.ready);
        if !groups.is_empty() {
            let (server, incarnation) = (beat.server, beat.incarnation);
            self.propose(&Command::Ready { server, incarnation, groups }, deadline).await?;
        }
        let now = self.world.clock.now();
        let until = now + self.config.lease;
        self.leases.lock().owed.note(beat.server, beat.owed, now);
        self.note(beat.server, beat.incarnation, |lease| {
            lease.until = until;
            lease.known = beat.known;
            lease.confirmed = lease.confirmed.max(beat.confirmed);
            lease.space = Some(beat.space);
            lease.dirty = beat.dirty_bytes;
        })?;
        // Looked at after the lease was noted: whoever gets a lease gets every fence before it.
        let news = self.look(|map| map.news(beat.server, beat.known));
        Ok(Granted { lease: self.config.lease, news, rate: self.config.rate })
    }

    async fn news(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, MapError> {
        self.lead(deadline).await?;
        self.note(server, incarnation, |lease| lease.known = known)?;
        self.wait(deadline, || {
            self.log.lead()?;
            self.check(server, incarnation)?;
            let (now, news) = self.look(|map| (map.known(), map.news(server, known)));
            Ok((now.map > known.map || now.fences > known.fences).then_some(news))
        })
        .await
    }

    async fn confirm(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), MapError> {
        self.lead(deadline).await?;
        self.note(server, incarnation, |lease| lease.confirmed = lease.confirmed.max(fences))
    }

    async fn chart(&self, newer_than: u64, deadline: Time) -> Result<Option<Chart>, MapError> {
        self.lead(deadline).await?;
        self.wait(deadline, || {
            self.log.lead()?;
            Ok(self.look(|map| (map.version > newer_than).then(|| map.chart())))
        })
        .await
    }

    async fn fence(&self, session: Fence, deadline: Time) -> Result<(), MapError> {
        self.lead(deadline).await?;
        let number = self.propose(&Command::Fence(session), deadline).await?;
        let now = self.world.clock.now();
        let since = *self.leases.lock().fences.entry(number).or_insert(now);
        // Where a server is cut off, the others must know the chains without it.
        let map = self.look(|map| {
            let cut = map.servers.values().any(|row| !row.up && row.incarnation.0 > 0);
            if cut { map.version } else { 0 }
        });
        let mut fence = PendingFence { number, map, since };
        tracing::info!(session = session.0, number, "fencing a session at the block servers");
        loop {
            self.lead(deadline).await?;
            let Some((over, next)) = self.pending(&fence, true) else { break };
            for (server, incarnation) in over {
                tracing::warn!(%server, "a block server was silent for its whole lease: cut off");
                let expire = Command::Expire { server, incarnation };
                fence.map = self.propose(&expire, deadline).await?;
            }
            let look = || Ok(self.pending(&fence, false).is_none_or(|(over, _)| !over.is_empty()));
            let ready = || look().map(|ready: bool| ready.then_some(()));
            self.wait(next.min(deadline), ready).await?;
            if self.world.clock.now() >= deadline {
                return Err(MapError::Deadline);
            }
        }
        // Only a leader's word counts that was still one when all had confirmed.
        self.log.barrier(deadline).await?;
        self.leases.lock().fences.remove(&number);
        Ok(())
    }

    async fn change(&self, change: Change, deadline: Time) -> Result<(), MapError> {
        self.lead(deadline).await?;
        tracing::info!(?change, "an operator changes the block servers");
        self.propose(&Command::Change(change), deadline).await.map(drop)
    }

    async fn reserve(
        &self,
        session: Fence,
        ask: SpaceAsk,
        deadline: Time,
    ) -> Result<u64, MapError> {
        self.lead(deadline).await?;
        self.hear_space(deadline).await?;
        let room = {
            let mut leases = self.leases.lock();
            let now = self.world.clock.now();
            leases.asked.insert(session, now);
            let settling = leases.settling(ask.spent, now, self.config.lease);
            let room = self.look(|map| map.room(|id, server| leases.space(id, server)));
            room.saturating_sub(settling)
        };
        self.propose(&Command::Grant { session, ask, room }, deadline).await
    }

    async fn servers(&self, deadline: Time) -> Result<Vec<ServerInfo>, MapError> {
        self.lead(deadline).await?;
        let now = self.world.clock.now();
        let leases = self.leases.lock();
        Ok(self
            .look(|map| map.servers.keys().filter_map(|id| leases.info(map, *id, now)).collect()))
    }
}

impl Leases {
    /// The space of a server as it last told it.
    fn space(&self, id: ServerId, server: &Server) -> Space {
        let lease = self.servers.get(&id).filter(|lease| lease.incarnation == server.incarnation);
        lease.and_then(|lease| lease.space).unwrap_or(server.space)
    }

    /// Notes what a session wrote just now; bytes that were written and that servers, each of which speaks once
    /// in a lease, may still count as free.
    fn settling(&mut self, spent: u64, now: Time, lease: Duration) -> u64 {
        self.settling.retain(|(until, _)| *until > now);
        if spent > 0 {
            self.settling.push((now + lease, spent));
        }
        self.settling.iter().map(|(_, spent)| spent).sum()
    }

    /// A server, for people.
    fn info(&self, map: &Map, server: ServerId, now: Time) -> Option<ServerInfo> {
        let row = map.servers.get(&server)?;
        let lease = self.servers.get(&server).filter(|lease| lease.incarnation == row.incarnation);
        let left = lease.map_or(Duration::ZERO, |lease| lease.until.since(now));
        let keeps = || map.rows.iter().filter(|group| group.seat(server).is_some());
        let unequal = keeps().filter(|group| !group.equal).count() as u32;
        let missing = map.rows.iter().filter(|group| group.spare.contains(&server)).count() as u32;
        Some(ServerInfo {
            server,
            address: row.address.clone(),
            incarnation: row.incarnation,
            state: match row.address {
                None => ServerState::Expected,
                Some(_) if !row.up => ServerState::Down,
                Some(_) if left.is_zero() => ServerState::Suspect,
                Some(_) if row.draining => ServerState::Draining,
                Some(_) if unequal > 0 => ServerState::Equalizing,
                Some(_) => ServerState::Up,
            },
            lease_left: left,
            space: self.space(server, row),
            dirty_bytes: lease.map_or(0, |lease| lease.dirty),
            groups: keeps().count() as u32,
            unequal,
            missing,
            owed: self.owed.bytes(server),
            pace: self.owed.pace(server),
            weight: row.weight,
            domain: row.domain.clone(),
        })
    }
}
