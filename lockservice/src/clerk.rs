//! The clerk: the lock service's client in a mount, a worker or a tool. It keeps what was granted
//! until it is asked for, calls the holder before anything is given back, and renews the lease.
//! It does not know what a lock protects.
//!
//! This file is the shell around the pure `machine`: the public calls, and the carrying out of
//! effects. The tasks that talk to the service are in `tasks`.

mod asked;
mod claims;
mod closing;
mod estate;
mod held;
mod lanes;
#[cfg(test)]
mod lease_tests;
pub mod machine;
#[cfg(test)]
mod machine_tests;
mod tasks;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot, watch};
use world::{Task, Time, World};

use crate::{
    advisory::{Claim, Claimed, Patience},
    bug::{Bug, seeded},
    error::Error,
    group::Shard,
    locks::{Held, Holder, Locks, Pin, Recoverer},
    message::{Client, Kind, Opened, Renewal, Ticket},
    name::{Grant, Mode, Name, SessionId, Span},
    registry::{Registry, Store},
    service::Service,
};
use asked::Asked;
use lanes::Lane;
use machine::{Answer, Effect, Machine, PinId, Want};

/// Who a clerk works for and how patient it is.
#[derive(Clone, Debug)]
pub struct Config {
    /// Stays the same over restarts of the same client.
    pub owner: String,
    /// The machine's name.
    pub host: String,
    /// What kind of client.
    pub kind: Kind,
    /// Ends older sessions of the same owner at once; the caller knows that they are dead.
    pub replace: bool,
    /// How long an acquire waits for other holders; by default three leases and half a minute,
    /// longer than it takes to recover a dead holder.
    pub patience: Option<Duration>,
}

/// By how much, at most, this machine's clock runs slower than the leader's: 1 in 50.
const DRIFT: u32 = 50;
/// How long a call of the registry takes at the most.
const REGISTRY: Duration = Duration::from_secs(30);
/// What is kept of a lease so that an operation which began under it also ends under it: 1 in 10.
const MARGIN: u32 = 10;

/// What a renewal that was sent at a time is good for, by the client's clock.
#[must_use]
pub fn usable(lease: Duration) -> Duration {
    lease - lease / DRIFT - lease / MARGIN
}

/// A session with the lock service.
pub struct Clerk {
    shared: Arc<Shared>,
    tidying: Mutex<Option<Task>>,
    registry: Registry,
}

struct Shared {
    world: World,
    service: Arc<dyn Service>,
    session: SessionId,
    lease: Duration,
    patience: Duration,
    valid_until: AtomicU64,
    messages: AtomicU64,
    /// The client stopped without a word.
    left: AtomicBool,
    state: Mutex<State>,
    report: Mutex<String>,
    renew: Notify,
    /// To each shard.
    lanes: Mutex<Vec<Arc<Lane>>>,
    tasks: Mutex<Vec<Task>>,
    changed: Notify,
    attached: watch::Sender<Option<Attached>>,
}

#[derive(Default)]
struct State {
    machine: Machine,
    answers: BTreeMap<Ticket, oneshot::Sender<Told>>,
    claims: BTreeMap<Ticket, oneshot::Sender<Result<Claimed, Error>>>,
    recovering: BTreeSet<SessionId>,
}

/// An answer on its way to whoever asked; nobody may be left there, so the pin looks after itself.
enum Told {
    Granted(Pin),
    Refused,
    Full,
    Hinted,
    Over(Error),
}

#[derive(Clone)]
struct Attached {
    holder: Arc<dyn Holder>,
    recoverer: Option<Arc<dyn Recoverer>>,
}

/// A holder that keeps nothing under its locks: for tools.
pub struct Nothing;

#[async_trait]
impl Holder for Nothing {
    async fn revoke(&self, _: Span, _: Option<Mode>) {}
    fn expired(&self) {}
}

impl Clerk {
    /// Opens a session. Revocations and recoveries wait until [`Clerk::attach`].
    ///
    /// # Errors
    /// [`Error::Unreachable`] if no leader answered within `patience` (30 s if there is none).
    pub async fn open(
        world: World,
        service: Arc<dyn Service>,
        config: Config,
    ) -> Result<Arc<Self>, Error> {
        let same = Arc::clone(&service);
        Self::open_apart(world, service, config, move |_| same).await
    }

    /// As [`Clerk::open`]. The lease is renewed on a thread of its own; `apart` makes the service
    /// that it uses, with connections that live on that thread, so that a client that is too busy
    /// to look after its connections still renews.
    ///
    /// # Errors
    /// As [`Clerk::open`].
    pub async fn open_apart(
        world: World,
        service: Arc<dyn Service>,
        config: Config,
        apart: impl FnOnce(&World) -> Arc<dyn Service> + Send + 'static,
    ) -> Result<Arc<Self>, Error> {
        let client = Client {
            owner: config.owner,
            host: config.host,
            kind: config.kind,
            able: false,
            nonce: world.dice.roll(),
        };
        let patience = config.patience.unwrap_or(Duration::from_secs(30));
        let deadline = world.clock.now() + patience;
        loop {
            let sent = world.clock.now();
            let open = service.open(client.clone(), config.replace, deadline);
            match world.until(deadline, open).await {
                Ok(Ok(opened)) => {
                    let patience =
                        config.patience.unwrap_or(opened.lease * 3 + Duration::from_secs(30));
                    return Ok(Self::begin((world, service), opened, sent, patience, apart));
                }
                Ok(Err(error @ Error::Protocol(_))) => return Err(error),
                Ok(Err(_)) if world.clock.now() < deadline => {
                    world.clock.sleep(tasks::BACK_OFF).await;
                }
                Ok(Err(_)) | Err(_) => return Err(Error::Unreachable),
            }
        }
    }

    fn begin(
        (world, service): (World, Arc<dyn Service>),
        opened: Opened,
        sent: Time,
        patience: Duration,
        apart: impl FnOnce(&World) -> Arc<dyn Service> + Send + 'static,
    ) -> Arc<Self> {
        let valid_until = sent + usable(opened.lease);
        let shared = Arc::new(Shared {
            world,
            service,
            session: opened.session,
            lease: opened.lease,
            patience,
            valid_until: AtomicU64::new(valid_until.0),
            messages: AtomicU64::new(1),
            left: AtomicBool::new(false),
            state: Mutex::default(),
            report: Mutex::default(),
            renew: Notify::new(),
            lanes: Mutex::default(),
            tasks: Mutex::default(),
            changed: Notify::new(),
            attached: watch::Sender::new(None),
        });
        let world = &shared.world;
        let renewing = Arc::clone(&shared);
        world.apart("lock-renew", move |world| {
            let service = apart(&world);
            tasks::renew(renewing, world, service, sent)
        });
        shared.open_lane(Shard::HOME, Arc::clone(&shared.service));
        let store: Arc<dyn Store> = Arc::clone(&shared.service) as _;
        let registry = Registry::new(world.clone(), store, shared.session, REGISTRY);
        Arc::new(Self { shared, tidying: Mutex::default(), registry })
    }

    /// Brings whoever keeps state under the locks, and whoever can recover others. Once.
    ///
    /// Only from here on is the session chosen to recover others, if it can.
    pub fn attach(&self, holder: Arc<dyn Holder>, recoverer: Option<Arc<dyn Recoverer>>) {
        let able = recoverer.is_some();
        self.shared.attached.send_replace(Some(Attached { holder, recoverer }));
        if able {
            let effects = self.shared.state.lock().machine.able();
            self.shared.run(effects);
        }
    }

    /// The registry, in the name of this session: its ephemeral nodes end with it.
    #[must_use]
    pub fn registry(&self) -> Registry {
        self.registry.clone()
    }

    /// How long a lease is.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.shared.lease
    }

    /// From now on gives back what of `within` was not used for `idle` ([`Locks::held`] and the
    /// acquires are uses); and, when the session holds nearly as much as one may, what of it was
    /// not used for longest. Only for locks that are asked for before every use.
    pub fn give_back_after(&self, idle: Duration, within: Span) {
        let task = tasks::tidy(Arc::clone(&self.shared), idle, within);
        let task = self.shared.world.spawn("lock-tidy", task);
        if let Some(before) = self.tidying.lock().replace(task) {
            before.abort();
        }
    }

    /// As [`Locks::acquire`], but waits for other holders only until `deadline`.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it came first; the wait is then taken back.
    pub async fn acquire_by(
        &self,
        need: Span,
        wish: Span,
        mode: Mode,
        deadline: Time,
    ) -> Result<Pin, Error> {
        self.shared.get((need, wish, mode), true, deadline).await?.ok_or(Error::Deadline)
    }

    /// Stops at once without a word to the service, as a crash would: the session will expire.
    pub fn abandon(&self) {
        self.shared.left.store(true, Ordering::Release);
        self.shared.renew.notify_one();
        let tasks = self.shared.tasks.lock();
        tasks.iter().chain(self.tidying.lock().as_ref()).for_each(Task::abort);
    }
}

impl Drop for Clerk {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl Shared {
    fn over(&self) -> Option<Error> {
        self.state.lock().machine.over.clone()
    }

    fn end(self: &Arc<Self>, error: Error) {
        let effects = self.state.lock().machine.end(error);
        self.run(effects);
    }

    fn pinned(self: &Arc<Self>, pin: PinId, held: Held) -> Pin {
        let shared = Arc::clone(self);
        Pin::new(
            held,
            Box::new(move || {
                let effects = shared.state.lock().machine.unpin(pin);
                shared.run(effects);
            }),
        )
    }

    /// Carries effects out. The state must not be locked by the caller.
    fn run(self: &Arc<Self>, effects: Vec<Effect>) {
        {
            for effect in effects {
                match effect {
                    Effect::Answer(ticket, answer) => self.answer(ticket, answer),
                    Effect::Send => self.stir(),
                    Effect::Shards(shards) => self.open_lanes(shards),
                    Effect::Changed => self.changed.notify_waiters(),
                    Effect::Revoke(id, span, keep) => {
                        let task = tasks::revoke(Arc::clone(self), id, span, keep);
                        self.world.spawn("lock-revoke", task);
                    }
                    Effect::Recover(dead, held) => {
                        if self.state.lock().recovering.insert(dead) {
                            let task = tasks::recover(Arc::clone(self), dead, held);
                            self.world.spawn("lock-recover", task);
                        }
                    }
                    Effect::Claimed(ticket, claimed) => {
                        let sender = self.state.lock().claims.remove(&ticket);
                        if let Some(sender) = sender {
                            // Whoever asked may just have gone.
                            let _ = sender.send(claimed);
                        }
                    }
                    Effect::Renew => self.renew.notify_one(),
                    Effect::Stale(shard) => self.listen_again(shard),
                    Effect::Over(error) => self.ended(&error),
                }
            }
        }
    }

    fn answer(self: &Arc<Self>, ticket: Ticket, answer: Answer) {
        let told = match answer {
            Answer::Granted(pin, held) => Told::Granted(self.pinned(pin, held)),
            Answer::Refused => Told::Refused,
            Answer::Full => Told::Full,
            Answer::Hinted => Told::Hinted,
            Answer::Over(error) => Told::Over(error),
        };
        let sender = self.state.lock().answers.remove(&ticket);
        if let Some(sender) = sender {
            // Whoever asked may have gone; then the pin is dropped here.
            let _ = sender.send(told);
        }
    }

    fn ended(&self, error: &Error) {
        self.valid_until.store(0, Ordering::Release);
        self.renew.notify_one();
        for lane in self.lanes.lock().iter() {
            lane.send.notify_one();
            lane.relisten.notify_one();
        }
        if *error == Error::Expired {
            tracing::error!(session = self.session.0, "the lease is lost");
            if let Some(attached) = self.attached.borrow().clone() {
                attached.holder.expired();
            }
        }
    }

    /// Whether the session goes on. Whoever was paused for longer than the lease learns it here,
    /// before anything is used, sent or believed.
    fn awake(self: &Arc<Self>) -> bool {
        if self.over().is_some() {
            return false;
        }
        let valid = self.valid();
        if !valid {
            self.end(Error::Expired);
        }
        valid
    }

    /// What the next renewal says.
    fn renewal(&self) -> Renewal {
        let flushing = self.state.lock().machine.flushing();
        let report = self.report.lock().clone();
        Renewal { report, flushing: u32::try_from(flushing).unwrap_or(u32::MAX) }
    }

    /// Whether the lease is valid with margin.
    fn valid(&self) -> bool {
        self.world.clock.now().0 < self.valid_until.load(Ordering::Acquire)
    }

    async fn answered(&self, receiver: oneshot::Receiver<Told>, deadline: Time) -> Option<Told> {
        match self.world.until(deadline, receiver).await {
            Ok(Ok(answer)) => Some(answer),
            Ok(Err(_)) => Some(Told::Over(Error::Closed)),
            Err(_) => None,
        }
    }

    async fn get(
        self: &Arc<Self>,
        ask: (Span, Span, Mode),
        wait: bool,
        deadline: Time,
    ) -> Result<Option<Pin>, Error> {
        let mut upgrading = false;
        loop {
            if !self.awake() {
                return Err(self.over().unwrap_or(Error::Expired));
            }
            let changed = self.changed.notified();
            let (sender, receiver) = oneshot::channel();
            let (want, effects) = {
                let mut state = self.state.lock();
                state.machine.now = self.world.clock.now();
                let (want, effects) = state.machine.want(ask, wait);
                if let Want::Asked(ticket) = want {
                    state.answers.insert(ticket, sender);
                }
                (want, effects)
            };
            upgrading |= want == Want::Revoking && !effects.is_empty();
            self.run(effects);
            match want {
                Want::Have(pin, held) if self.valid() => return Ok(Some(self.pinned(pin, held))),
                Want::Have(pin, held) => {
                    drop(self.pinned(pin, held));
                    return Err(Error::Expired);
                }
                Want::Over(error) => return Err(error),
                Want::Straddles => return Err(Error::Straddles),
                Want::Revoking if !wait && !upgrading => return Ok(None),
                Want::Revoking | Want::Asking => {
                    if self.world.until(deadline, changed).await.is_err() {
                        return Err(Error::Deadline);
                    }
                }
                Want::Asked(ticket) => {
                    let asked = Asked { shared: self, ticket, take_back: State::cancel };
                    let answer = self.answered(receiver, deadline).await;
                    drop(asked);
                    match answer {
                        Some(Told::Granted(pin)) if self.awake() => return Ok(Some(pin)),
                        Some(Told::Granted(_)) => return Err(Error::Expired),
                        Some(Told::Full) => return Err(Error::Full),
                        Some(Told::Over(error)) => return Err(error),
                        Some(Told::Refused | Told::Hinted) if !wait => return Ok(None),
                        Some(Told::Refused | Told::Hinted) => {}
                        None => return Err(Error::Deadline),
                    }
                }
            }
        }
    }

    async fn give_up(self: &Arc<Self>, span: Span) -> Result<(), Error> {
        let deadline = self.world.clock.now() + self.patience;
        let effects = self.state.lock().machine.revoke(span, None);
        self.run(effects);
        loop {
            let changed = self.changed.notified();
            {
                let state = self.state.lock();
                if let Some(error) = &state.machine.over {
                    return Err(error.clone());
                }
                if !state.machine.giving_up(span) {
                    return Ok(());
                }
            }
            if self.world.until(deadline, changed).await.is_err() {
                return Err(Error::Deadline);
            }
        }
    }
}

#[async_trait]
impl Locks for Clerk {
    fn session(&self) -> SessionId {
        self.shared.session
    }

    fn valid_until(&self) -> Time {
        Time(self.shared.valid_until.load(Ordering::Acquire))
    }

    fn held(&self, name: Name, mode: Mode) -> Option<Held> {
        let now = self.shared.world.clock.now();
        let held = self.shared.state.lock().machine.held.touch(name, now)?;
        let valid = self.shared.valid() || seeded(Bug::PausedUsesGrant);
        (held.mode >= mode && valid).then_some(held)
    }

    fn all_held(&self) -> Vec<Held> {
        self.shared.state.lock().machine.held.all()
    }

    fn newest(&self) -> Grant {
        self.shared.state.lock().machine.newest
    }

    async fn acquire(&self, need: Span, wish: Span, mode: Mode) -> Result<Pin, Error> {
        let deadline = self.shared.world.clock.now() + self.shared.patience;
        self.acquire_by(need, wish, mode, deadline).await
    }

    async fn try_acquire(&self, need: Span, mode: Mode) -> Result<Option<Pin>, Error> {
        let deadline = self.shared.world.clock.now() + self.shared.patience;
        self.shared.get((need, need, mode), false, deadline).await
    }

    async fn hint(&self, names: &[Name], mode: Mode) -> Result<(), Error> {
        let shared = &self.shared;
        if !shared.awake() {
            return Err(shared.over().unwrap_or(Error::Expired));
        }
        let asked: Vec<_> = {
            let mut state = shared.state.lock();
            if let Some(error) = &state.machine.over {
                return Err(error.clone());
            }
            let tickets = state.machine.hint(names, mode);
            let open = |ticket| {
                let (sender, receiver) = oneshot::channel();
                state.answers.insert(ticket, sender);
                (Asked { shared, ticket, take_back: State::cancel }, receiver)
            };
            tickets.into_iter().map(open).collect()
        };
        shared.stir();
        let deadline = shared.world.clock.now() + shared.patience;
        for (asked, receiver) in asked {
            let answer = shared.answered(receiver, deadline).await;
            drop(asked);
            match answer {
                Some(Told::Over(error)) => return Err(error),
                Some(_) => {}
                None => return Err(Error::Unreachable),
            }
        }
        Ok(())
    }

    async fn give_up(&self, span: Span) -> Result<(), Error> {
        self.shared.give_up(span).await
    }

    async fn claim(
        &self,
        claim: Claim,
        patience: Patience,
        back: BoxFuture<'_, ()>,
    ) -> Result<Claimed, Error> {
        self.shared.claim(claim, patience, back).await
    }

    fn report(&self, numbers: String) {
        *self.shared.report.lock() = numbers;
    }

    fn messages(&self) -> u64 {
        self.shared.messages.load(Ordering::Relaxed)
    }

    async fn close(&self) -> Result<(), Error> {
        self.shared.close().await
    }
}
