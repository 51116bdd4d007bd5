//! The invariants of locks, each by its name, and how often each had something to judge.
//!
//! The judge sees what no coordinator and no client sees: all caches, the store, and what every command did. It says what
//! is wrong first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lockservice::{
    Clerk, Held, Locks as _, Mode, SessionId, Table,
    advisory::{Claim, Claimed},
    message::{Ask, Seq},
};
use parking_lot::Mutex;
use world::World;

use super::{claims::Claims, client::Cache, history::Histories, store::Store};

/// No two sessions hold conflicting locks, counting each whose lease may be valid by its own clock.
pub(super) const L1: &str = "L1: no two hold conflicting locks";
/// What a lock protects is used only under it and a valid lease, and is then what was last written.
pub(super) const L2: &str = "L2: nothing is used but under a valid lock";
/// Nothing dirty, and no write of unknown outcome, is left under a lock that is given back.
pub(super) const L3: &str = "L3: nothing dirty under a lock that goes";
/// The locks of a dead session pass on only after it was fenced and its log replayed.
pub(super) const L4: &str = "L4: fenced and replayed before locks pass on";
/// One session at a time replays a log, counting those whose writes are not fenced.
pub(super) const L5: &str = "L5: one replays a log at a time";
/// No two claimants have advisory locks that conflict, counting what each was told last.
const ADVISORY: &str = "advisory locks: no two that conflict";
/// The table is what [`Table::check`] demands.
const SOUND: &str = "the table's own rules";

/// A client's session as the judge knows it.
#[derive(Clone)]
pub(super) struct Party {
    pub(super) clerk: Arc<Clerk>,
    pub(super) world: World,
    pub(super) cache: Arc<Mutex<Cache>>,
}

/// Who judges.
#[derive(Default)]
pub(super) struct Judge {
    pub(super) store: Store,
    pub(super) histories: Histories,
    pub(super) claims: Claims,
    /// The sessions of clients that were not killed.
    pub(super) parties: BTreeMap<SessionId, Party>,
    pub(super) wrong: Option<(&'static str, String)>,
    pub(super) judged: BTreeMap<&'static str, u64>,
    pub(super) counts: BTreeMap<&'static str, u64>,
    /// The last batch of each session that was looked at.
    batches: BTreeMap<SessionId, Seq>,
    replaying: BTreeMap<SessionId, BTreeSet<SessionId>>,
    ended: BTreeSet<SessionId>,
    applied: u64,
}

impl Judge {
    fn rule(&mut self, name: &'static str, holds: bool, what: impl FnOnce() -> String) {
        *self.judged.entry(name).or_default() += 1;
        if !holds && self.wrong.is_none() {
            self.wrong = Some((name, what()));
        }
    }

    pub(super) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// L1, now.
    pub(super) fn exclusion(judge: &Mutex<Self>) {
        let parties: Vec<Party> = judge.lock().parties.values().cloned().collect();
        let mut holds: Vec<(SessionId, Held)> = Vec::new();
        for party in &parties {
            if party.world.clock.now() < party.clerk.valid_until() {
                let session = party.clerk.session();
                holds.extend(party.clerk.all_held().into_iter().map(|held| (session, held)));
            }
        }
        holds.sort_by_key(|(_, held)| held.span);
        let mut clash = None;
        for (place, (session, held)) in holds.iter().enumerate() {
            let behind = holds[place + 1..].iter();
            clash = clash.or_else(|| {
                behind.take_while(|(_, other)| other.span.start() < held.span.end()).find(
                    |(by, other)| {
                        let exclusive = [held.mode, other.mode].contains(&Mode::Exclusive);
                        by != session && exclusive
                    },
                )
            });
        }
        judge.lock().rule(L1, clash.is_none(), || format!("{clash:?} clashes in {holds:?}"));
    }

    /// A session uses what it says that it may use; `valid`: by its own clock its lease is.
    pub(super) fn used(&mut self, session: SessionId, valid: bool, seen: u64, truth: u64) {
        let right = valid && seen == truth;
        self.rule(L2, right, || {
            format!("{session:?} sees {seen}, last was {truth}; is its lease valid: {valid}")
        });
    }

    /// A session is about to send these asks. When they are sent once more, what they gave back may have been granted
    /// again already.
    pub(super) fn flushed(&mut self, session: SessionId, seq: Seq, asks: &[Ask]) {
        if self.batches.insert(session, seq).is_some_and(|before| before >= seq) {
            return;
        }
        let Some(party) = self.parties.get(&session) else { return };
        let cache = Arc::clone(&party.cache);
        for ask in asks {
            if let Ask::Release(held) | Ask::Downgrade(held) = ask {
                let left = cache.lock().unsettled(held.span);
                self.rule(L3, left.is_empty(), || {
                    format!("{session:?} gives {held:?} back with {left:?} not in the store")
                });
            }
        }
    }

    /// A session is about to close.
    pub(super) fn closing(&mut self, session: SessionId) {
        let Some(party) = self.parties.get(&session) else { return };
        let left = party.cache.lock().unsettled(super::work::everything());
        self.rule(L3, left.is_empty(), || format!("{session:?} closes with {left:?}"));
    }

    /// A command took a session out of the table; its locks are free from here on.
    pub(super) fn gone(&mut self, session: SessionId, was_dead: bool) {
        if !self.ended.insert(session) {
            return;
        }
        self.histories.ended(session);
        if was_dead {
            let (fenced, replayed) =
                (self.store.is_fenced(session), self.store.is_replayed(session));
            self.rule(L4, fenced && replayed, || {
                format!("{session:?} passed on; fenced: {fenced}, replayed: {replayed}")
            });
            self.count("sessions recovered");
        }
    }

    /// A session died, or closed: its advisory locks are free.
    pub(super) fn over(&mut self, session: SessionId) {
        self.claims.end(session);
    }

    /// A session was answered to a claim; `None`: it does not know.
    pub(super) fn claimed(&mut self, session: SessionId, claim: &Claim, claimed: Option<&Claimed>) {
        match claimed {
            Some(Claimed::Done) => {
                let clash = self.claims.take(session, claim);
                self.rule(ADVISORY, clash.is_none(), || {
                    format!("{claim:?} of {session:?} was granted beside that of {clash:?}")
                });
                self.count("advisory locks claimed and got");
            }
            Some(Claimed::Busy(_)) => self.count("advisory locks in the way"),
            Some(Claimed::Deadlock) => self.count("advisory locks in a circle"),
            Some(Claimed::Cancelled) => self.count("advisory locks not waited for"),
            Some(Claimed::Full) => self.count("advisory locks beyond the limit"),
            // What it gets now is given up in its name.
            None => self.claims.lower(session, &Claim { mode: None, ..*claim }),
        }
    }

    /// `by` begins to replay the log of `dead`.
    pub(super) fn replays(&mut self, dead: SessionId, by: SessionId) {
        let at_it = self.replaying.entry(dead).or_default();
        at_it.insert(by);
        let other =
            at_it.iter().copied().find(|other| *other != by && !self.store.is_fenced(*other));
        self.rule(L5, other.is_none(), || format!("{by:?} and {other:?} replay {dead:?}"));
    }

    /// `by` has replayed the log of `dead`, or gave it up.
    pub(super) fn replayed(&mut self, dead: SessionId, by: SessionId) {
        if let Some(at_it) = self.replaying.get_mut(&dead) {
            at_it.remove(&by);
        }
    }

    /// A replica applied a command; every fourth time all of the table is looked at.
    pub(super) fn sound(&mut self, table: &Table) {
        self.applied += 1;
        if self.applied.is_multiple_of(4) {
            let broken = table.check().err();
            self.rule(SOUND, broken.is_none(), || format!("{broken:?}"));
        }
    }
}
