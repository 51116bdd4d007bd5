//! What lies between clients and coordinators: calls and streams that are late, lost, repeated or cut off.
//!
//! A call is a message there, work on the coordinator's machine, and a message back; either may be lost, and then whoever
//! asked hears nothing. A stream keeps its order, like a connection, and ends when that is cut or its coordinator dies. What
//! is on its way goes on while a machine is frozen.

use std::{collections::BTreeMap, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::BoxStream};
use lockservice::{
    Error, Grant, LockGroup, MoveId, Name, Server, Service, SessionId, Shard,
    message::{
        Ask, Assignment, Client, Estate, GroupCommand, GroupReply, LockRows, Opened, Part, Renewal,
        Seq, SessionRow,
    },
    registry::{Answers, Changed, Op, Question, Revision, Store, TidingsStream, Watching},
    service::Events,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use world::{Time, World};

use super::check::Judge;
use crate::dice::Dice;

/// A coordinator that is up: its servers by shard and the world that they run in.
pub(super) type Up = Option<(World, Vec<Arc<Server>>)>;

/// The state of the network.
pub(super) struct Links {
    dice: Dice,
    /// Percent of messages that are lost, repeated or late.
    pub(super) trouble: u64,
    /// Between a client and a coordinator, until when; true time.
    cut: BTreeMap<(usize, usize), Time>,
    /// Streams between them are slow until then: nothing is lost.
    slow: BTreeMap<(usize, usize), Time>,
    /// Streams to a client swallow everything until then, and then they end.
    deaf: BTreeMap<usize, Time>,
    /// Clients whose next renewal is answered late; then nothing passes for so long.
    waylaid: BTreeMap<usize, Duration>,
    pub(super) struck: BTreeMap<&'static str, u64>,
    pub(super) up: Vec<Up>,
}

/// How long a message takes in milliseconds, at the most, and a late one.
const WAY: u64 = 8;
const LATE: u64 = 400;
/// An answer that takes longer is not waited for: another coordinator is asked.
const SILENT: u64 = 1_450;

impl Links {
    pub(super) fn new(dice: Dice, coordinators: usize, trouble: u64) -> Self {
        Self {
            dice,
            trouble,
            cut: BTreeMap::new(),
            slow: BTreeMap::new(),
            deaf: BTreeMap::new(),
            waylaid: BTreeMap::new(),
            struck: BTreeMap::new(),
            up: (0..coordinators).map(|_| None).collect(),
        }
    }

    pub(super) fn strike(&mut self, fault: &'static str) {
        *self.struck.entry(fault).or_default() += 1;
    }

    pub(super) fn cut(&mut self, client: usize, place: usize, until: Time) {
        self.cut.insert((client, place), until);
    }

    pub(super) fn heal(&mut self) {
        self.trouble = 0;
        self.cut.clear();
        self.slow.clear();
        self.deaf.clear();
        self.waylaid.clear();
    }

    pub(super) fn slow(&mut self, client: usize, place: usize, until: Time) {
        self.strike("streams slow");
        self.slow.insert((client, place), until);
    }

    pub(super) fn deafen(&mut self, client: usize, until: Time) {
        self.strike("streams that swallow");
        self.deaf.insert(client, until);
    }

    pub(super) fn waylay(&mut self, client: usize, silence: Duration) {
        self.waylaid.insert(client, silence);
    }

    /// How long the answer to a renewal takes, and how long nothing passes after it.
    fn ambush(&mut self, client: usize) -> Option<(Duration, Duration)> {
        let silence = self.waylaid.remove(&client)?;
        self.strike("renewal answered late, then silence");
        Some((self.dice.millis(900, SILENT), silence))
    }

    pub(super) fn cut_off(&mut self, client: usize, until: Time) {
        for place in 0..self.up.len() {
            self.cut(client, place, until);
        }
    }

    /// Until when nothing passes between them.
    fn barred(&self, link: (usize, usize), now: Time) -> Option<Time> {
        self.cut.get(&link).copied().filter(|until| *until > now)
    }

    /// How long a message takes; `None` if it is lost.
    fn way(&mut self, link: (usize, usize), now: Time) -> Option<Duration> {
        if self.barred(link, now).is_some() {
            self.strike("client cut off");
            return None;
        }
        let way = self.dice.millis(0, WAY);
        let troubled = self.dice.chance(self.trouble);
        match self.dice.between(0, 3) {
            0 if troubled => {
                self.strike("call or answer lost");
                None
            }
            1 if troubled => {
                self.strike("call or answer late");
                Some(way + self.dice.millis(20, LATE))
            }
            _ => Some(way),
        }
    }
}

/// A coordinator as one client reaches it.
#[derive(Clone)]
pub(super) struct Wire {
    /// The client's.
    pub(super) near: World,
    /// Where messages are on their way.
    pub(super) ether: World,
    pub(super) links: Arc<Mutex<Links>>,
    pub(super) judge: Arc<Mutex<Judge>>,
    /// Client and coordinator.
    pub(super) link: (usize, usize),
    /// Which of its servers.
    pub(super) shard: usize,
    /// What is asked for is a renewal.
    pub(super) renewal: bool,
}

/// How long a coordinator works at a call for which nobody may wait any more.
const WORK: Duration = Duration::from_secs(2);

type Work<R> = Arc<dyn Fn(Arc<Server>, Time) -> BoxFuture<'static, Result<R, Error>> + Send + Sync>;

impl Wire {
    async fn call<R: Send + 'static>(&self, deadline: Time, work: Work<R>) -> Result<R, Error> {
        let (sender, mut receiver) = mpsc::channel(2);
        let copies = {
            let mut links = self.links.lock();
            let trouble = links.trouble;
            let twice = links.dice.chance(trouble / 3);
            if twice {
                links.strike("call repeated");
            }
            1 + usize::from(twice)
        };
        for _ in 0..copies {
            let way = self.links.lock().way(self.link, self.ether.clock.now());
            if let Some(way) = way {
                let there = self.clone().there(way, Arc::clone(&work), sender.clone());
                self.ether.spawn("call", there);
            }
        }
        // What is lost is lost silently: this end stays open.
        let answer = self.near.until(deadline, receiver.recv()).await;
        drop(sender);
        answer.ok().flatten().unwrap_or(Err(Error::Unreachable))
    }

    /// A call arrives, is worked at, and is answered.
    async fn there<R: Send + 'static>(
        self,
        way: Duration,
        work: Work<R>,
        sender: mpsc::Sender<Result<R, Error>>,
    ) {
        self.ether.clock.sleep(way).await;
        let (up, barred) = {
            let links = self.links.lock();
            let barred = links.barred(self.link, self.ether.clock.now()).is_some();
            (links.up[self.link.1].clone(), barred)
        };
        if barred {
            return;
        }
        let server = up.and_then(|(far, servers)| Some((far, servers.get(self.shard)?.clone())));
        let Some((far, server)) = server else {
            // Nobody listens there, which is told at once.
            let _ = sender.try_send(Err(Error::Unreachable));
            return;
        };
        let patience = far.clock.now() + WORK;
        far.clone().spawn("serve", async move {
            let answer = work(server, patience).await;
            let (mut way, ambush) = {
                let mut links = self.links.lock();
                let waylaid = self.renewal && answer.is_ok();
                let ambush = waylaid.then(|| links.ambush(self.link.0)).flatten();
                (links.way(self.link, self.ether.clock.now()), ambush)
            };
            way = ambush.map(|(late, _)| late).or(way);
            if let Some(way) = way {
                self.ether.clone().spawn("answer", async move {
                    self.ether.clock.sleep(way).await;
                    // Who asked may have given up.
                    let _ = sender.try_send(answer);
                    if let Some((_, silence)) = ambush {
                        let until = self.ether.clock.now() + silence;
                        self.links.lock().cut_off(self.link.0, until);
                    }
                });
            }
        });
    }

    /// Opens a stream there, and passes on what comes of it.
    async fn stream<T: Send + 'static>(
        &self,
        deadline: Time,
        work: Work<BoxStream<'static, T>>,
    ) -> Result<BoxStream<'static, T>, Error> {
        let wire = self.clone();
        let opened = self.call(
            deadline,
            Arc::new(move |server, until| {
                let (wire, work) = (wire.clone(), Arc::clone(&work));
                async move {
                    let far = wire.far().ok_or(Error::Unreachable)?;
                    let items = work(server, until).await?;
                    Ok(wire.passed_on(&far, items))
                }
                .boxed()
            }),
        );
        opened.await
    }

    /// Until when streams are slow, and until when they swallow all.
    fn hindered(&self) -> (Option<Time>, Option<Time>) {
        let (links, now) = (self.links.lock(), self.ether.clock.now());
        let later = |until: &Time| *until > now;
        let slow = links.slow.get(&self.link).copied().filter(later);
        (slow, links.deaf.get(&self.link.0).copied().filter(later))
    }

    /// Waits until streams swallow no more; they may be healed before their time.
    async fn silence(&self) {
        while self.hindered().1.is_some() {
            self.ether.clock.sleep(Duration::from_millis(50)).await;
        }
    }

    fn far(&self) -> Option<World> {
        self.links.lock().up[self.link.1].as_ref().map(|(far, _)| far.clone())
    }

    /// Items in their order, each after its way. The machine there sends; what was sent arrives without it.
    fn passed_on<T: Send + 'static>(
        self,
        far: &World,
        mut items: BoxStream<'static, T>,
    ) -> BoxStream<'static, T> {
        let (sent, mut arriving) = mpsc::channel(64);
        let (sender, receiver) = mpsc::channel(64);
        let ether = self.ether.clone();
        far.spawn("send", async move {
            while let Some(item) = items.next().await {
                let way = { self.links.lock().dice.millis(0, WAY) };
                if sent.send((self.ether.clock.now() + way, self.clone(), item)).await.is_err() {
                    return;
                }
            }
        });
        ether.clone().spawn("stream", async move {
            while let Some((at, wire, item)) = arriving.recv().await {
                ether.clock.sleep_until(at).await;
                let barred = wire.links.lock().barred(wire.link, ether.clock.now());
                if let Some(until) = barred {
                    // Long silence ends a connection; after a short one everything arrives.
                    if until.since(ether.clock.now()) > Duration::from_millis(300) {
                        wire.links.lock().strike("stream cut");
                        return;
                    }
                    ether.clock.sleep_until(until).await;
                }
                let (slow, deaf) = wire.hindered();
                if deaf.is_some() {
                    // Nothing arrives any more, which is seen at last.
                    wire.silence().await;
                    return;
                }
                ether.clock.sleep_until(slow.unwrap_or_default()).await;
                if sender.send(item).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

/// The work of a call: what the server does with copies of what was asked.
fn work<R, F>(work: impl Fn(Arc<Server>, Time) -> F + Send + Sync + 'static) -> Work<R>
where
    F: Future<Output = Result<R, Error>> + Send + 'static,
{
    Arc::new(move |server, until| work(server, until).boxed())
}

#[async_trait]
impl Service for Wire {
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error> {
        let open = work(move |server, until| {
            let client = client.clone();
            async move { server.open(client, replace, until).await }
        });
        self.call(deadline, open).await
    }

    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error> {
        self.judge.lock().flushed(self.shard, session, seq, asks);
        let asks: Arc<[Ask]> = asks.into();
        let request = work(move |server, until| {
            let asks = Arc::clone(&asks);
            async move { server.request(session, seq, &asks, until).await }
        });
        self.call(deadline, request).await
    }

    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error> {
        let listen = work(move |server, until| async move { server.listen(session, until).await });
        self.stream(deadline, listen).await
    }

    async fn renew(
        &self,
        session: SessionId,
        renewal: Renewal,
        deadline: Time,
    ) -> Result<(), Error> {
        let renew = work(move |server, until| {
            let renewal = renewal.clone();
            async move { server.renew(session, renewal, until).await }
        });
        let wire = Self { renewal: true, ..self.clone() };
        let renewed = wire.call(deadline, renew).await;
        if renewed == Err(Error::Expired) {
            self.judge.lock().refused(session);
        }
        renewed
    }

    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error> {
        self.judge.lock().closing(session);
        let close = work(move |server, until| async move { server.close(session, until).await });
        self.call(deadline, close).await
    }

    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        deadline: Time,
    ) -> Result<(), Error> {
        let tell =
            work(move |server, until| async move { server.recovered(dead, by, seen, until).await });
        self.call(deadline, tell).await
    }

    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error> {
        let list = work(|server, until| async move { server.sessions(until).await });
        self.call(deadline, list).await
    }

    async fn locks(&self, deadline: Time) -> Result<LockRows, Error> {
        let list = work(|server, until| async move { server.locks(until).await });
        self.call(deadline, list).await
    }

    fn shard(&self, shard: Shard) -> Option<Arc<dyn Service>> {
        Some(Arc::new(Self { shard: shard.0 as usize, ..self.clone() }))
    }

    async fn groups(&self, deadline: Time) -> Result<Assignment, Error> {
        let list = work(|server, until| async move { server.groups(until).await });
        self.call(deadline, list).await
    }

    async fn estate(&self, dead: SessionId, deadline: Time) -> Result<Estate, Error> {
        let tell = work(move |server, until| async move { server.estate(dead, until).await });
        self.call(deadline, tell).await
    }

    async fn direct(&self, command: GroupCommand, deadline: Time) -> Result<GroupReply, Error> {
        let direct = work(move |server, until| {
            let command = command.clone();
            async move { server.direct(command, until).await }
        });
        self.call(deadline, direct).await
    }

    async fn export(
        &self,
        group: LockGroup,
        by: MoveId,
        from: Name,
        deadline: Time,
    ) -> Result<Part, Error> {
        let export =
            work(move |server, until| async move { server.export(group, by, from, until).await });
        self.call(deadline, export).await
    }

    async fn accuse(
        &self,
        session: SessionId,
        hopeless: bool,
        deadline: Time,
    ) -> Result<(), Error> {
        let accuse =
            work(move |server, until| async move { server.accuse(session, hopeless, until).await });
        self.call(deadline, accuse).await
    }
}

#[async_trait]
impl Store for Wire {
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        deadline: Time,
    ) -> Result<Changed, Error> {
        let ops: Arc<[Op]> = ops.into();
        let change = work(move |server, until| {
            let ops = Arc::clone(&ops);
            async move { server.change(session, seq, &ops, until).await }
        });
        self.call(deadline, change).await
    }

    async fn read(
        &self,
        questions: &[Question],
        seen: Revision,
        deadline: Time,
    ) -> Result<Answers, Error> {
        let questions: Arc<[Question]> = questions.into();
        let read = work(move |server, until| {
            let questions = Arc::clone(&questions);
            async move { server.read(&questions, seen, until).await }
        });
        self.call(deadline, read).await
    }

    async fn sync(&self, deadline: Time) -> Result<Revision, Error> {
        let sync = work(|server, until| async move { Store::sync(&*server, until).await });
        self.call(deadline, sync).await
    }

    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        deadline: Time,
    ) -> Result<TidingsStream, Error> {
        let watch = work(move |server, until| {
            let watching = watching.clone();
            async move { server.watch(watching, seen, until).await }
        });
        self.stream(deadline, watch).await
    }
}
