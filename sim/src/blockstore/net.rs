//! The network between simulated machines: requests and answers with a fate of their own, as bytes.
//!
//! Loss, delay and repetition are decided when something is sent, partitions when it arrives. Whoever waits learns
//! nothing of it before its own deadline.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use ::blockstore::{
    Fence, SpaceAsk,
    bulk::{decode_reply, decode_request, encode_reply, encode_request},
    link::{Granted, Heartbeat, Known, News, Registration},
    map::{Change, Chart, MapError, MapService, ServerInfo},
    message::{Dial, Reply, Request, Service, Unanswered},
    place::{Incarnation, ServerId},
};
use async_trait::async_trait;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;
use world::{Address, Time, World};

use super::faults::{Fault, Struck};
use crate::dice::Dice;

/// Where a message comes from or goes to: a server's number, or one beyond all servers'.
pub(crate) type Place = u64;
/// The place of the volume map.
pub(crate) const MAP: Place = 100;

#[derive(Default)]
struct Trouble {
    /// Percent of messages that are lost, delayed for long, repeated.
    loss: u64,
    delay: u64,
    repeat: u64,
    /// Directed links that let nothing through, and what that is called.
    cut: BTreeMap<(Place, Place), Fault>,
}

/// Who is there, and how messages fare.
#[derive(Clone)]
pub(crate) struct Net {
    dice: Arc<Mutex<Dice>>,
    trouble: Arc<Mutex<Trouble>>,
    servers: Arc<Mutex<BTreeMap<Place, (World, Arc<dyn Service>)>>>,
    struck: Struck,
    /// Longest time of an ordinary message, in milliseconds.
    longest: u64,
}

impl Net {
    pub(crate) fn new(mut dice: Dice, struck: Struck) -> Self {
        let longest = [2, 5, 30][dice.pick(3)];
        Self {
            dice: Arc::new(Mutex::new(dice)),
            trouble: Arc::default(),
            servers: Arc::default(),
            struck,
            longest,
        }
    }

    pub(crate) fn attach(&self, place: Place, world: World, service: Arc<dyn Service>) {
        self.servers.lock().insert(place, (world, service));
    }

    pub(crate) fn detach(&self, place: Place) {
        let gone = self.servers.lock().remove(&place);
        drop(gone);
    }

    pub(crate) fn lose(&self, percent: u64) {
        self.trouble.lock().loss = percent;
    }

    pub(crate) fn delay(&self, percent: u64) {
        self.trouble.lock().delay = percent;
    }

    pub(crate) fn repeat(&self, percent: u64) {
        self.trouble.lock().repeat = percent;
    }

    pub(crate) fn cut(&self, links: &[(Place, Place)], fault: Fault) {
        self.trouble.lock().cut.extend(links.iter().map(|link| (*link, fault)));
    }

    pub(crate) fn mend(&self) {
        *self.trouble.lock() = Trouble::default();
    }

    /// Whether nothing is cut and nothing is lost or late.
    pub(crate) fn is_whole(&self) -> bool {
        let trouble = self.trouble.lock();
        trouble.cut.is_empty() && trouble.loss == 0 && trouble.delay == 0
    }

    fn roll<R>(&self, roll: impl FnOnce(&mut Dice) -> R) -> R {
        roll(&mut self.dice.lock())
    }

    /// When a message that is sent now arrives, if it does.
    fn fate(&self) -> Option<Duration> {
        let (loss, delay) = {
            let trouble = self.trouble.lock();
            (trouble.loss, trouble.delay)
        };
        if self.roll(|dice| dice.chance(loss)) {
            self.struck.add(Fault::Loss);
            return None;
        }
        let usual = self.roll(|dice| dice.millis(0, self.longest));
        if self.roll(|dice| dice.chance(delay)) {
            self.struck.add(Fault::Delay);
            return Some(usual + self.roll(|dice| dice.millis(20, 900)));
        }
        Some(usual)
    }

    fn repeats(&self) -> Option<Duration> {
        let repeat = self.trouble.lock().repeat;
        if !self.roll(|dice| dice.chance(repeat)) {
            return None;
        }
        self.struck.add(Fault::Duplicate);
        Some(self.roll(|dice| dice.millis(0, 300)))
    }

    /// Has `call` run as a task of the machine that was asked, and carries its answer back; `None` if that is lost.
    pub(crate) async fn relay<R: Send + 'static>(
        &self,
        world: &World,
        there: &World,
        (me, asked): (Place, Place),
        call: impl Future<Output = R> + Send + 'static,
    ) -> Option<R> {
        let (sender, answer) = oneshot::channel();
        there.spawn("call", async move {
            // The caller may have given up.
            let _ = sender.send(call.await);
        });
        let answer = answer.await.ok()?;
        self.carry(world, asked, me).await.then_some(answer)
    }

    /// Carries something: true when it has arrived, false when it never will.
    pub(crate) async fn carry(&self, world: &World, from: Place, to: Place) -> bool {
        let Some(delay) = self.fate() else { return false };
        world.clock.sleep(delay).await;
        let cut = self.trouble.lock().cut.get(&(from, to)).copied();
        if let Some(fault) = cut {
            self.struck.add(fault);
        }
        cut.is_none()
    }
}

/// Waits for what may never come, until the deadline.
pub(crate) async fn answer<R>(
    world: &World,
    deadline: Time,
    call: impl Future<Output = Option<R>>,
) -> Option<R> {
    let lost = async {
        match call.await {
            Some(reply) => reply,
            None => std::future::pending().await,
        }
    };
    world.until(deadline, lost).await.ok()
}

/// One machine's way to block servers.
pub(crate) struct Phone {
    pub(crate) net: Net,
    pub(crate) me: Place,
    pub(crate) world: World,
}

impl Dial for Phone {
    fn dial(&self, server: ServerId, _: &Address) -> Arc<dyn Service> {
        let (net, world) = (self.net.clone(), self.world.clone());
        Arc::new(Line { net, world, from: self.me, to: server.0 })
    }
}

#[derive(Clone)]
struct Line {
    net: Net,
    world: World,
    from: Place,
    to: Place,
}

type Encoded = (u16, bytes::Bytes, bytes::Bytes);

impl Line {
    /// Hands a request to the server, as a task of its machine; its answer comes over the channel.
    fn deliver(&self, bytes: &Encoded, left: Duration, answer: oneshot::Sender<Encoded>) {
        let Some((world, service)) = self.net.servers.lock().get(&self.to).cloned() else { return };
        let Ok(request) = decode_request(bytes.0, &bytes.1, bytes.2.clone()) else {
            unreachable!("what was encoded is decoded")
        };
        let deadline = world.clock.now() + left;
        world.spawn("call", async move {
            if let Ok(reply) = service.call(request, deadline).await {
                // Nobody waits for the answer to a repeated message.
                let _ = answer.send(encode_reply(&reply));
            }
        });
    }
}

#[async_trait]
impl Service for Line {
    async fn call(&self, request: Request, deadline: Time) -> Result<Reply, Unanswered> {
        let encoded = encode_request(&request);
        let left = deadline.since(self.world.clock.now());
        let call = async {
            if !self.net.carry(&self.world, self.from, self.to).await {
                return None;
            }
            let (sender, answer) = oneshot::channel();
            self.deliver(&encoded, left, sender);
            if let Some(again) = self.net.repeats() {
                let (line, encoded) = (self.clone(), encoded.clone());
                self.world.spawn("again", async move {
                    line.world.clock.sleep(again).await;
                    line.deliver(&encoded, left, oneshot::channel().0);
                });
            }
            let (kind, head, body) = answer.await.ok()?;
            if !self.net.carry(&self.world, self.to, self.from).await {
                return None;
            }
            decode_reply(kind, &head, body).ok()
        };
        let reply = answer(&self.world, deadline, call.boxed()).await;
        reply.ok_or_else(|| Unanswered("lost".to_owned()))
    }
}

/// One machine's way to the volume map.
pub(crate) struct MapLine {
    pub(crate) net: Net,
    pub(crate) me: Place,
    pub(crate) world: World,
    /// The map's world, and the map.
    pub(crate) there: World,
    pub(crate) map: Arc<dyn MapService>,
}

impl MapLine {
    async fn relay<R: Send + 'static, F>(
        &self,
        deadline: Time,
        ask: impl FnOnce(Arc<dyn MapService>, Time) -> F + Send + 'static,
    ) -> Result<R, MapError>
    where
        F: Future<Output = Result<R, MapError>> + Send + 'static,
    {
        let left = deadline.since(self.world.clock.now());
        let call = async {
            if !self.net.carry(&self.world, self.me, MAP).await {
                return None;
            }
            let limit = self.there.clock.now() + left;
            let asked = ask(Arc::clone(&self.map), limit);
            self.net.relay(&self.world, &self.there, (self.me, MAP), asked).await
        };
        answer(&self.world, deadline, call.boxed()).await.unwrap_or(Err(MapError::Deadline))
    }
}

#[async_trait]
impl MapService for MapLine {
    async fn register(&self, x: Registration, deadline: Time) -> Result<Incarnation, MapError> {
        self.relay(deadline, |map, limit| async move { map.register(x, limit).await }).await
    }

    async fn heartbeat(&self, beat: Heartbeat, deadline: Time) -> Result<Granted, MapError> {
        self.relay(deadline, |map, limit| async move { map.heartbeat(beat, limit).await }).await
    }

    async fn news(
        &self,
        server: ServerId,
        start: Incarnation,
        known: Known,
        deadline: Time,
    ) -> Result<Option<News>, MapError> {
        let ask = move |map: Arc<dyn MapService>, limit| async move {
            map.news(server, start, known, limit).await
        };
        self.relay(deadline, ask).await
    }

    async fn confirm(
        &self,
        server: ServerId,
        start: Incarnation,
        fences: u64,
        deadline: Time,
    ) -> Result<(), MapError> {
        let ask = move |map: Arc<dyn MapService>, limit| async move {
            map.confirm(server, start, fences, limit).await
        };
        self.relay(deadline, ask).await
    }

    async fn chart(&self, newer_than: u64, deadline: Time) -> Result<Option<Chart>, MapError> {
        self.relay(deadline, move |map, limit| async move { map.chart(newer_than, limit).await })
            .await
    }

    async fn fence(&self, session: Fence, deadline: Time) -> Result<(), MapError> {
        self.relay(deadline, move |map, limit| async move { map.fence(session, limit).await }).await
    }

    async fn change(&self, change: Change, deadline: Time) -> Result<(), MapError> {
        self.relay(deadline, |map, limit| async move { map.change(change, limit).await }).await
    }

    async fn reserve(
        &self,
        session: Fence,
        ask: SpaceAsk,
        deadline: Time,
    ) -> Result<u64, MapError> {
        let ask = move |map: Arc<dyn MapService>, limit| async move {
            map.reserve(session, ask, limit).await
        };
        self.relay(deadline, ask).await
    }

    async fn servers(&self, deadline: Time) -> Result<Vec<ServerInfo>, MapError> {
        self.relay(deadline, |map, limit| async move { map.servers(limit).await }).await
    }
}

/// The links between a place and each of others, both ways.
pub(crate) fn between(one: Place, others: &[Place]) -> Vec<(Place, Place)> {
    let links: BTreeSet<(Place, Place)> =
        others.iter().flat_map(|other| [(one, *other), (*other, one)]).collect();
    links.into_iter().collect()
}
