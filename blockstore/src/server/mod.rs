//! The block server: keeps its part of every chain that the volume map gives it, over a store. It
//! acts only with a valid lease, the chain's version and the list of fences. Clients, other members
//! and the map are reached through traits; how words travel is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use world::{Address, Task, Time, World};

use crate::{
    bug::{self, Bug},
    chain::{Machine, Phase},
    disk::Fence,
    link::{Known, LinkError, MapLink, Member, Past},
    message::{Dial, Refusal, Reply, Request, ServerStatus, Service, Unanswered},
    place::{BlockId, ChainVersion, Group, GroupBits, Incarnation, ServerId},
    store::{Hashes, Store, StoreError},
};

mod duty;
mod equalize;
mod mend;
mod mutate;
mod serve;
mod sync;
#[cfg(test)]
mod tests;

/// What a block server needs to know.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Its number.
    pub server: ServerId,
    /// Where others reach it, as the map tells them.
    pub address: Address,
    /// Bytes of its disk that client writes may not take: for logs, metadata, discards.
    pub reserve: u64,
}

impl ServerConfig {
    /// With the usual reserve.
    #[must_use]
    pub fn new(server: ServerId, address: Address) -> Self {
        Self { server, address, reserve: 256 << 20 }
    }
}

/// A block server. Give it to [`crate::bulk::Answers`] or a [`Dial`] so that others can call it.
pub struct Server {
    inner: Arc<Inner>,
    tasks: Vec<Task>,
}

/// A group's chain at this server.
struct Seat {
    group: Group,
    machine: Mutex<Machine>,
    /// Moves when the machine did.
    moved: watch::Sender<u64>,
    /// Who kept the chain waiting last.
    stuck: Mutex<Option<ServerId>>,
    /// Whom a task of this server brings what it lacks, under which version.
    bringing: Mutex<Option<(ChainVersion, Member)>>,
    /// Bytes that the joiner still lacks, as far as is known.
    owed: AtomicU64,
}

/// Another server, and the address that it was dialled at.
type Peer = (Address, Arc<dyn Service>);

/// By what right the server acts.
#[derive(Default)]
struct Authority {
    until: Time,
    stopped: Option<String>,
}

struct Inner {
    world: World,
    config: ServerConfig,
    incarnation: AtomicU64,
    store: Arc<dyn Store>,
    link: Arc<dyn MapLink>,
    dial: Arc<dyn Dial>,
    authority: Mutex<Authority>,
    bits: RwLock<GroupBits>,
    seats: RwLock<BTreeMap<Group, Arc<Seat>>>,
    fences: RwLock<BTreeSet<Fence>>,
    known: Mutex<Known>,
    /// Moves when the list of fences did.
    fenced: watch::Sender<u64>,
    /// The version of the list up to which nothing of its sessions is under way here.
    confirmed: AtomicU64,
    peers: Mutex<BTreeMap<ServerId, Peer>>,
    /// Chains made equal that the map may not know of yet.
    equal: Mutex<BTreeMap<Group, ChainVersion>>,
    /// Chains whose joiner has all but the last changes.
    ready: Mutex<BTreeMap<Group, (ChainVersion, ServerId)>>,
    /// Wakes the heartbeat.
    poke: Notify,
    equalizers: Semaphore,
    syncs: Semaphore,
    /// Bytes a second for joiners; zero: no limit.
    rate: AtomicU64,
    /// When the next bytes may go to a joiner.
    next: Mutex<Time>,
    /// Damaged blocks that are being repaired.
    mending: Mutex<BTreeSet<BlockId>>,
    /// No space is left but the reserve, and nothing of that.
    full: AtomicBool,
    out: AtomicBool,
    /// Bytes of writes that were admitted since the space of the disk was looked at.
    admitted: AtomicU64,
    draining: AtomicBool,
    /// Moves when the server stopped by itself.
    failed: watch::Sender<Option<String>>,
}

impl Server {
    /// Registers with the map, waiting for a coordinator as long as it takes, and serves. The
    /// store is the server's from now on.
    ///
    /// # Errors
    /// The map refuses this server: a sentence with the remedy.
    pub async fn start(
        world: &World,
        config: ServerConfig,
        store: Arc<dyn Store>,
        link: Arc<dyn MapLink>,
        dial: Arc<dyn Dial>,
    ) -> Result<Arc<Self>, LinkError> {
        let whole = store.was_clean() || bug::on(Bug::RestartAsInSync);
        let past = if whole && !store.was_clean() {
            Past::Unbroken
        } else if store.list(Hashes::ALL, None, 1).is_ok_and(|(blocks, _)| blocks.is_empty()) {
            Past::Nothing
        } else if whole {
            Past::Clean
        } else {
            Past::Lost
        };
        let incarnation = duty::register(world, &config, &*store, &*link, past).await?;
        let inner = Arc::new(Inner {
            world: world.clone(),
            config,
            incarnation: AtomicU64::new(incarnation.0),
            store,
            link,
            dial,
            authority: Mutex::default(),
            bits: RwLock::new(GroupBits(0)),
            seats: RwLock::default(),
            fences: RwLock::default(),
            known: Mutex::default(),
            fenced: watch::channel(0).0,
            confirmed: AtomicU64::new(0),
            peers: Mutex::default(),
            equal: Mutex::default(),
            ready: Mutex::default(),
            poke: Notify::new(),
            equalizers: Semaphore::new(8),
            syncs: Semaphore::new(sync::ABREAST),
            rate: AtomicU64::new(0),
            next: Mutex::default(),
            mending: Mutex::default(),
            full: AtomicBool::new(false),
            out: AtomicBool::new(false),
            admitted: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            failed: watch::channel(None).0,
        });
        let tasks = vec![
            world.spawn("block-lease", Arc::clone(&inner).heartbeats()),
            world.spawn("block-news", Arc::clone(&inner).hear()),
            world.spawn("block-fence", Arc::clone(&inner).confirm_fences()),
        ];
        Ok(Arc::new(Self { inner, tasks }))
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> ServerId {
        self.inner.config.server
    }

    /// The number of this start.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.inner.incarnation()
    }

    /// What it is doing.
    #[must_use]
    pub fn status(&self) -> ServerStatus {
        self.inner.status()
    }

    /// The groups that this server would answer reads of now, each with the version of its chain and
    /// whether it would order mutations too: it serves them, and has a lease.
    #[must_use]
    pub fn serves(&self) -> Vec<(Group, ChainVersion, bool)> {
        if self.inner.live().is_err() {
            return Vec::new();
        }
        let seats = self.inner.seats.read();
        let serves = seats.iter().filter_map(|(group, seat)| {
            let machine = seat.machine.lock();
            let serves = machine.phase() == Phase::Serving;
            serves.then(|| (*group, machine.version(), machine.is_head()))
        });
        serves.collect()
    }

    /// Ready when the server has stopped by itself, with the reason: its disk failed, or the map
    /// has cut it off.
    pub async fn failure(&self) -> String {
        let mut failed = self.inner.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "it was dropped".to_owned(),
        }
    }

    /// Stops: takes no more writes, waits at most `patience` for those under way, commits, closes
    /// the store. Returns whether the stop is clean, so that the next start has nothing to repair.
    ///
    /// # Errors
    /// The store had stopped before, or could not commit.
    pub async fn stop(&self, patience: Duration) -> Result<bool, StoreError> {
        let inner = &self.inner;
        inner.draining.store(true, SeqCst);
        let deadline = inner.world.clock.now() + patience;
        while !inner.is_idle() && inner.world.clock.now() < deadline {
            inner.world.clock.sleep(Duration::from_millis(5)).await;
        }
        inner.end("it was stopped");
        for task in &self.tasks {
            task.abort();
        }
        let clean = inner.is_idle();
        let store = Arc::clone(&inner.store);
        inner.world.blocking(move || store.close(clean)).await?;
        Ok(clean)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.inner.end("it was dropped");
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Inner {
    /// From now on nothing is served.
    fn end(&self, reason: &str) {
        self.authority.lock().stopped.get_or_insert_with(|| reason.to_owned());
        for seat in self.seats.read().values() {
            seat.moved();
        }
    }

    fn fail(&self, reason: &str) {
        tracing::error!(server = self.config.server.0, reason, "the block server stops");
        self.end(reason);
        self.failed.send_replace(Some(reason.to_owned()));
    }

    fn incarnation(&self) -> Incarnation {
        Incarnation(self.incarnation.load(SeqCst))
    }

    /// Whether the server may act: its lease is valid and it has not stopped.
    fn live(&self) -> Result<(), Refusal> {
        let authority = self.authority.lock();
        if authority.stopped.is_some() {
            return Err(Refusal::Stopped(self.config.server));
        }
        if self.world.clock.now() >= authority.until && !bug::on(Bug::IgnoreLease) {
            return Err(Refusal::NotReady);
        }
        Ok(())
    }

    fn is_idle(&self) -> bool {
        self.seats.read().values().all(|seat| seat.machine.lock().is_idle())
    }

    fn seat(&self, group: Group) -> Result<Arc<Seat>, Refusal> {
        self.seats.read().get(&group).cloned().ok_or(Refusal::Stale(ChainVersion(0)))
    }

    fn hashes(&self, group: Group) -> Hashes {
        let (first, last) = self.bits.read().hashes(group);
        Hashes { first, last }
    }

    fn peer(&self, member: &Member) -> Arc<dyn Service> {
        let mut peers = self.peers.lock();
        match peers.get(&member.server) {
            Some((address, peer)) if *address == member.address => Arc::clone(peer),
            _ => {
                let peer = self.dial.dial(member.server, &member.address);
                peers.insert(member.server, (member.address.clone(), Arc::clone(&peer)));
                peer
            }
        }
    }

    /// What a store's error means to the caller; the end of the store is the end of the server.
    fn refuse(&self, error: &StoreError) -> Refusal {
        match error {
            StoreError::Damaged { offset } => Refusal::Damaged { offset: *offset },
            StoreError::Stopped(reason) | StoreError::Unusable(reason) => {
                if self.authority.lock().stopped.is_none() {
                    self.fail(reason);
                }
                Refusal::Stopped(self.config.server)
            }
        }
    }

    fn status(&self) -> ServerStatus {
        let usage = self.store.usage();
        let (mut chains, mut serving) = (0, 0);
        for seat in self.seats.read().values() {
            let phase = seat.machine.lock().phase();
            chains += u32::from(phase != Phase::Out);
            serving += u32::from(phase == Phase::Serving);
        }
        let left = self.authority.lock().until.since(self.world.clock.now());
        ServerStatus {
            server: self.config.server,
            incarnation: self.incarnation(),
            chains,
            serving,
            space: usage.space,
            used_slots: usage.slots,
            dirty_bytes: usage.dirty,
            lease_left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Seat {
    fn new(group: Group, machine: Machine) -> Self {
        let (moved, stuck) = (watch::channel(0).0, Mutex::new(None));
        let (bringing, owed) = (Mutex::new(None), AtomicU64::new(0));
        Self { group, machine: Mutex::new(machine), moved, stuck, bringing, owed }
    }

    fn moved(&self) {
        self.moved.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A refusal, naming who keeps the chain waiting if that is known.
    fn explain(&self, refusal: Refusal) -> Refusal {
        match (&refusal, *self.stuck.lock()) {
            (Refusal::NotReady, Some(server)) => Refusal::Waiting(server),
            _ => refusal,
        }
    }
}

#[async_trait]
impl Service for Server {
    async fn call(&self, request: Request, deadline: Time) -> Result<Reply, Unanswered> {
        let answer = self.inner.answer(request, deadline).await;
        Ok(answer.unwrap_or_else(Reply::Refused))
    }
}

impl Inner {
    async fn answer(self: &Arc<Self>, request: Request, deadline: Time) -> Result<Reply, Refusal> {
        if matches!(request, Request::Status) {
            return Ok(Reply::Status(self.status()));
        }
        self.live()?;
        match request {
            Request::Read { group, chain, volume, offset, length, freshness } => {
                let read = serve::Read { group, chain, volume, offset, length, freshness };
                self.read(read, deadline).await
            }
            Request::Mutate { group, chain, ticket, change } => {
                self.mutate((group, chain), ticket, change, deadline).await
            }
            Request::Forward { group, chain, order, ticket, change } => {
                let link = mutate::Link { chain, order, ticket, change };
                self.forward(group, link, deadline).await
            }
            Request::Flush { groups } => self.flush(&groups).await,
            Request::Applied { group, chain } => self.applied(group, chain),
            Request::List { group, chain, after } => self.list(group, chain, after).await,
            Request::Fetch { group, chain, block } => self.fetch(group, chain, block).await,
            Request::Install { group, chain, block, content } => {
                self.install(group, chain, block, content, deadline).await
            }
            Request::Serve { group, chain, seen } => self.serve(group, chain, &seen).await,
            Request::Status => Ok(Reply::Status(self.status())),
        }
    }
}
