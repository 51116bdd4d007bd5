//! What clients do: they ask for locks and use them, alone and several at once, look into the registry and change it, and
//! when the storm is over each asks once more for every lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use lockservice::{
    Clerk, Error, Locks as _, Mode, Name, Pin, Service, Span,
    advisory::{Claim, ClaimRow, Claimant, Claimed, Patience, Stretch},
    registry::{Make, NodePath, Refusal},
};
use parking_lot::Mutex;
use world::{Time, World};

use super::{
    check::Judge,
    client::{Cache, Mount},
    history::{Ask, Histories, JUDGED, Told},
};
use crate::dice::Dice;

/// The names that are fought for with wishes and hints.
pub(super) const NAMES: u64 = 8;
/// Names from here on have one client that asks for them.
const OWN: u64 = 1 << 12;
/// Bytes of a file that are claimed by advisory locks.
const BYTES: u64 = 8;
/// Nodes of the registry.
const NODES: u64 = 2;
/// How long a client waits for a lock when faults have ended: much longer than it takes to recover the dead.
const PATIENCE: Duration = Duration::from_secs(60);
/// And when the dead are recovered: less than the lease after which a holder that does not answer is told again.
const PROMPT: Duration = Duration::from_secs(4);

/// What the clients live through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Faults strike.
    Storm,
    /// They have ended.
    Calm,
    /// The dead are recovered besides, and nothing moves any more.
    Peace,
}

/// A stage that several have an eye on.
pub(super) struct Mark(AtomicU8);

impl Default for Mark {
    fn default() -> Self {
        Self(AtomicU8::new(Stage::Storm as u8))
    }
}

impl Mark {
    pub(super) fn get(&self) -> Stage {
        let all = [Stage::Storm, Stage::Calm, Stage::Peace];
        all[usize::from(self.0.load(Ordering::Acquire))]
    }

    pub(super) fn set(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Release);
    }
}

/// A name by its number. With several shards there are four to a segment, so that they lie apart.
pub(super) const fn name(apart: bool, number: u64) -> Name {
    if apart { Name(((number / 4) << Name::INDEX_BITS) | number) } else { Name(number) }
}

/// All names.
pub(super) fn everything() -> Span {
    Span::new(Name(0), Name(u64::MAX)).expect("it is not empty")
}

/// A client at work.
pub(super) struct Worker {
    /// Which of its client's.
    pub(super) number: u64,
    /// How far it is in the names that it alone asks for.
    pub(super) asked: u64,
    /// There are several shards.
    pub(super) apart: bool,
    pub(super) world: World,
    pub(super) clerk: Arc<Clerk>,
    /// The lock service without the clerk.
    pub(super) service: Arc<dyn Service>,
    pub(super) mount: Arc<Mount>,
    pub(super) judge: Arc<Mutex<Judge>>,
    pub(super) cache: Arc<Mutex<Cache>>,
    pub(super) dice: Dice,
    pub(super) stage: Arc<Mark>,
    /// The stage in which it got every lock.
    pub(super) content: Arc<Mark>,
}

impl Worker {
    /// Works until the session is over.
    pub(super) async fn run(mut self) -> Error {
        loop {
            let pause = self.dice.millis(1, 60);
            self.world.clock.sleep(pause).await;
            let stage = self.stage.get();
            if stage > Stage::Storm {
                if self.content.get() < stage
                    && let Err(error) = self.everything_once(stage).await
                {
                    return error;
                }
                // Its holder still answers.
                self.world.clock.sleep(Duration::from_millis(100)).await;
                if self.world.clock.now() >= self.clerk.valid_until() {
                    return Error::Expired;
                }
                continue;
            }
            if let Err(error @ (Error::Expired | Error::Closed)) = self.something().await {
                return error;
            }
        }
    }

    fn name(&self, number: u64) -> Name {
        name(self.apart, number)
    }

    /// The names from one number to another, as far as they are in one segment.
    fn part(&self, from: u64, to: u64) -> Span {
        let to = if self.apart { to.min(from / 4 * 4 + 4) } else { to };
        let end = Name(self.name(to - 1).0 + 1);
        Span::new(self.name(from), end).expect("it is not empty")
    }

    async fn something(&mut self) -> Result<(), Error> {
        match self.dice.between(0, 100) {
            0..40 => self.lock_some().await,
            40..58 => self.lock_judged().await,
            58..66 => self.try_one().await,
            66..70 => self.hint().await,
            70..72 => self.own_two().await,
            72..76 => self.clerk.give_up(everything()).await,
            76..82 => {
                self.mount.flush(everything()).await;
                Ok(())
            }
            82..90 => self.node().await,
            90..97 => self.claim().await,
            _ if self.dice.chance(20) => self.clerk.close().await.and(Err(Error::Closed)),
            _ => {
                self.use_some();
                Ok(())
            }
        }
    }

    fn mode(&mut self) -> Mode {
        if self.dice.chance(60) { Mode::Exclusive } else { Mode::Shared }
    }

    fn patience(&mut self) -> Duration {
        match self.dice.between(0, 10) {
            0..2 => self.dice.millis(20, 600),
            2..8 => self.dice.millis(600, 12_000),
            // Until a holder that does not answer is fenced.
            _ => self.dice.millis(12_000, 30_000),
        }
    }

    async fn lock_some(&mut self) -> Result<(), Error> {
        let first = self.dice.between(0, NAMES);
        let length = if self.dice.chance(25) { 3 } else { 1 };
        let need = self.part(first, (first + length).min(NAMES));
        let widest = self.part(if self.apart { first / 4 * 4 } else { 0 }, NAMES);
        let wish = if self.dice.chance(25) { widest } else { need };
        let (mode, patience) = (self.mode(), self.patience());
        let deadline = self.world.clock.now() + patience;
        let pin = self.clerk.acquire_by(need, wish, mode, deadline).await?;
        self.judge.lock().count("locks acquired");
        self.work_under(pin, need, mode).await;
        Ok(())
    }

    /// As an operation of a mount: the lock stays until it is done.
    async fn work_under(&mut self, pin: Pin, need: Span, mode: Mode) {
        self.use_one(need.start());
        if self.dice.chance(50) {
            let most = if self.dice.chance(10) { 400 } else { 20 };
            let takes = self.dice.millis(0, most);
            self.world.clock.sleep(takes).await;
            let valid = self.world.clock.now() < self.clerk.valid_until();
            let kept = [need.start(), Name(need.end().0 - 1)]
                .iter()
                .all(|name| self.clerk.held(*name, mode).is_some());
            self.judge.lock().pinned(self.clerk.session(), need, kept || !valid);
            self.use_one(need.start());
            self.use_one(Name(need.end().0 - 1));
        }
        drop(pin);
    }

    async fn lock_judged(&mut self) -> Result<(), Error> {
        let number = self.dice.between(JUDGED.start, JUDGED.end);
        let name = self.name(number);
        let (mode, patience) = (self.mode(), self.patience());
        let deadline = self.world.clock.now() + patience;
        let pin = self.acquire_judged(name, mode, deadline).await?;
        self.work_under(pin, Span::one(name), mode).await;
        Ok(())
    }

    /// An acquire that is in the history.
    async fn acquire_judged(&self, name: Name, mode: Mode, deadline: Time) -> Result<Pin, Error> {
        let called = self.judge.lock().histories.moment();
        let who = (name, self.clerk.session(), mode);
        let mut open = Open::new(&self.judge, move |histories, grant| {
            histories.acquired(called, who, grant);
        });
        let one = Span::one(name);
        let asked = self.clerk.acquire_by(one, one, mode, deadline).await;
        open.end(asked.as_ref().ok().map(|pin| pin.held.grant));
        asked
    }

    /// Two names that nobody ever asked for, which may lie at two shards: the number of the second grant is past all
    /// that the session had seen when it asked.
    async fn own_two(&mut self) -> Result<(), Error> {
        let own = OWN + (self.clerk.session().0 * 2 + self.number) * 4096;
        for _ in 0..2 {
            self.asked += 4;
            let one = Span::one(self.name(own + self.asked));
            let before = self.clerk.newest();
            let deadline = self.world.clock.now() + self.patience();
            let pin = self.clerk.acquire_by(one, one, Mode::Exclusive, deadline).await?;
            let (session, grant) = (self.clerk.session(), pin.held.grant);
            self.judge.lock().numbered(session, grant, before);
        }
        Ok(())
    }

    async fn try_one(&mut self) -> Result<(), Error> {
        let number = self.dice.between(0, NAMES);
        let name = self.name(number);
        let mode = self.mode();
        if let Some(pin) = self.clerk.try_acquire(Span::one(name), mode).await? {
            self.judge.lock().count("locks tried and got");
            self.work_under(pin, Span::one(name), mode).await;
        }
        Ok(())
    }

    async fn hint(&mut self) -> Result<(), Error> {
        let names: Vec<Name> = (0..NAMES).map(|number| self.name(number)).collect();
        let mode = self.mode();
        self.clerk.hint(&names, mode).await?;
        self.use_some();
        Ok(())
    }

    fn use_some(&mut self) {
        for number in 0..NAMES {
            if self.dice.chance(50) {
                self.use_one(self.name(number));
            }
        }
    }

    /// Reads, and perhaps writes, what a name protects, if that is held.
    fn use_one(&mut self, name: Name) {
        let Some(held) = self.clerk.held(name, Mode::Shared) else { return };
        let valid = self.world.clock.now() < self.clerk.valid_until();
        let writes = held.mode == Mode::Exclusive && self.dice.chance(50);
        let session = self.clerk.session();
        let (mut judge, mut cache) = (self.judge.lock(), self.cache.lock());
        if cache.is_gated(name) {
            return;
        }
        let seen = cache.read(name, || judge.store.read(name));
        let truth = judge.store.truth(name);
        judge.used(session, valid, seen, truth);
        if writes {
            let value = judge.store.write(session, name, held.grant);
            cache.write(name, value, held.grant);
        }
    }

    async fn node(&mut self) -> Result<(), Error> {
        let node = self.dice.between(0, NODES);
        let path = NodePath::new(format!("/n{node}"))?;
        let registry = self.clerk.registry();
        let version = if self.dice.chance(50) { Some(self.dice.between(0, 4)) } else { None };
        let data = Bytes::from(self.dice.roll().to_le_bytes().to_vec());
        let ask = match self.dice.between(0, 10) {
            0..3 => Ask::Create(data),
            3..6 => Ask::Set(data, version),
            6 => Ask::Delete(version),
            _ => Ask::Get,
        };
        let called = self.judge.lock().histories.moment();
        let (session, asked) = (self.clerk.session().0, ask.clone());
        let mut open = Open::new(&self.judge, move |histories, told| {
            histories.node(called, session, (node, asked.clone()), told);
        });
        let result = match &ask {
            Ask::Create(data) => {
                registry.create(&path, data.clone(), Make::default()).await.map(|_| Told::Done)
            }
            Ask::Set(data, version) => {
                let set = registry.set(&path, data.clone(), *version).await;
                set.map(|stat| Told::Version(stat.version))
            }
            Ask::Delete(version) => registry.delete(&path, *version).await.map(|()| Told::Done),
            Ask::Get => match registry.sync().await {
                Ok(()) => registry.get(&path).await.map(|found| {
                    found.map_or(Told::NoNode, |node| Told::Node(node.stat.version, node.data))
                }),
                Err(error) => Err(error),
            },
        };
        let (told, result) = match result {
            Ok(told) => (Some(told), Ok(())),
            Err(Error::Node { why, .. }) => (refused(&why), Ok(())),
            Err(error) => (None, Err(error)),
        };
        open.end(told);
        result
    }

    /// An advisory lock on some bytes of one of two files, or an end of it.
    async fn claim(&mut self) -> Result<(), Error> {
        let first = self.dice.between(0, BYTES);
        let last = self.dice.between(first, BYTES);
        let mode = [Some(Mode::Exclusive), Some(Mode::Shared), None][self.dice.pick(3)];
        let claim = Claim {
            file: self.dice.between(0, 2),
            by: Claimant(self.number * 2 + self.dice.between(0, 2)),
            process: 1,
            stretch: Stretch::new(first, last).expect("it begins before it ends"),
            mode,
        };
        let patience = if self.dice.chance(60) { Patience::Wait } else { Patience::Try };
        let tired = self.patience();
        let session = self.clerk.session();
        let before = self.judge.lock().claims.lower(session, &claim);
        let back = Box::pin(self.world.clock.sleep(tired));
        let claimed = self.clerk.claim(claim, patience, back).await;
        self.judge.lock().claimed((session, &claim), claimed.as_ref().ok(), before);
        if claimed? == Claimed::Done && mode.is_some() && self.dice.chance(50) {
            // As most who lock: for a moment.
            self.give_back(claim).await?;
        }
        Ok(())
    }

    async fn give_back(&self, claim: Claim) -> Result<(), Error> {
        let claim = Claim { mode: None, ..claim };
        self.judge.lock().claims.lower(self.clerk.session(), &claim);
        let never = Box::pin(std::future::pending());
        self.clerk.claim(claim, Patience::Try, never).await.map(|_| ())
    }

    /// All bytes of a file for one of the two claimants of this one.
    fn whole(&self, file: u64, owner: u64) -> Claim {
        Claim {
            file,
            by: Claimant(self.number * 2 + owner),
            process: 1,
            stretch: Stretch::new(0, BYTES).expect("it begins before it ends"),
            mode: None,
        }
    }

    /// The table has no advisory lock of this one's that it was not told of.
    async fn look_at_claims(&mut self) -> Result<(), Error> {
        // Until nothing that was sent before is on its way any more: the file is one that nobody claims.
        self.world.clock.sleep(Duration::from_secs(1)).await;
        self.give_back(self.whole(2, 0)).await?;
        let rows = loop {
            let deadline = self.world.clock.now() + Duration::from_secs(1);
            match self.service.locks(deadline).await {
                Ok(rows) => break rows.claims,
                Err(_) if self.world.clock.now() < self.clerk.valid_until() => {}
                Err(error) => return Err(error),
            }
        };
        let session = self.clerk.session();
        let own = [Claimant(self.number * 2), Claimant(self.number * 2 + 1)];
        let own = |row: &&ClaimRow| row.session == session && own.contains(&row.claim.by);
        for row in rows.iter().filter(own) {
            self.judge.lock().has_claim(session, &row.claim);
        }
        Ok(())
    }

    /// All advisory locks that it may have are given back.
    async fn unclaim(&mut self) -> Result<(), Error> {
        for (file, owner) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            self.give_back(self.whole(file, owner)).await?;
        }
        Ok(())
    }

    /// Every lock, one after the other: whoever holds them answers now, in peace without having anything to flush.
    async fn everything_once(&mut self, stage: Stage) -> Result<(), Error> {
        let patience = if stage == Stage::Peace { PROMPT } else { PATIENCE };
        if stage < Stage::Peace {
            self.look_at_claims().await?;
            self.unclaim().await?;
        }
        for number in (0..NAMES).chain(JUDGED) {
            let name = self.name(number);
            let one = Span::one(name);
            let deadline = self.world.clock.now() + patience;
            let pin = if JUDGED.contains(&number) {
                self.acquire_judged(name, Mode::Exclusive, deadline).await
            } else {
                self.clerk.acquire_by(one, one, Mode::Exclusive, deadline).await
            };
            match pin {
                Ok(pin) => drop(pin),
                Err(Error::Deadline) => {
                    let what = format!("{:?} waits for {name}", self.clerk.session());
                    self.judge.lock().wrong.get_or_insert((LIVENESS, what));
                    return Err(Error::Deadline);
                }
                Err(error) => return Err(error),
            }
            if stage < Stage::Peace {
                self.use_one(name);
            }
        }
        self.content.set(stage);
        Ok(())
    }
}

type Note<T> = Box<dyn FnMut(&mut Histories, Option<T>) + Send>;

/// An operation of a history that is under way. If whoever asked is killed, its outcome is not known.
struct Open<T> {
    judge: Arc<Mutex<Judge>>,
    note: Option<Note<T>>,
}

impl<T> Open<T> {
    fn new(
        judge: &Arc<Mutex<Judge>>,
        note: impl FnMut(&mut Histories, Option<T>) + Send + 'static,
    ) -> Self {
        Self { judge: Arc::clone(judge), note: Some(Box::new(note)) }
    }

    fn end(&mut self, told: Option<T>) {
        if let Some(mut note) = self.note.take() {
            note(&mut self.judge.lock().histories, told);
        }
    }
}

impl<T> Drop for Open<T> {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// A waiter whose holders all answer gets its lock.
pub(super) const LIVENESS: &str = "liveness after healing";

fn refused(why: &Refusal) -> Option<Told> {
    match why {
        Refusal::NoNode => Some(Told::NoNode),
        Refusal::Exists => Some(Told::Exists),
        Refusal::Version(found) => Some(Told::Other(*found)),
        Refusal::NoParent | Refusal::NotEmpty | Refusal::Forbidden | Refusal::TooLarge => None,
    }
}
