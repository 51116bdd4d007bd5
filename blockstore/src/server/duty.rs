//! What a block server owes the map: registration, heartbeats that renew its lease, news of chains
//! and fences, confirmations.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use world::{Time, World};

use super::{Inner, Seat, ServerConfig};
use crate::{
    chain::{Machine, Phase},
    disk::{Fence, PAGE, Space},
    link::{Chain, Heartbeat, LinkError, MapLink, News, Past, Registration},
    map::MAIN,
    message::{Change, Discard},
    place::{BlockVersion, ChainVersion, Incarnation, Order},
    store::{Store, Usage},
};

const ANSWER: Duration = Duration::from_secs(2);
const NEWS: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);
/// The part of its reserve that a server keeps for itself: its index and what others send it.
const LAST_PART: u64 = 16;
/// How often it is looked whether what a fence waits for is over.
const LOOK: Duration = Duration::from_millis(2);

/// Registers this start, trying until the map answers.
pub(super) async fn register(
    world: &World,
    config: &ServerConfig,
    store: &dyn Store,
    link: &dyn MapLink,
    past: Past,
) -> Result<Incarnation, LinkError> {
    let fresh = || {
        let mut start = [0; 16];
        world.dice.fill(&mut start);
        u128::from_le_bytes(start)
    };
    let mut registration = Registration {
        server: config.server,
        directory: store.directory(),
        start: fresh(),
        address: config.address.clone(),
        past,
        space: store.usage().space,
    };
    loop {
        let deadline = world.clock.now() + ANSWER;
        match link.register(registration.clone(), deadline).await {
            Err(LinkError::Unreachable(reason)) => {
                tracing::debug!(server = config.server.0, reason, "no coordinator yet");
                world.clock.sleep(PAUSE).await;
            }
            // The answer was lost, and the lease that had begun is over: nothing was done under it.
            Err(LinkError::Expired(_)) => registration.start = fresh(),
            done => return done,
        }
    }
}

impl Inner {
    /// Renews the lease for as long as the server lives.
    pub(super) async fn heartbeats(self: Arc<Self>) {
        loop {
            let sent = self.world.clock.now();
            let beat = self.heartbeat();
            let start = beat.incarnation;
            let mut pause = PAUSE;
            match self.link.heartbeat(beat, sent + ANSWER).await {
                Ok(granted) => {
                    self.rate.store(granted.rate, SeqCst);
                    // First what the lease relies on, then the lease, less the drift of clocks.
                    self.learn(start, &granted.news);
                    let until = sent + (granted.lease - granted.lease / 20);
                    let mut authority = self.authority.lock();
                    authority.until = authority.until.max(until);
                    pause = granted.lease / 3;
                }
                Err(LinkError::Unreachable(reason)) => {
                    tracing::debug!(server = self.config.server.0, reason, "no lease renewed");
                }
                Err(LinkError::Expired(_)) => match self.rejoin().await {
                    Ok(()) => continue,
                    Err(fatal) => {
                        self.fail(&fatal.to_string());
                        return;
                    }
                },
                Err(fatal) => {
                    self.fail(&fatal.to_string());
                    return;
                }
            }
            if self.authority.lock().stopped.is_some() {
                return;
            }
            let wake = self.world.clock.now() + pause;
            // Whichever comes first; a poke that is lost costs one heartbeat's time.
            let _ = self.world.until(wake, self.poke.notified()).await;
        }
    }

    /// Registers again after the lease was waited out. Nothing that was acknowledged is lost: only
    /// the right to act was.
    async fn rejoin(&self) -> Result<(), LinkError> {
        tracing::warn!(server = self.config.server.0, "no lease for too long: registering again");
        self.authority.lock().until = Time::ZERO;
        let (world, config) = (&self.world, &self.config);
        let incarnation =
            register(world, config, &*self.store, &*self.link, Past::Unbroken).await?;
        // All rows are told again, to the new incarnation; news that was on its way to the last one
        // must not count as known.
        let mut known = self.known.lock();
        known.map = 0;
        self.reborn(incarnation);
        self.incarnation.store(incarnation.0, SeqCst);
        drop(known);
        self.equal.lock().clear();
        self.ready.lock().clear();
        Ok(())
    }

    fn reborn(&self, incarnation: Incarnation) {
        let seats: Vec<_> = self.seats.read().values().cloned().collect();
        for seat in seats {
            seat.machine.lock().reborn(incarnation);
            seat.moved();
        }
    }

    /// What the store uses; notes whether clients may write.
    pub(super) fn look_at_space(&self) -> Usage {
        let usage = self.store.usage();
        // What is dirty takes space when it is committed.
        let free = usage.space.free.saturating_sub(usage.dirty);
        // Of the reserve only flagged writes take: clients' logs, without which nobody could delete. The last of it is
        // the server's own.
        self.full.store(free <= self.config.reserve, SeqCst);
        self.out.store(free <= self.config.reserve / LAST_PART, SeqCst);
        self.admitted.store(0, SeqCst);
        usage
    }

    fn heartbeat(&self) -> Heartbeat {
        let usage = self.look_at_space();
        let free = usage.space.free.saturating_sub(self.config.reserve);
        Heartbeat {
            server: self.config.server,
            incarnation: self.incarnation(),
            known: *self.known.lock(),
            space: Space { free, ..usage.space },
            dirty_bytes: usage.dirty,
            confirmed: self.confirmed.load(SeqCst),
            equal: self.equal.lock().iter().map(|(group, chain)| (*group, *chain)).collect(),
            ready: self.ready.lock().iter().map(|(group, (v, id))| (*group, *v, *id)).collect(),
            owed: self.owed(),
        }
    }

    /// Waits for news; fences come this way.
    pub(super) async fn hear(self: Arc<Self>) {
        loop {
            // Both at one moment: a new start has to be told everything.
            let (known, start) = {
                let known = self.known.lock();
                (*known, self.incarnation())
            };
            let deadline = self.world.clock.now() + NEWS;
            let server = self.config.server;
            match self.link.news(server, start, known, deadline).await {
                Ok(Some(news)) => self.learn(start, &news),
                Ok(None) => {}
                // What is over begins anew with a heartbeat; and this may be the answer to what was asked
                // before that. If another process took over, the heartbeat hears of it too.
                Err(
                    LinkError::Unreachable(_) | LinkError::Expired(_) | LinkError::Superseded(_),
                ) => {
                    self.world.clock.sleep(PAUSE).await;
                }
                Err(fatal) => {
                    self.fail(&fatal.to_string());
                    return;
                }
            }
            if self.authority.lock().stopped.is_some() {
                return;
            }
        }
    }

    /// Takes news in that this server asked for as `start`. News that is late changes nothing: what
    /// was known of the map before it is newer, or was told to a start that is over.
    pub(super) fn learn(self: &Arc<Self>, start: Incarnation, news: &News) {
        // Held all the while: two answers come at the same time, and the rows of the older one must
        // not replace those of the newer one.
        let mut known = self.known.lock();
        if start != self.incarnation() {
            return;
        }
        if !news.fenced.is_empty() {
            self.fences.write().extend(news.fenced.iter().copied());
        }
        if news.known.map >= known.map {
            *self.bits.write() = news.bits;
            for chain in &news.chains {
                self.take_row(chain);
            }
            known.map = news.known.map;
        }
        known.fences = known.fences.max(news.known.fences);
        self.fenced.send_if_modified(|fences| {
            let newer = known.fences > *fences;
            *fences = known.fences;
            newer
        });
    }

    fn take_row(self: &Arc<Self>, chain: &Chain) {
        let seat = {
            let mut seats = self.seats.write();
            let machine = || Machine::new(self.config.server, self.incarnation());
            let seat = seats
                .entry(chain.group)
                .or_insert_with(|| Arc::new(Seat::new(chain.group, machine())));
            Arc::clone(seat)
        };
        let mut machine = seat.machine.lock();
        let held = !matches!(machine.phase(), Phase::Out);
        let new = machine.install(chain.clone());
        let equalize = new && machine.phase() == Phase::Equalizing && machine.is_head();
        let (version, done) = (machine.version(), machine.is_done_with());
        drop(machine);
        if new {
            seat.moved();
        }
        {
            let mut equal = self.equal.lock();
            // The map knows by now, or the version that was reported is past.
            let told = |at: &ChainVersion| *at < version || (*at == version && chain.equal);
            if equal.get(&chain.group).is_some_and(told) {
                equal.remove(&chain.group);
            }
        }
        self.ready.lock().retain(|group, (at, joiner)| {
            let same = chain.joiner.as_ref().is_some_and(|member| member.server == *joiner);
            *group != chain.group || (*at == version && same)
        });
        if equalize {
            self.world
                .spawn("block-equalize", Arc::clone(self).equalize(Arc::clone(&seat), version));
        }
        self.sync_joiner(&seat);
        if done && held {
            self.give_up(&seat);
        }
    }

    /// Others serve the group without this server: its blocks only take space.
    fn give_up(&self, seat: &Seat) {
        let all = Discard { volume: MAIN, offset: 0, length: u64::MAX - (u64::MAX % PAGE) };
        // A version that no chain gives: should this server come back before that is committed, what
        // is still listed must not pass for the block of that version.
        let chain = seat.machine.lock().version();
        let never = BlockVersion { chain, order: Order(u64::MAX) };
        let discarded = self.store.apply(self.hashes(seat.group), &Change::Discard(all), never);
        if let Err(error) = discarded {
            self.refuse(&error);
        }
    }

    /// Confirms fences once nothing of their sessions is under way on a chain that this server heads.
    pub(super) async fn confirm_fences(self: Arc<Self>) {
        let mut heard = self.fenced.subscribe();
        let mut quiet = BTreeSet::new();
        let mut confirmed = 0;
        loop {
            if heard.wait_for(|fences| *fences > confirmed).await.is_err() {
                return;
            }
            // The number first: the list holds at least what it counts.
            let fences = *self.fenced.borrow();
            let sessions: Vec<Fence> = self
                .fences
                .read()
                .iter()
                .filter(|fence| !quiet.contains(*fence))
                .copied()
                .collect();
            while !self.are_quiet(&sessions) {
                self.world.clock.sleep(LOOK).await;
            }
            quiet.extend(sessions);
            self.confirmed.store(fences, SeqCst);
            loop {
                let deadline = self.world.clock.now() + ANSWER;
                let (server, start) = (self.config.server, self.incarnation());
                match self.link.confirm_fences(server, start, fences, deadline).await {
                    Ok(()) => break,
                    Err(
                        LinkError::Unreachable(_)
                        | LinkError::Expired(_)
                        | LinkError::Superseded(_),
                    ) => {
                        if self.authority.lock().stopped.is_some() {
                            return;
                        }
                        self.world.clock.sleep(PAUSE).await;
                    }
                    Err(fatal) => {
                        self.fail(&fatal.to_string());
                        return;
                    }
                }
            }
            confirmed = fences;
        }
    }

    fn are_quiet(&self, sessions: &[Fence]) -> bool {
        let seats: Vec<_> = self.seats.read().values().cloned().collect();
        seats.iter().all(|seat| {
            let mut machine = seat.machine.lock();
            sessions.iter().all(|session| machine.is_quiet(*session))
        })
    }
}
