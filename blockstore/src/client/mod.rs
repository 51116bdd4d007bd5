//! The client of the virtual disk: splits requests over chunks and groups, sends them to the heads
//! of chains, repeats them until they are answered, keeps what no flush has covered and writes it
//! again when a chain may have lost it.
//!
//! It does not know what it stores, nor how the servers are reached.

mod charts;
mod driven;
mod flush;
mod lane;
mod read;
mod send;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, join_all, select};
use parking_lot::Mutex;
use tokio::sync::Notify;
use world::{Address, Task, Time, World};

use self::{
    charts::Charts,
    driven::Driven,
    lane::{Content, Lane, Part},
};
use crate::{
    disk::{CHUNK, Durability, Fence, Offset, PAGE, SECTOR, Space, SpaceAsk, Traffic, VirtualDisk},
    error::Error,
    link::Chain,
    map::{MAIN, MapClient, MapError, ServerState},
    message::{Dial, Service, Writer},
    place::{ChainVersion, Group, ServerId, Volume},
};

/// The longest that a client waits for news of the volume map in one question.
const POLL: Duration = Duration::from_secs(20);
/// The first and the longest pause before something is tried again.
const PAUSE: Duration = Duration::from_millis(5);
const LONG_PAUSE: Duration = Duration::from_millis(200);

/// How a client behaves.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The volume.
    pub volume: Volume,
    /// The session that it writes for.
    pub session: Fence,
    /// How long a request waits before it is [`Error::Stalled`]. Longer than a server's lease and
    /// restart, so that one crash is a pause and no error.
    pub deadline: Duration,
    /// The most bytes of one request; pieces are cut at its multiples.
    pub piece: u64,
    /// Unflushed bytes that are kept; a write that exceeds them flushes first.
    pub unflushed: u64,
    /// The host that the client is on: replicas there are read first.
    pub near: Option<String>,
}

impl ClientConfig {
    /// The usual behaviour, for `session` on the volume that every cluster has.
    #[must_use]
    pub fn new(session: Fence) -> Self {
        Self {
            volume: MAIN,
            session,
            deadline: Duration::from_secs(60),
            piece: 1 << 20,
            unflushed: 512 << 20,
            near: None,
        }
    }
}

/// The virtual disk of a cluster, opened for one session.
pub struct Client {
    inner: Arc<Inner>,
    watch: Task,
}

/// A server, and where it was when it was dialled.
type Line = (Address, Arc<dyn Service>);

/// What requests share; they may outlive the client.
struct Inner {
    world: World,
    map: MapClient,
    dial: Arc<dyn Dial>,
    config: ClientConfig,
    writer: Writer,
    charts: Charts,
    /// A server told of a newer chain than the chart has: the map is asked again at once, since its news may be lost.
    outdated: Arc<Notify>,
    lanes: Vec<Lane>,
    services: Mutex<BTreeMap<ServerId, Line>>,
    /// Servers that left a read without an answer, until when they are asked last.
    shunned: Mutex<BTreeMap<ServerId, Time>>,
    /// Bytes that the lanes keep.
    kept: AtomicU64,
    fenced: AtomicBool,
    /// Nobody has the client any more: nothing is repeated.
    closed: AtomicBool,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
    discards: AtomicU64,
}

/// Adds to a counter.
fn count(counter: &AtomicU64, add: u64) {
    counter.fetch_add(add, Ordering::Relaxed);
}

impl Client {
    /// Opens the disk: asks the volume map for its chart.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no coordinator answered before the configured deadline.
    pub async fn open(
        world: &World,
        map: MapClient,
        dial: Arc<dyn Dial>,
        config: ClientConfig,
    ) -> Result<Arc<Self>, Error> {
        let deadline = world.clock.now() + config.deadline;
        let Ok(Some(chart)) = map.chart(0, deadline).await else { return Err(Error::Unreachable) };
        let inner = Arc::new(Inner {
            world: world.clone(),
            map,
            dial,
            writer: Writer { session: config.session, client: world.dice.roll() },
            lanes: (0..chart.bits.groups()).map(|group| Lane::new(Group(group))).collect(),
            config,
            charts: Charts::new(chart),
            outdated: Arc::default(),
            services: Mutex::default(),
            shunned: Mutex::default(),
            kept: AtomicU64::new(0),
            fenced: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            counts: Counts::default(),
        });
        let watch = world.spawn("volume map watch", watch_chart(Arc::downgrade(&inner)));
        Ok(Arc::new(Self { inner, watch }))
    }

    /// Bytes that were written and not flushed yet.
    #[must_use]
    pub fn unflushed(&self) -> u64 {
        self.inner.kept.load(Ordering::Relaxed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.inner.closed.store(true, Ordering::Relaxed);
        self.watch.abort();
    }
}

/// Keeps the chart of a client fresh, as long as there is one.
async fn watch_chart(client: Weak<Inner>) {
    while let Some(inner) = client.upgrade() {
        let (world, map) = (inner.world.clone(), inner.map.clone());
        let known = inner.charts.newest().version;
        let outdated = Arc::clone(&inner.outdated);
        drop(inner);
        let began = world.clock.now();
        let told = async {
            outdated.notified().await;
            // However many servers tell of it, the map is asked now and then.
            world.clock.sleep_until(began + LONG_PAUSE).await;
        };
        let ask = map.chart(known, began + POLL);
        futures_util::pin_mut!(told, ask);
        let Either::Left((news, _)) = select(ask, told).await else { continue };
        match news {
            Ok(Some(chart)) => {
                let Some(inner) = client.upgrade() else { return };
                // The number of groups is fixed; a chart with another one is none of this cluster.
                if chart.bits.groups() as usize == inner.lanes.len() {
                    inner.charts.replace(chart);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "no news of the volume map");
                world.clock.sleep(LONG_PAUSE).await;
            }
        }
    }
}

/// Checks that a range is made of whole `unit`s inside the disk.
fn check(at: Offset, length: u64, unit: u64) -> Result<(), Error> {
    if !at.0.is_multiple_of(unit) || !length.is_multiple_of(unit) {
        return Err(Error::Invalid("offset and length must be whole sectors, or pages to discard"));
    }
    match at.0.checked_add(length) {
        Some(_) => Ok(()),
        None => Err(Error::Invalid("the range ends beyond the disk")),
    }
}

/// What a caller is told when the map did not do what it was asked.
#[expect(clippy::needless_pass_by_value, reason = "map_err gives it by value")]
fn unanswered(error: MapError) -> Error {
    match error {
        MapError::Refused(_) => Error::Invalid("refused by the volume map"),
        _ => Error::Unreachable,
    }
}

/// Cuts a range at the multiples of `unit`, which divides a chunk.
fn cut(at: u64, length: u64, unit: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = at + length;
    let mut start = at;
    std::iter::from_fn(move || {
        if start >= end {
            return None;
        }
        let next = (start / unit * unit).saturating_add(unit).min(end);
        let piece = (start, next - start);
        start = next;
        Some(piece)
    })
}

/// One buffer of all pieces: copies only if there are several.
fn whole(mut data: Vec<Bytes>, length: u64) -> Bytes {
    if data.len() == 1 {
        return data.pop().unwrap_or_default();
    }
    let mut bytes = BytesMut::with_capacity(length as usize);
    for piece in data {
        bytes.extend_from_slice(&piece);
    }
    bytes.freeze()
}

impl Inner {
    fn lane(&self, group: Group) -> &Lane {
        // The chart that opened the client made one lane for each group there is.
        &self.lanes[group.0 as usize]
    }

    fn chain(&self, group: Group) -> Option<Chain> {
        self.charts.newest().chain(group).cloned()
    }

    /// A server says that this chain has this version.
    fn heard(&self, group: Group, version: ChainVersion) {
        if self.charts.newest().chain(group).is_some_and(|chain| chain.version < version) {
            self.outdated.notify_one();
        }
    }

    fn group_of(&self, at: u64) -> Group {
        self.charts.newest().group_of(self.config.volume, at)
    }

    fn deadline(&self) -> Time {
        self.world.clock.now() + self.config.deadline
    }

    /// The groups of the chunks in a range.
    fn groups_in(&self, at: u64, length: u64) -> BTreeSet<Group> {
        let chart = self.charts.newest();
        let (first, last) = (at / CHUNK, (at + length - 1) / CHUNK);
        // So many chunks surely fall in all groups; and naming one too many does no harm.
        if last - first >= u64::from(chart.bits.groups()).saturating_mul(16) {
            return (0..chart.bits.groups()).map(Group).collect();
        }
        let volume = self.config.volume;
        (first..=last).map(|chunk| chart.group_of(volume, chunk * CHUNK)).collect()
    }

    /// A member of a chain, ready to be called.
    fn service(&self, server: ServerId, address: &Address) -> Arc<dyn Service> {
        let mut services = self.services.lock();
        if let Some((known, service)) = services.get(&server)
            && known == address
        {
            return Arc::clone(service);
        }
        let service = self.dial.dial(server, address);
        services.insert(server, (address.clone(), Arc::clone(&service)));
        service
    }

    /// Waits before the next try: until the chart moves, or for a little while that grows.
    async fn pause(&self, tries: u32) {
        let for_long = (PAUSE * (1 << tries.min(8))).min(LONG_PAUSE);
        let moved = self.charts.moved();
        futures_util::pin_mut!(moved);
        select(moved, self.world.clock.sleep(for_long)).await;
    }

    /// The error of a request on `group` that had no answer in time: names who is in the way.
    async fn stalled(&self, group: Group) -> Error {
        let trouble = self.lane(group).memory.lock().trouble;
        let chain = self.chain(group);
        let soon = self.world.clock.now() + Duration::from_secs(1);
        let servers = match self.map.servers(soon).await {
            Ok(servers) => servers,
            Err(_) if trouble.is_none() => return Error::Unreachable,
            Err(_) => Vec::new(),
        };
        let concerns = |server: ServerId| {
            chain.as_ref().is_none_or(|chain| chain.members.iter().any(|m| m.server == server))
        };
        let down: Vec<String> = servers
            .iter()
            .filter(|info| {
                let silent = ServerState::Suspect;
                matches!(info.state, ServerState::Down | ServerState::Expected)
                    || info.state == silent
            })
            .filter(|info| concerns(info.server))
            .map(|info| info.server.to_string())
            .collect();
        let head = chain.and_then(|chain| chain.members.first().map(|member| member.server));
        let server = match (down.is_empty(), trouble.or(head)) {
            (false, _) => down.join(", "),
            (true, Some(server)) => server.to_string(),
            (true, None) => "of the chain".to_owned(),
        };
        Error::Stalled { server }
    }

    /// Waits for `work` on `group` until the deadline.
    async fn patiently<R>(
        &self,
        group: Group,
        deadline: Time,
        work: impl Future<Output = Result<R, Error>>,
    ) -> Result<R, Error> {
        match self.world.until(deadline, work).await {
            Ok(result) => result,
            Err(_) => Err(self.stalled(group).await),
        }
    }

    /// Sends mutations, each to the head of its group, and waits for all of them.
    async fn mutate(
        self: &Arc<Self>,
        parts: Vec<(Group, Part)>,
        durable: bool,
    ) -> Result<(), Error> {
        if self.fenced.load(Ordering::Relaxed) {
            return Err(Error::Fenced(self.config.session.0));
        }
        let deadline = self.deadline();
        // The mutation goes on when its caller is gone or waited for too long.
        let send = |(group, part): (Group, Part)| {
            let work = Driven::new(&self.world, Arc::clone(self).send(group, part, durable));
            self.patiently(group, deadline, work)
        };
        let mut parts = parts.into_iter();
        match (parts.next(), parts.len()) {
            (None, _) => Ok(()),
            (Some(only), 0) => send(only).await,
            (Some(first), _) => {
                let results = join_all(std::iter::once(first).chain(parts).map(send)).await;
                results.into_iter().collect()
            }
        }
    }
}

#[async_trait]
impl VirtualDisk for Client {
    async fn read(&self, at: Offset, length: u64) -> Result<Bytes, Error> {
        check(at, length, SECTOR)?;
        let inner = &self.inner;
        let deadline = inner.deadline();
        let read = |(offset, length): (u64, u64)| {
            let group = inner.group_of(offset);
            inner.patiently(group, deadline, inner.fetch(group, offset, length))
        };
        let zeros = |length: u64| BytesMut::zeroed(length as usize).freeze();
        let pieces: Vec<(u64, u64)> = cut(at.0, length, inner.config.piece).collect();
        if let [piece] = pieces[..] {
            let bytes = read(piece).await?;
            return Ok(if bytes.is_empty() { zeros(length) } else { bytes });
        }
        let results = join_all(pieces.iter().copied().map(read)).await;
        let mut bytes = BytesMut::with_capacity(length as usize);
        for ((_, length), result) in pieces.into_iter().zip(results) {
            let piece = result?;
            if piece.is_empty() {
                bytes.resize(bytes.len() + length as usize, 0);
            } else {
                bytes.extend_from_slice(&piece);
            }
        }
        Ok(bytes.freeze())
    }

    async fn write(&self, at: Offset, data: Vec<Bytes>, when: Durability) -> Result<(), Error> {
        let length = data.iter().map(|piece| piece.len() as u64).sum();
        check(at, length, SECTOR)?;
        let inner = &self.inner;
        if inner.kept.load(Ordering::Relaxed) > inner.config.unflushed {
            inner.flush().await?;
        }
        let bytes = whole(data, length);
        let part = |(offset, length): (u64, u64)| {
            let from = (offset - at.0) as usize;
            let content = Content::Bytes(bytes.slice(from..from + length as usize));
            (inner.group_of(offset), Part { offset, length, content })
        };
        let parts = cut(at.0, length, inner.config.piece).map(part).collect();
        inner.mutate(parts, when == Durability::Now).await
    }

    async fn discard(&self, at: Offset, length: u64) -> Result<(), Error> {
        check(at, length, PAGE)?;
        if length == 0 {
            return Ok(());
        }
        let part = Part { offset: at.0, length, content: Content::Nothing };
        let groups = self.inner.groups_in(at.0, length);
        let parts = groups.into_iter().map(|group| (group, part.clone())).collect();
        self.inner.mutate(parts, false).await
    }

    async fn flush(&self) -> Result<(), Error> {
        self.inner.flush().await
    }

    async fn fence(&self, dead: Fence) -> Result<(), Error> {
        let inner = &self.inner;
        match inner.map.fence(dead, inner.deadline()).await {
            Ok(()) => Ok(()),
            Err(error) => {
                tracing::warn!(session = dead.0, %error, "the session is not fenced yet");
                Err(Error::Unreachable)
            }
        }
    }

    async fn space(&self) -> Result<Space, Error> {
        let inner = &self.inner;
        let servers = inner.map.servers(inner.deadline()).await.map_err(unanswered)?;
        let copies = u64::from(inner.charts.newest().replication.max(1));
        let sum = |of: fn(&Space) -> u64| servers.iter().map(|info| of(&info.space)).sum::<u64>();
        Ok(Space { total: sum(|x| x.total) / copies, free: sum(|x| x.free) / copies })
    }

    async fn reserve(&self, ask: SpaceAsk) -> Result<u64, Error> {
        let inner = &self.inner;
        let session = inner.config.session;
        inner.map.reserve(session, ask, inner.deadline()).await.map_err(unanswered)
    }

    fn hosts(&self, at: Offset) -> BTreeSet<String> {
        let chain = self.inner.chain(self.inner.group_of(at.0));
        chain.iter().flat_map(Chain::serving).map(|member| member.address.host()).collect()
    }

    fn traffic(&self) -> Traffic {
        let counts = &self.inner.counts;
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Traffic {
            reads: of(&counts.reads),
            read_bytes: of(&counts.read_bytes),
            writes: of(&counts.writes),
            written_bytes: of(&counts.written_bytes),
            flushes: of(&counts.flushes),
            discards: of(&counts.discards),
        }
    }
}
