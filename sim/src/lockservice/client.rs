//! A client in place of a mount: what it has cached under its locks, how it flushes when one is asked for, and how it
//! recovers the dead.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use lockservice::{Grant, Held, Holder, Mode, Name, RecoverError, Recoverer, SessionId, Span};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use world::World;

use super::check::Judge;
use crate::dice::Dice;

/// What a client knows of what its locks protect.
#[derive(Default)]
pub(super) struct Cache {
    values: BTreeMap<Name, u64>,
    /// What of it is not in the store, and under which grant it was written.
    dirty: BTreeMap<Name, Written>,
    /// Names with a write under way.
    flying: BTreeMap<Name, Written>,
    /// Spans that are being given up: nothing in them is used any more.
    gates: BTreeMap<u64, Span>,
    next: u64,
    /// The session is over.
    pub(super) lapsed: bool,
}

/// A value, and the grant under which it was written.
type Written = (u64, Grant);

impl Cache {
    /// What of `span` is dirty, or on its way to the store, and was written under `newest` or an older grant.
    pub(super) fn unsettled(&self, span: Span, newest: Grant) -> Vec<Name> {
        if self.lapsed {
            return Vec::new();
        }
        let all = self.dirty.iter().chain(self.flying.iter());
        all.filter(|(name, (_, grant))| span.contains(**name) && *grant <= newest)
            .map(|(name, _)| *name)
            .collect()
    }

    pub(super) fn is_gated(&self, name: Name) -> bool {
        self.gates.values().any(|span| span.contains(name))
    }

    /// What is there, from the cache or else from the store.
    pub(super) fn read(&mut self, name: Name, store: impl FnOnce() -> u64) -> u64 {
        *self.values.entry(name).or_insert_with(store)
    }

    pub(super) fn write(&mut self, name: Name, value: u64, grant: Grant) {
        self.values.insert(name, value);
        self.dirty.insert(name, (value, grant));
    }

    /// A number that nothing else here has.
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The dirty values of `span` of which no older ones are on their way; they are now.
    fn depart(&mut self, span: Span) -> Vec<(Name, u64)> {
        let ready = |(name, _): &(&Name, &Written)| !self.flying.contains_key(*name);
        let part = self.dirty.range(span.start()..span.end()).filter(ready);
        let part: Vec<(Name, Written)> = part.map(|(&name, &written)| (name, written)).collect();
        self.flying.extend(part.iter().copied());
        part.into_iter().map(|(name, (value, _))| (name, value)).collect()
    }

    fn arrived(&mut self, values: &[(Name, u64)]) {
        for (name, value) in values {
            self.flying.remove(name);
            if self.dirty.get(name).is_some_and(|(dirty, _)| dirty == value) {
                self.dirty.remove(name);
            }
        }
    }

    fn lapse(&mut self) {
        let next = self.next;
        *self = Self { lapsed: true, next, ..Self::default() };
    }
}

/// Keeps the cache in step with the locks of one session.
pub(super) struct Mount {
    pub(super) world: World,
    /// Where writes are on their way.
    pub(super) ether: World,
    pub(super) session: SessionId,
    pub(super) judge: Arc<Mutex<Judge>>,
    pub(super) cache: Arc<Mutex<Cache>>,
    pub(super) dice: Mutex<Dice>,
}

/// How long a write waits for its answer before it is sent again.
const AGAIN: Duration = Duration::from_millis(400);

impl Mount {
    fn way(&self) -> Duration {
        let mut dice = self.dice.lock();
        // Some writes arrive long after they were sent.
        if dice.chance(4) { dice.millis(100, 8_000) } else { dice.millis(0, 6) }
    }

    /// Writes what is dirty in `span`, again and again until that has a known outcome or the session is over.
    pub(super) async fn flush(&self, span: Span) {
        loop {
            let values = self.cache.lock().depart(span);
            if values.is_empty() {
                if self.cache.lock().unsettled(span, Grant(u64::MAX)).is_empty() {
                    return;
                }
                // Another flush has it.
                self.world.clock.sleep(Duration::from_millis(2)).await;
                continue;
            }
            let number = self.cache.lock().fresh();
            loop {
                let (sender, receiver) = oneshot::channel();
                let (ether, judge, session) =
                    (self.ether.clone(), Arc::clone(&self.judge), self.session);
                let (there, back, sent) = (self.way(), self.way(), values.clone());
                self.ether.spawn("write", async move {
                    ether.clock.sleep(there).await;
                    let taken = judge.lock().store.land(session, number, &sent);
                    ether.clock.sleep(back).await;
                    if taken {
                        // The client may have asked again, or be gone.
                        let _ = sender.send(());
                    }
                });
                let deadline = self.world.clock.now() + AGAIN;
                let known = matches!(self.world.until(deadline, receiver).await, Ok(Ok(())));
                if self.cache.lock().lapsed {
                    return;
                }
                if known {
                    break;
                }
            }
            self.cache.lock().arrived(&values);
        }
    }
}

#[async_trait]
impl Holder for Mount {
    async fn revoke(&self, span: Span, keep: Option<Mode>) {
        let gate = {
            let mut cache = self.cache.lock();
            let gate = cache.fresh();
            cache.gates.insert(gate, span);
            gate
        };
        self.flush(span).await;
        let mut cache = self.cache.lock();
        cache.gates.remove(&gate);
        if keep.is_none() {
            cache.values.retain(|name, _| !span.contains(*name));
        }
    }

    fn expired(&self) {
        self.judge.lock().expired(self.session, self.world.clock.now());
        self.cache.lock().lapse();
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the recoverer was fenced itself")]
struct Fenced;

#[async_trait]
impl Recoverer for Mount {
    async fn recover(&self, dead: SessionId, held: Vec<Held>) -> Result<(), RecoverError> {
        let (fence, work) = {
            let mut dice = self.dice.lock();
            (dice.millis(1, 60), dice.millis(1, 900))
        };
        self.world.clock.sleep(fence).await;
        self.judge.lock().store.fence(dead);
        self.judge.lock().replays(dead, self.session);
        self.world.clock.sleep(work).await;
        let mut judge = self.judge.lock();
        let done = judge.store.replay(dead, &held, self.session);
        judge.replayed(dead, self.session);
        if done { Ok(()) } else { Err(RecoverError(Arc::new(Fenced))) }
    }
}

#[cfg(test)]
mod tests {
    use lockservice::{Grant, Name, Span};

    use super::Cache;

    #[test]
    fn what_was_written_under_a_newer_grant_does_not_go_with_an_older_one() {
        // As in seed 1590: while a shared lock is given back its holder is granted the same name exclusively, and
        // writes; the older lock, which the table does not know any more, goes back after that.
        let (name, mut cache) = (Name(1), Cache::default());
        cache.write(name, 7, Grant(291));
        assert_eq!(cache.unsettled(Span::one(name), Grant(290)), []);
        assert_eq!(cache.unsettled(Span::one(name), Grant(291)), [name]);
        assert_eq!(cache.depart(Span::one(name)), [(name, 7)]);
        cache.arrived(&[(name, 6)]);
        assert_eq!(cache.unsettled(Span::one(name), Grant(291)), [name], "it is dirty still");
    }
}
