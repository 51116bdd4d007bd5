//! The driver of operations: tries, provides what was missing, tries again.
//!
//! An attempt runs under the mutex and never waits; so an operation on what is cached and locked
//! is ready at its first poll, and a miss is the same code with waits in between. What is waited
//! for always has a deadline.

use std::{collections::BTreeMap, future::Future, time::Duration};

use lockservice::{Mode, Name, Pin, Span};
use world::Time;

use crate::{
    error::Error,
    fs::Fs,
    tx::{Access, MAX_CHANGED, Need, Stop, Tx},
};

/// Bytes of changes at which the log is pushed without waiting for its time.
const PUSH_AT: u64 = MAX_CHANGED / 3;

/// After so many failed attempts an operation pins every lock that it uses.
const PIN_ALL: u32 = 2;

/// What an operation keeps from attempt to attempt.
#[derive(Default)]
pub(crate) struct Hands {
    deadline: Option<Time>,
    attempts: u32,
    used: Vec<(Name, Mode)>,
    wanted: BTreeMap<Name, Mode>,
    pins: BTreeMap<Name, (Mode, Pin)>,
}

impl Fs {
    /// Runs an operation to its end. `op` is called again and again, each time from the start,
    /// until it misses nothing.
    pub(crate) async fn run<T: Send>(
        &self,
        mut op: impl FnMut(&mut Tx<'_>) -> Result<T, Stop> + Send,
    ) -> Result<T, Error> {
        self.drive(Access::Operation, &mut op).await
    }

    /// As [`Fs::run`], for reads and writes of files: they pass a gate that is still open.
    pub(crate) async fn run_io<T: Send>(
        &self,
        mut op: impl FnMut(&mut Tx<'_>) -> Result<T, Stop> + Send,
    ) -> Result<T, Error> {
        self.drive(Access::Io, &mut op).await
    }

    /// As [`Fs::run`], for write-back.
    pub(crate) async fn run_inner<T: Send>(
        &self,
        access: Access,
        mut op: impl FnMut(&mut Tx<'_>) -> Result<T, Stop> + Send,
    ) -> Result<T, Error> {
        self.drive(access, &mut op).await
    }

    async fn drive<T: Send>(
        &self,
        access: Access,
        op: &mut (impl FnMut(&mut Tx<'_>) -> Result<T, Stop> + Send),
    ) -> Result<T, Error> {
        let need = match self.attempt(access, op, None)? {
            Ok(done) => return Ok(done),
            Err(need) => need,
        };
        let mut hands = Hands::default();
        let mut need = Some(need);
        loop {
            if let Some(need) = need.take() {
                hands.attempts += 1;
                self.provide(need, access, &mut hands).await?;
            }
            match self.attempt(access, op, Some(&mut hands))? {
                Ok(done) => return Ok(done),
                Err(missing) => need = Some(missing),
            }
        }
    }

    fn attempt<T>(
        &self,
        access: Access,
        op: &mut impl FnMut(&mut Tx<'_>) -> Result<T, Stop>,
        hands: Option<&mut Hands>,
    ) -> Result<Result<T, Need>, Error> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(error) = &state.dead {
            return Err(error.clone());
        }
        if state.closing && matches!(access, Access::Operation | Access::Io) {
            return Err(Error::Closed);
        }
        let mut tx = Tx::new(self, state, access);
        match op(&mut tx) {
            Ok(done) => {
                tx.commit();
                state.counters.operations += 1;
                state.evict(self.config.cache_bytes);
                self.wake(state);
                Ok(Ok(done))
            }
            Err(Stop::Fail(error)) => Err(error),
            Err(Stop::Need(need)) => {
                if let Some(hands) = hands {
                    hands.used = std::mem::take(&mut tx.used);
                }
                state.counters.waits += 1;
                Ok(Err(need))
            }
        }
    }

    /// Starts the background work that the state calls for.
    fn wake(&self, state: &crate::state::State) {
        if state.changed_bytes > PUSH_AT {
            self.signals.push.notify_one();
        }
        if state.dirty_bytes > self.config.cache_bytes / 4 {
            self.signals.data.notify_one();
        }
        if !state.orphans.is_empty() || !state.trims.is_empty() {
            self.signals.reap.notify_one();
        }
        if state.home_bytes() > self.config.cache_bytes / 8 {
            self.signals.home.notify_one();
        }
    }

    async fn provide(&self, need: Need, access: Access, hands: &mut Hands) -> Result<(), Error> {
        let patience = self.config.patience;
        let deadline = *hands.deadline.get_or_insert_with(|| self.world.clock.now() + patience);
        match need {
            Need::Lock(name, mode) => {
                self.in_time(deadline, "a lock holder", self.lock(hands, name, mode)).await
            }
            Need::Inode(ino) => {
                self.in_time(deadline, "the virtual disk", self.load_inode(ino, access)).await
            }
            Need::Page(at, lock, kind) => {
                let load = self.load_page(at, lock, kind, access);
                self.in_time(deadline, "the virtual disk", load).await
            }
            Need::Data(ino, first, count) => {
                self.in_time(deadline, "the virtual disk", self.load_data(ino, first, count)).await
            }
            Need::Quiet(ino) => {
                let quiet = self
                    .settled(move |state| state.inodes.get(&ino).is_none_or(|slot| !slot.writing));
                self.in_time(deadline, "a write-back", quiet).await
            }
            Need::Clean(ino) => {
                self.in_time(deadline, "a write-back", self.write_back(vec![ino])).await
            }
            Need::Room => self.in_time(deadline, "a write-back", self.make_room()).await,
            Need::Space(bytes) => {
                self.in_time(deadline, "the virtual disk", self.ask_space(bytes)).await
            }
            Need::Push => self.in_time(deadline, "the log", self.push()).await,
            Need::InodeSegment => {
                // To look whether a segment is free, the clerk gives up what it shares there, and waits
                // for pins on it: ours among them.
                hands.pins.clear();
                self.in_time(deadline, "the lock service", self.take_inode_segment()).await
            }
            Need::SpaceSegment => {
                hands.pins.clear();
                self.in_time(deadline, "the lock service", self.take_space_segment()).await
            }
        }
    }

    pub(crate) async fn in_time<T>(
        &self,
        deadline: Time,
        who: &'static str,
        work: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, Error> {
        match self.world.until(deadline, work).await {
            Ok(result) => result,
            Err(world::Elapsed) => Err(Error::Late(who)),
        }
    }

    /// Acquires `name`, and what else the operation is known to need, in name order.
    async fn lock(&self, hands: &mut Hands, name: Name, mode: Mode) -> Result<(), Error> {
        if hands.attempts > PIN_ALL {
            for (used, how) in std::mem::take(&mut hands.used) {
                let wanted = hands.wanted.entry(used).or_insert(how);
                *wanted = how.max(*wanted);
            }
        }
        let wanted = hands.wanted.entry(name).or_insert(mode);
        *wanted = mode.max(*wanted);
        let weak = hands
            .pins
            .iter()
            .any(|(pinned, (how, _))| hands.wanted.get(pinned).is_some_and(|wanted| wanted > how));
        let first_missing =
            hands.wanted.keys().find(|wanted| !hands.pins.contains_key(wanted)).copied();
        let behind = hands.pins.keys().next_back() > first_missing.as_ref();
        if weak || behind {
            // Whoever waits holds only names before the one it waits for.
            hands.pins.clear();
        }
        let missing: Vec<(Name, Mode)> = hands
            .wanted
            .iter()
            .filter(|(name, _)| !hands.pins.contains_key(name))
            .map(|(name, mode)| (*name, *mode))
            .collect();
        for (name, mode) in missing {
            let span = Span::one(name);
            let pin = self.locks.acquire(span, span, mode).await?;
            self.state.lock().gates.lift(pin.held.span, pin.held.mode);
            hands.pins.insert(name, (mode, pin));
        }
        Ok(())
    }

    /// Waits until `done` says so of the state; it is asked again whenever something settled.
    pub(crate) async fn settled(
        &self,
        mut done: impl FnMut(&mut crate::state::State) -> bool + Send,
    ) -> Result<(), Error> {
        loop {
            let notified = self.signals.settled.notified();
            futures_util::pin_mut!(notified);
            notified.as_mut().enable();
            {
                let mut state = self.state.lock();
                if done(&mut state) {
                    return Ok(());
                }
                if let Some(error) = &state.dead {
                    return Err(error.clone());
                }
            }
            notified.await;
        }
    }

    /// Waits until the cache has room.
    async fn make_room(&self) -> Result<(), Error> {
        let cap = self.config.cache_bytes;
        self.signals.data.notify_one();
        self.signals.home.notify_one();
        self.settled(move |state| {
            // What was used since is passed over by a first round.
            (state.evict(cap) || state.evict(cap)) && state.dirty_bytes <= cap / 2
        })
        .await
    }

    /// The moment until which an answer under the locks held now may be believed.
    pub(crate) fn valid_until(&self) -> Time {
        let at_most: Duration = self.config.keep_at_most;
        self.locks.valid_until().min(self.world.clock.now() + at_most)
    }
}
