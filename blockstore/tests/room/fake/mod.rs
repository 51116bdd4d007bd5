//! Three block servers that are one object in memory behind the real volume map (not replicated):
//! they keep the contract of `message`, count what they are asked, and misbehave on demand.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use blockstore::{
    BLOCK, CHUNK, Fence, Offset, PAGE, Space, SpaceAsk, VirtualDisk,
    client::{Client, ClientConfig},
    link::{Granted, Heartbeat, Known, News, Past, Registration},
    map::{self, Chart, MapClient, MapConfig, MapError, MapServer, MapService, ServerInfo},
    memory::{MemoryDisk, MemorySession},
    message::{
        Change, Dial, Freshness, Refusal, Reply, Request, Service, Ticket, Unanswered, page_sums,
    },
    place::{ChainVersion, Group, GroupBits, Incarnation, Sequence, ServerId},
};
use bytes::Bytes;
use parking_lot::Mutex;
use world::{Address, Time, World};

pub(crate) const BITS: GroupBits = GroupBits(3);

/// What the servers do wrong; each is used up as often as it says.
#[derive(Default, Clone, Debug)]
pub(crate) struct Faults {
    /// Mutations that are done and not answered.
    pub(crate) lost_replies: u32,
    /// Requests that are neither done nor answered.
    pub(crate) lost_requests: u32,
    /// Requests that are refused as not ready.
    pub(crate) not_ready: u32,
    /// Servers that answer nothing.
    pub(crate) silent: BTreeSet<ServerId>,
    /// Servers whose reads are damaged.
    pub(crate) damaged: BTreeSet<ServerId>,
    /// Mutations are refused for want of space.
    pub(crate) full: bool,
}

/// What happened.
#[derive(Default, Clone, Debug)]
pub(crate) struct Log {
    /// Mutations that were done: group, sequence, offset, length.
    pub(crate) done: Vec<(Group, Sequence, u64, u64)>,
    /// Retries that were recognized.
    pub(crate) repeated: u32,
    /// Flush requests, by server.
    pub(crate) flushes: Vec<(ServerId, usize)>,
    /// Reads, by server.
    pub(crate) reads: BTreeMap<ServerId, u32>,
}

struct Servers {
    disk: MemoryDisk,
    /// One session for each group, so that a flush of a group covers that group.
    sessions: BTreeMap<Group, Arc<MemorySession>>,
    chains: BTreeMap<Group, (ChainVersion, Vec<ServerId>)>,
    seen: BTreeMap<(Group, u64, u64), (Sequence, BTreeSet<Sequence>)>,
    fenced: BTreeSet<Fence>,
    faults: Faults,
    log: Log,
}

/// The whole fake cluster.
pub(crate) struct Fake {
    pub(crate) world: World,
    pub(crate) map: Arc<MapServer>,
    servers: Arc<Mutex<Servers>>,
    starts: Mutex<u128>,
}

struct One {
    me: ServerId,
    servers: Arc<Mutex<Servers>>,
}

impl Dial for Fake {
    fn dial(&self, server: ServerId, _: &Address) -> Arc<dyn Service> {
        Arc::new(One { me: server, servers: Arc::clone(&self.servers) })
    }
}

impl Fake {
    pub(crate) async fn new() -> Arc<Self> {
        let world = World::real();
        let config = MapConfig {
            cluster: 1,
            servers: (1..=3).map(ServerId).collect(),
            replication: 3,
            bits: BITS,
            // Nobody renews it.
            lease: Duration::from_secs(600),
            replace: MapConfig::REPLACE,
            rate: 0,
        };
        let disk = MemoryDisk::new();
        let sessions = (0..BITS.groups()).map(Group);
        let sessions = sessions.map(|g| (g, disk.open(Fence(1000 + u64::from(g.0))))).collect();
        let fake = Arc::new(Self {
            map: MapServer::solo(&world, config),
            world,
            servers: Arc::new(Mutex::new(Servers {
                disk,
                sessions,
                chains: BTreeMap::new(),
                seen: BTreeMap::new(),
                fenced: BTreeSet::new(),
                faults: Faults::default(),
                log: Log::default(),
            })),
            starts: Mutex::new(0),
        });
        fake.start(&[1, 2, 3], Past::Clean).await;
        fake
    }

    /// These servers start again, with all that they acknowledged: their chains get new versions.
    pub(crate) async fn restart(&self, servers: &[u64]) {
        self.start(servers, Past::Clean).await;
    }

    async fn start(&self, servers: &[u64], past: Past) {
        for server in servers {
            let start = {
                let mut starts = self.starts.lock();
                *starts += 1;
                *starts
            };
            let registration = Registration {
                server: ServerId(*server),
                directory: u128::from(*server),
                start,
                address: format!("10.0.0.{server}:7000").parse().unwrap(),
                past,
                space: Space { total: 300, free: 200 },
            };
            self.map.register(registration, Time::NEVER).await.unwrap();
        }
        let chart = self.map.chart(0, Time::NEVER).await.unwrap().unwrap();
        let mut servers = self.servers.lock();
        for chain in chart.chains {
            let members = chain.members.iter().map(|member| member.server).collect();
            servers.chains.insert(chain.group, (chain.version, members));
        }
    }

    /// All servers lose power and start again: what was not flushed is gone, and so is the memory
    /// of sequences.
    pub(crate) async fn power_loss(&self) {
        {
            let mut servers = self.servers.lock();
            servers.disk.crash_to_flushed();
            servers.seen.clear();
        }
        self.start(&[1, 2, 3], Past::Lost).await;
    }

    /// The servers take in the fences of the map and confirm them.
    pub(crate) async fn confirm_fences(&self) {
        for server in 1..=3 {
            let info = &self.map.servers(Time::NEVER).await.unwrap()[server as usize - 1];
            let mut beat = Heartbeat {
                server: ServerId(server),
                incarnation: info.incarnation,
                ..Heartbeat::default()
            };
            let granted = self.map.heartbeat(beat.clone(), Time::NEVER).await.unwrap();
            self.servers.lock().fenced.extend(granted.news.fenced);
            beat.known = granted.news.known;
            beat.confirmed = beat.known.fences;
            self.map.heartbeat(beat, Time::NEVER).await.unwrap();
        }
    }

    pub(crate) fn fault(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.servers.lock().faults);
    }

    pub(crate) fn log(&self) -> Log {
        self.servers.lock().log.clone()
    }

    pub(crate) fn map_client(&self) -> MapClient {
        MapClient::new(&self.world, vec![(1, self.map.clone() as Arc<dyn MapService>)])
    }

    pub(crate) async fn open(self: &Arc<Self>, session: u64, deadline: Duration) -> Arc<Client> {
        self.open_with(ClientConfig { deadline, ..ClientConfig::new(Fence(session)) }).await
    }

    pub(crate) async fn open_with(self: &Arc<Self>, config: ClientConfig) -> Arc<Client> {
        self.open_at(self.map_client(), config).await
    }

    /// A client whose first `lost` questions for a newer chart get lost.
    pub(crate) async fn open_muted(self: &Arc<Self>, session: u64, lost: u32) -> Arc<Client> {
        let map = Muted { map: Arc::clone(&self.map), lost: Mutex::new(lost) };
        let map = MapClient::new(&self.world, vec![(1, Arc::new(map) as Arc<dyn MapService>)]);
        self.open_at(map, ClientConfig::new(Fence(session))).await
    }

    async fn open_at(self: &Arc<Self>, map: MapClient, config: ClientConfig) -> Arc<Client> {
        let dial = Arc::clone(self) as Arc<dyn Dial>;
        Client::open(&self.world, map, dial, config).await.unwrap()
    }
}

/// The volume map over a line that loses questions for a newer chart: whoever asks waits for ever.
pub(crate) struct Muted {
    pub(crate) map: Arc<MapServer>,
    /// How many are lost.
    pub(crate) lost: Mutex<u32>,
}

#[async_trait]
impl MapService for Muted {
    async fn chart(&self, newer_than: u64, deadline: Time) -> Result<Option<Chart>, MapError> {
        if newer_than > 0 && take(&mut self.lost.lock()) {
            std::future::pending::<()>().await;
        }
        self.map.chart(newer_than, deadline).await
    }

    async fn register(&self, one: Registration, deadline: Time) -> Result<Incarnation, MapError> {
        self.map.register(one, deadline).await
    }

    async fn heartbeat(&self, beat: Heartbeat, deadline: Time) -> Result<Granted, MapError> {
        self.map.heartbeat(beat, deadline).await
    }

    async fn news(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, MapError> {
        self.map.news(server, incarnation, known, deadline).await
    }

    async fn confirm(
        &self,
        server: ServerId,
        incarnation: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), MapError> {
        self.map.confirm(server, incarnation, fences, deadline).await
    }

    async fn fence(&self, session: Fence, deadline: Time) -> Result<(), MapError> {
        self.map.fence(session, deadline).await
    }

    async fn change(&self, change: map::Change, deadline: Time) -> Result<(), MapError> {
        self.map.change(change, deadline).await
    }

    async fn reserve(
        &self,
        session: Fence,
        ask: SpaceAsk,
        deadline: Time,
    ) -> Result<u64, MapError> {
        self.map.reserve(session, ask, deadline).await
    }

    async fn servers(&self, deadline: Time) -> Result<Vec<ServerInfo>, MapError> {
        self.map.servers(deadline).await
    }
}

/// What a request needs from the disk, decided under the lock and done outside it.
enum Step {
    Reply(Reply),
    Silence,
    Read { chain: ChainVersion, offset: u64, length: u64 },
    Mutate { group: Group, chain: ChainVersion, change: Change, lost: bool },
    Flush { groups: Vec<(Group, ChainVersion)> },
}

fn refused(refusal: Refusal) -> Step {
    Step::Reply(Reply::Refused(refusal))
}

fn take(count: &mut u32) -> bool {
    let some = *count > 0;
    *count = count.saturating_sub(1);
    some
}

impl Servers {
    fn version(&self, group: Group, chain: ChainVersion) -> Result<&[ServerId], Step> {
        let (version, members) = &self.chains[&group];
        if *version == chain { Ok(members) } else { Err(refused(Refusal::Stale(*version))) }
    }

    fn decide(&mut self, me: ServerId, request: Request) -> Result<Step, Step> {
        if self.faults.silent.contains(&me) || take(&mut self.faults.lost_requests) {
            return Ok(Step::Silence);
        }
        if take(&mut self.faults.not_ready) {
            return Ok(refused(Refusal::NotReady));
        }
        match request {
            Request::Read { group, chain, offset, length, freshness, .. } => {
                assert_eq!(freshness, Freshness::Strong);
                assert_eq!(BITS.of(map::MAIN, offset), group);
                assert_eq!(offset / CHUNK, (offset + u64::from(length) - 1) / CHUNK);
                self.version(group, chain)?;
                *self.log.reads.entry(me).or_default() += 1;
                if self.faults.damaged.contains(&me) {
                    return Ok(refused(Refusal::Damaged { offset }));
                }
                Ok(Step::Read { chain, offset, length: u64::from(length) })
            }
            Request::Mutate { group, chain, ticket, change } => {
                self.mutate(me, group, chain, ticket, change)
            }
            Request::Flush { groups } => {
                for (group, chain) in &groups {
                    self.version(*group, *chain)?;
                }
                self.log.flushes.push((me, groups.len()));
                Ok(Step::Flush { groups })
            }
            other => panic!("a client does not ask {other:?}"),
        }
    }

    fn mutate(
        &mut self,
        me: ServerId,
        group: Group,
        chain: ChainVersion,
        ticket: Ticket,
        change: Change,
    ) -> Result<Step, Step> {
        let members = self.version(group, chain)?;
        assert_eq!(members[0], me, "mutations go to the head");
        change.check().expect("well formed");
        if self.fenced.contains(&ticket.writer.session) {
            return Ok(refused(Refusal::Fenced(ticket.writer.session)));
        }
        if self.faults.full {
            return Ok(refused(Refusal::NoSpace(me)));
        }
        assert!(ticket.floor <= ticket.sequence);
        let writer = (group, ticket.writer.session.0, ticket.writer.client);
        let (floor, seen) = self.seen.entry(writer).or_default();
        if ticket.sequence < *floor {
            return Ok(refused(Refusal::Answered));
        }
        *floor = (*floor).max(ticket.floor);
        *seen = seen.split_off(floor);
        if !seen.insert(ticket.sequence) {
            self.log.repeated += 1;
            return Ok(Step::Reply(Reply::Done { chain }));
        }
        let (offset, length) = match &change {
            Change::Write(write) => (write.offset, write.body.len() as u64),
            Change::Discard(discard) => (discard.offset, discard.length),
        };
        self.log.done.push((group, ticket.sequence, offset, length));
        let lost = take(&mut self.faults.lost_replies);
        Ok(Step::Mutate { group, chain, change, lost })
    }
}

impl One {
    fn session(&self, group: Group) -> Arc<MemorySession> {
        Arc::clone(&self.servers.lock().sessions[&group])
    }

    async fn discard(&self, group: Group, offset: u64, length: u64) {
        let session = self.session(group);
        let end = offset + length;
        // Only the chunks of the group; for huge ranges, only the first thousand.
        for chunk in (offset / CHUNK..=(end - 1) / CHUNK).take(1000) {
            if BITS.of(map::MAIN, chunk * CHUNK) == group {
                let (start, stop) = (offset.max(chunk * CHUNK), end.min((chunk + 1) * CHUNK));
                session.discard(Offset(start), stop - start).await.unwrap();
            }
        }
    }
}

#[async_trait]
impl Service for One {
    async fn call(&self, request: Request, _: Time) -> Result<Reply, Unanswered> {
        let unanswered = || Err(Unanswered("lost".to_owned()));
        let step = self.servers.lock().decide(self.me, request);
        match step.unwrap_or_else(|step| step) {
            Step::Reply(reply) => Ok(reply),
            Step::Silence => unanswered(),
            Step::Read { chain, offset, length } => {
                let session = self.session(Group(0));
                let body = session.read(Offset(offset), length).await.unwrap();
                if body.iter().all(|byte| *byte == 0) {
                    return Ok(Reply::Data { chain, sums: Vec::new(), body: Bytes::new() });
                }
                Ok(Reply::Data { chain, sums: page_sums(offset, &body), body })
            }
            Step::Mutate { group, chain, change, lost } => {
                match change {
                    Change::Write(write) => {
                        let when = match write.durable {
                            true => blockstore::Durability::Now,
                            false => blockstore::Durability::Later,
                        };
                        let (session, at) = (self.session(group), Offset(write.offset));
                        session.write(at, vec![write.body], when).await.unwrap();
                    }
                    Change::Discard(x) => self.discard(group, x.offset, x.length).await,
                }
                if lost { unanswered() } else { Ok(Reply::Done { chain }) }
            }
            Step::Flush { groups } => {
                let (_, chain) = groups[0];
                for (group, _) in groups {
                    self.session(group).flush().await.unwrap();
                }
                Ok(Reply::Done { chain })
            }
        }
    }
}

/// Where a group's bytes are: the first chunk that falls in it.
pub(crate) fn byte_of(group: Group) -> u64 {
    let chunk = (0..).find(|chunk| BITS.of(map::MAIN, chunk * CHUNK) == group);
    chunk.unwrap() * CHUNK + BLOCK
}

pub(crate) fn page(byte: u8) -> Vec<Bytes> {
    vec![Bytes::from(vec![byte; PAGE as usize])]
}
