//! A coordinator's lock service: leases in the leader's memory, one event stream per session,
//! commands through the replicated table. It does not know how the table is replicated
//! ([`Engine`]) nor what a lock protects.

mod groups;
pub mod leases;
mod marks;
mod registry;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use world::{Task, Time, World};

use crate::{
    bug::{Bug, seeded},
    engine::Engine,
    error::Error,
    group::{LockGroup, MoveId, Shard},
    message::{
        Ask, Assignment, Client, Command, Estate, Event, GroupCommand, GroupReply, LoadRow,
        LockRows, Opened, Part, Renewal, Reply, Seq, SessionRow,
    },
    name::{Grant, Name, SessionId},
    registry::server::Watchers,
    service::{Events, Service},
    table::Table,
};
pub use groups::Peers;
use leases::Leases;
use marks::Marks;

/// How a server behaves.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// How long a renewal is good for.
    pub lease: Duration,
}

impl Config {
    /// How long a holder that says that it is at it may take to answer a revocation: longer than
    /// the data path's deadline and than a clerk waits for a lock while it has another pinned.
    /// Whoever takes longer is fenced.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.lease * 4 + Duration::from_secs(60)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { lease: Duration::from_secs(30) }
    }
}

/// The lock service of one coordinator. Cheap calls; drop it, or [`Server::stop`] it, to end it.
pub struct Server {
    world: World,
    engine: Arc<dyn Engine>,
    config: Config,
    inner: Mutex<Inner>,
    renewed: Notify,
    /// The registry may have changed.
    changed: Notify,
    watch: Mutex<Option<Task>>,
    shard: Shard,
    /// The same coordinator's servers of all shards.
    siblings: OnceLock<Vec<Weak<Self>>>,
    peers: Mutex<Peers>,
    /// What was asked for each group.
    asked: Vec<AtomicU64>,
}

#[derive(Default)]
struct Inner {
    term: Option<u64>,
    leases: Leases,
    marks: Marks,
    /// Holders that seemed not to have heard of a revocation, and when they were told again.
    told: BTreeMap<SessionId, Time>,
    pressed: Option<Time>,
    watchers: Watchers,
    streams: BTreeMap<SessionId, Stream>,
}

type Stream = mpsc::Sender<Vec<Event>>;

/// How many groups of events a client may lag behind before its stream is cut.
const LAG: usize = 1024;
/// How many waiters are looked at for holders that do not answer, the oldest first.
const MOST_PRESSED: usize = 10_000;
/// The longest report that a renewal may carry.
const MAX_REPORT: usize = 64 << 10;
/// How long [`Service::sessions`] waits for fresh numbers.
const FRESH: Duration = Duration::from_millis(300);

impl Server {
    /// Serves the table behind `engine`.
    #[must_use]
    pub fn start(world: World, engine: Arc<dyn Engine>, config: Config) -> Arc<Self> {
        let mut shard = Shard::HOME;
        engine.look(&mut |table| shard = table.shard());
        let server = Arc::new(Self {
            world,
            engine,
            config,
            inner: Mutex::default(),
            renewed: Notify::new(),
            changed: Notify::new(),
            watch: Mutex::default(),
            shard,
            siblings: OnceLock::new(),
            peers: Mutex::default(),
            asked: LockGroup::all().map(|_| AtomicU64::new(0)).collect(),
        });
        let watch = Self::watch(Arc::downgrade(&server), server.world.clone());
        *server.watch.lock() = Some(server.world.spawn("lock-server", watch));
        server
    }

    /// Ends all streams and expires nobody any more.
    pub fn stop(&self) {
        if let Some(watch) = self.watch.lock().take() {
            watch.abort();
        }
        self.peers.lock().end();
        let mut inner = self.inner.lock();
        inner.streams.clear();
        self.engine.look(&mut |table| inner.watchers.clear(table.tree_mut()));
    }

    /// Follows the table: passes events on, keeps leases, lets sessions expire.
    async fn watch(server: Weak<Self>, world: World) {
        let Some(mut moves) = server.upgrade().map(|server| server.engine.moves()) else { return };
        let mut next = Time::ZERO;
        loop {
            let Some(server) = server.upgrade() else { return };
            let now = world.clock.now();
            server.follow(now, now >= next);
            if now >= next {
                next = now
                    + (server.config.lease / 20)
                        .clamp(Duration::from_millis(5), Duration::from_millis(200));
            }
            drop(server);
            // What ends the wait does not matter: both sides are looked at.
            let _ = world.until(next, moves.next()).await;
        }
    }

    fn follow(self: &Arc<Self>, now: Time, all: bool) {
        let mut inner = self.inner.lock();
        let term = self.engine.leading();
        let all = all || term != inner.term;
        if term != inner.term {
            inner.term = term;
            inner.leases.clear();
            inner.marks.clear();
            inner.told.clear();
            self.asked.iter().for_each(|asked| asked.store(0, Ordering::Relaxed));
            // Also when it led before and leads again: what was said between was not heard here.
            self.end_streams(&mut inner);
        }
        self.pump(&mut inner);
        if !all || term.is_none() {
            return;
        }
        let mut living = Vec::new();
        self.look(|table| {
            living = table.living().collect();
            inner.marks.push(now, table.mark());
        });
        self.press(&mut inner, now);
        if self.shard != Shard::HOME {
            // Sessions live, and expire, at home.
            return;
        }
        for session in inner.leases.sweep(now, self.config.lease, &living) {
            let server = Arc::clone(self);
            self.world.spawn("lock-expire", async move {
                tracing::warn!(session = session.0, "the lease ran out");
                let deadline = server.world.clock.now() + server.config.lease;
                // If it fails the next sweep asks again, here or at the next leader.
                let _ = server.propose(Command::Expire(session), deadline).await;
            });
        }
    }

    /// Deals with holders that are in somebody's way for long: one that does not seem to know is
    /// told again, by a new stream; one that still knows nothing a lease later, and one that has
    /// known for longer than [`Config::patience`], is fenced.
    fn press(self: &Arc<Self>, inner: &mut Inner, now: Time) {
        let lease = self.config.lease;
        if inner.pressed.is_some_and(|pressed| now.since(pressed) < lease / 10) {
            return;
        }
        inner.pressed = Some(now);
        let since = |marks: &Marks, age: Duration| {
            let mark = marks.at(now - age)?;
            Some(self.look(|table| table.unanswered(mark, MOST_PRESSED)))
        };
        let slow = since(&inner.marks, lease).unwrap_or_default();
        inner.told.retain(|session, _| slow.contains(session));
        if slow.is_empty() {
            return;
        }
        for session in since(&inner.marks, self.config.patience()).unwrap_or_default() {
            tracing::error!(session = session.0, "a revocation was not answered; it is fenced");
            self.fence(inner, session, true, now);
        }
        for session in slow {
            match inner.told.get(&session).copied() {
                _ if self.shard == Shard::HOME && !inner.leases.deaf(session, now - lease / 2) => {
                    inner.told.remove(&session);
                }
                None => {
                    tracing::warn!(session = session.0, "a revocation was not heard; told again");
                    inner.told.insert(session, now);
                    inner.streams.remove(&session);
                    self.look(|table| table.deafen(session));
                }
                Some(told) if now.since(told) > lease => {
                    tracing::error!(session = session.0, "it hears no revocation; it is fenced");
                    self.fence(inner, session, false, now);
                }
                Some(_) => {}
            }
        }
    }

    fn end_streams(&self, inner: &mut Inner) {
        let streams = std::mem::take(&mut inner.streams);
        self.engine.look(&mut |table| {
            for session in streams.keys() {
                table.deafen(*session);
            }
        });
    }

    /// Passes on what the table has to say.
    fn pump(&self, inner: &mut Inner) {
        let mut events = Vec::new();
        self.engine.look(&mut |table| {
            events = table.drain();
            inner.watchers.pass_on(table.tree_mut());
        });
        self.changed.notify_waiters();
        if events.is_empty() {
            return;
        }
        let mut groups: BTreeMap<SessionId, Vec<Event>> = BTreeMap::new();
        for (session, event) in events {
            groups.entry(session).or_default().push(event);
        }
        for (session, group) in groups {
            let over = group.contains(&Event::Ended);
            let sent = inner.streams.get(&session).is_some_and(|s| s.try_send(group).is_ok());
            if over || !sent {
                inner.streams.remove(&session);
                self.engine.look(&mut |table| table.deafen(session));
            }
        }
    }

    async fn propose(&self, command: Command, deadline: Time) -> Result<Reply, Error> {
        let reply = self.engine.propose(command, deadline).await?;
        self.pump(&mut self.inner.lock());
        let reply = Reply::decode(&reply).map_err(|odd| Error::Protocol(odd.to_string()))?;
        match reply {
            Reply::Expired => Err(Error::Expired),
            Reply::Malformed => Err(Error::Protocol("a malformed command".to_owned())),
            Reply::Moved { group, by } => Err(Error::Moved { group, by }),
            Reply::Unmet => Err(Error::Unmet),
            Reply::Opened(_) | Reply::Done | Reply::Refused | Reply::Tree(_) | Reply::Group(_) => {
                Ok(reply)
            }
        }
    }

    fn look<R>(&self, mut look: impl FnMut(&mut Table) -> R) -> R {
        let mut result = None;
        self.engine.look(&mut |table| result = Some(look(table)));
        result.expect("the engine shows its table exactly once")
    }
}

#[async_trait]
impl Service for Server {
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error> {
        match self.propose(Command::Open { client, replace }, deadline).await? {
            Reply::Opened(session) => {
                let until = self.world.clock.now() + self.config.lease;
                self.inner.lock().leases.begin(session, until);
                Ok(Opened { session, lease: self.config.lease })
            }
            other => Err(Error::Protocol(format!("{other:?} to an opening"))),
        }
    }

    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error> {
        self.count(asks)?;
        let command = Command::Batch { session, seq, asks: asks.to_vec() };
        self.propose(command, deadline).await.map(|_| ())
    }

    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error> {
        if !seeded(Bug::ListenAtDeposed) {
            self.engine.barrier(deadline).await?;
        }
        let mut inner = self.inner.lock();
        if inner.term.is_none() || inner.term != self.engine.leading() {
            return Err(Error::NotLeader { leader: None });
        }
        self.pump(&mut inner);
        let first = self.look(|table| table.listen(session));
        if first.contains(&Event::Ended) {
            let unmet = self.look(|table| table.is_unmet(session));
            return Err(if unmet { Error::Unmet } else { Error::Expired });
        }
        let (sender, receiver) = mpsc::channel(LAG);
        if sender.try_send(first).is_err() {
            return Err(Error::Unreachable);
        }
        inner.streams.insert(session, sender);
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn renew(
        &self,
        session: SessionId,
        renewal: Renewal,
        deadline: Time,
    ) -> Result<(), Error> {
        if renewal.report.len() > MAX_REPORT {
            return Err(Error::Protocol(format!("a report of {} bytes", renewal.report.len())));
        }
        if !seeded(Bug::RenewalByDeposed) {
            self.engine.barrier(deadline).await?;
        }
        let mut inner = self.inner.lock();
        if inner.term.is_none() || inner.term != self.engine.leading() {
            return Err(Error::NotLeader { leader: None });
        }
        if !self.look(|table| table.lives(session)) {
            return Err(Error::Expired);
        }
        let now = self.world.clock.now();
        if !inner.leases.renew(session, now, self.config.lease, renewal) {
            return Err(Error::Expired);
        }
        drop(inner);
        self.renewed.notify_waiters();
        Ok(())
    }

    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error> {
        match self.propose(Command::Close(session), deadline).await? {
            Reply::Refused => Err(Error::Recovering),
            _ => Ok(()),
        }
    }

    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        deadline: Time,
    ) -> Result<(), Error> {
        match self.propose(Command::Recovered { dead, by, seen }, deadline).await? {
            Reply::Refused => Err(Error::Protocol(format!("{dead:?} is not {by:?}'s to recover"))),
            _ => Ok(()),
        }
    }

    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error> {
        self.engine.barrier(deadline).await?;
        let began = self.world.clock.now();
        let asked: Vec<SessionId> = {
            let inner = self.inner.lock();
            let ask = |stream: &Stream| stream.try_send(vec![Event::Report]).is_ok();
            inner.streams.iter().filter(|(_, stream)| ask(stream)).map(|(&s, _)| s).collect()
        };
        let fresh = async {
            loop {
                let renewed = self.renewed.notified();
                if self.inner.lock().leases.all_renewed(&asked, began) {
                    return;
                }
                renewed.await;
            }
        };
        // Whoever does not answer in time is shown with its old numbers.
        let _ = self.world.until(deadline.min(began + FRESH), fresh).await;
        let mut rows = self.look(|table| table.list_sessions());
        self.inner.lock().leases.show(&mut rows, self.world.clock.now());
        Ok(rows)
    }

    async fn locks(&self, deadline: Time) -> Result<LockRows, Error> {
        self.engine.barrier(deadline).await?;
        let inner = self.inner.lock();
        let now = self.world.clock.now();
        let waited = |place| inner.marks.waited(place, now);
        let held = |grant| inner.marks.held(grant, now);
        Ok(self.look(|table| table.list_locks(&waited, &held)))
    }

    fn shard(&self, shard: Shard) -> Option<Arc<dyn Service>> {
        let sibling = self.siblings.get()?.get(shard.0 as usize)?.upgrade()?;
        Some(sibling)
    }

    async fn groups(&self, deadline: Time) -> Result<Assignment, Error> {
        self.engine.barrier(deadline).await?;
        Ok(self.look(|table| table.assignment()))
    }

    async fn load(&self, deadline: Time) -> Result<Vec<LoadRow>, Error> {
        self.engine.barrier(deadline).await?;
        Ok(self.loads())
    }

    async fn estate(&self, dead: SessionId, deadline: Time) -> Result<Estate, Error> {
        self.engine.barrier(deadline).await?;
        self.look(|table| table.estate(dead)).ok_or(Error::Unmet)
    }

    async fn direct(&self, command: GroupCommand, deadline: Time) -> Result<GroupReply, Error> {
        match self.propose(Command::Group(command), deadline).await? {
            Reply::Group(reply) => Ok(reply),
            other => Err(Error::Protocol(format!("{other:?} to a command about lock groups"))),
        }
    }

    async fn export(
        &self,
        group: LockGroup,
        by: MoveId,
        from: Name,
        deadline: Time,
    ) -> Result<Part, Error> {
        self.engine.barrier(deadline).await?;
        let part = self.look(|table| table.export(group, by, from, groups::MOST_PIECES));
        part.ok_or_else(|| Error::Protocol(format!("{group:?} is not frozen for {by:?} here")))
    }

    async fn accuse(&self, session: SessionId, hopeless: bool, _: Time) -> Result<(), Error> {
        let mut inner = self.inner.lock();
        if inner.term.is_none() || inner.term != self.engine.leading() {
            return Err(Error::NotLeader { leader: None });
        }
        let now = self.world.clock.now();
        if hopeless || inner.leases.deaf(session, now - self.config.lease / 2) {
            inner.leases.doom(session, now);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(watch) = self.watch.get_mut().take() {
            watch.abort();
        }
        self.peers.get_mut().end();
    }
}
