//! The invariants of locks, each by its name, and how often each had something to judge.
//!
//! The judge sees what no coordinator and no client sees: all caches, the store, and what every command did. It says what
//! is wrong first.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use lockservice::{
    Clerk, Grant, Held, Locks as _, Mode, SessionId, Shard, Span, Table,
    advisory::{Claim, Claimed},
    message::{Acquire, Ask, Seq},
};
use parking_lot::Mutex;
use world::{Time, World};

use super::{
    claims::{Before, Claims},
    client::Cache,
    history::Histories,
    store::Store,
};

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
/// What is in use stays until it is not.
const PINNED: &str = "pinned locks stay";
/// The number of a grant is past all numbers that the session had seen when it asked.
const NUMBERS: &str = "numbers of grants grow";
/// No two claimants have advisory locks that conflict, counting what each was told last.
const ADVISORY: &str = "advisory locks: no two that conflict";
/// What is given back of an advisory lock stays given back.
const LEFT: &str = "advisory locks: nothing is left";
/// A session that renews ends in the table, or by a refused renewal, and by nothing else.
const ENDS: &str = "sessions end in the table or with their lease";
/// Who waits for a lock of a group that moves waits on, or has got it.
const WAITERS: &str = "waiters move with their group";
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
    batches: BTreeMap<(usize, SessionId), Seq>,
    replaying: BTreeMap<SessionId, BTreeSet<SessionId>>,
    /// Sessions that did not close.
    died: BTreeSet<SessionId>,
    ended: BTreeSet<(Shard, SessionId)>,
    /// Until when each lease was seen to be valid, by the client's clock.
    leases: BTreeMap<SessionId, Time>,
    /// Sessions that were told to end: in a table, or when they renewed.
    refused: BTreeSet<SessionId>,
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
            let until = party.clerk.valid_until();
            if party.world.clock.now() < until {
                let session = party.clerk.session();
                judge.lock().leases.insert(session, until);
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

    /// A session had `need` pinned all along.
    pub(super) fn pinned(&mut self, session: SessionId, need: Span, kept: bool) {
        self.rule(PINNED, kept, || format!("{session:?} lost {need:?} while it was in use"));
    }

    /// A session was given a lock that it had not, under this number; `seen` is what it knew when it asked.
    pub(super) fn numbered(&mut self, session: SessionId, grant: Grant, seen: Grant) {
        self.rule(NUMBERS, grant > seen, || {
            format!("{session:?} had seen {seen:?}, got {grant:?}")
        });
    }

    /// A session is about to send these asks to a shard. When they are sent once more, what they gave back may have been granted
    /// again already.
    pub(super) fn flushed(&mut self, shard: usize, session: SessionId, seq: Seq, asks: &[Ask]) {
        if self.batches.insert((shard, session), seq).is_some_and(|before| before >= seq) {
            return;
        }
        let cache = self.parties.get(&session).map(|party| Arc::clone(&party.cache));
        for ask in asks {
            let (held, keep) = match ask {
                Ask::Release(held) => (held, None),
                Ask::Downgrade(held) => (held, Some(Mode::Shared)),
                _ => continue,
            };
            self.histories.gave_up(session, held.span, keep);
            if let Some(cache) = &cache {
                // What is written under a newer grant of the same names does not go with this one.
                let left = cache.lock().unsettled(held.span, held.grant);
                self.rule(L3, left.is_empty(), || {
                    format!("{session:?} gives {held:?} back with {left:?} not in the store")
                });
            }
        }
    }

    /// A session is about to close.
    pub(super) fn closing(&mut self, session: SessionId) {
        let Some(party) = self.parties.get(&session) else { return };
        let left = party.cache.lock().unsettled(super::work::everything(), Grant(u64::MAX));
        self.rule(L3, left.is_empty(), || format!("{session:?} closes with {left:?}"));
    }

    /// A command took a session out of the table of a shard; its locks there are free from here on.
    pub(super) fn gone(&mut self, shard: Shard, session: SessionId) {
        if !self.ended.insert((shard, session)) {
            return;
        }
        if shard == Shard::HOME {
            self.histories.ended(session);
        } else {
            self.count("sessions that came to their end at another shard");
        }
        if self.died.contains(&session) {
            let (fenced, replayed) =
                (self.store.is_fenced(session), self.store.is_replayed(session));
            self.rule(L4, fenced && replayed, || {
                format!("{session:?} passed on; fenced: {fenced}, replayed: {replayed}")
            });
            if shard == Shard::HOME {
                self.count("sessions recovered");
            }
        }
    }

    /// A session died, or closed: its advisory locks are free.
    pub(super) fn over(&mut self, session: SessionId, died: bool) {
        if died {
            self.died.insert(session);
        }
        self.refused.insert(session);
        self.claims.end(session);
    }

    /// A renewal of it was refused: it ends, also before the table says so.
    pub(super) fn refused(&mut self, session: SessionId) {
        self.refused.insert(session);
        self.count("renewals refused");
    }

    /// A client takes its session for over; `now` by its own clock.
    pub(super) fn expired(&mut self, session: SessionId, now: Time) {
        let until = self.leases.get(&session).copied().unwrap_or_default();
        let right = now >= until || self.refused.contains(&session);
        self.rule(ENDS, right, || format!("{session:?} is over at {now:?}, valid until {until:?}"));
    }

    /// A group was taken over with these waiters.
    pub(super) fn arrived(&mut self, table: &Table, waiters: &[(u64, SessionId, Acquire)]) {
        if waiters.is_empty() {
            return;
        }
        let rows = table.list_locks(&|_| Duration::ZERO, &|_| Duration::ZERO).waiters;
        for (_, session, ask) in waiters.iter().filter(|(_, session, _)| table.lives(*session)) {
            let waits = rows.iter().any(|row| row.session == *session && row.need == ask.need);
            let has = || table.held_by(*session).iter().any(|h| h.span.contains(ask.need.start()));
            self.rule(WAITERS, waits || has(), || format!("{session:?} does not wait for {ask:?}"));
        }
    }

    /// The table has this claim of a client that has no other on its way.
    pub(super) fn has_claim(&mut self, session: SessionId, claim: &Claim) {
        let told = self.claims.has(session, claim);
        self.rule(LEFT, told, || format!("{session:?} does not know that it has {claim:?}"));
    }

    /// Everybody has given back all advisory locks, and nothing is on its way any more.
    pub(super) fn unclaimed(&mut self, table: &Table) {
        let left = table.list_locks(&|_| Duration::ZERO, &|_| Duration::ZERO).claims;
        self.rule(LEFT, left.is_empty(), || format!("{left:?}"));
    }

    /// A session was answered to a claim; `None`: it does not know.
    pub(super) fn claimed(
        &mut self,
        (session, claim): (SessionId, &Claim),
        claimed: Option<&Claimed>,
        before: Before,
    ) {
        let refused = claimed.is_some_and(|claimed| *claimed != Claimed::Done);
        if refused && !self.refused.contains(&session) {
            self.claims.restore(session, claim, before);
        }
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
            None => drop(self.claims.lower(session, &Claim { mode: None, ..*claim })),
        }
    }

    /// `by` begins to replay the log of `dead`.
    pub(super) fn replays(&mut self, dead: SessionId, by: SessionId) {
        if self.store.is_fenced(by) {
            // It was frozen when it was to begin: what it writes now is refused.
            return;
        }
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

#[cfg(test)]
mod tests {
    use lockservice::{
        Grant, Held, Mode, Name, SessionId, Span,
        message::{Ask, Seq},
    };

    use super::Judge;
    use crate::{
        lockservice::history::{JUDGED, Lock},
        wgl::{Verdict, check},
    };

    #[test]
    fn who_was_fenced_before_it_begins_replays_nothing() {
        // As in seed 2789: a recoverer is frozen, dies and is recovered; its successor is at it when it wakes.
        let (dead, late, next, other) = (SessionId(5), SessionId(3), SessionId(6), SessionId(7));
        let mut judge = Judge::default();
        judge.store.fence(late);
        judge.replays(dead, next);
        judge.replays(dead, late);
        assert_eq!(judge.wrong, None);
        judge.replays(dead, other);
        assert!(judge.wrong.is_some_and(|(rule, _)| rule == super::L5));
    }

    #[test]
    fn what_is_granted_while_a_holder_flushes_is_given_up_by_its_release_and_not_by_the_flush() {
        let session = SessionId(1);
        let mut judge = Judge::default();
        let held = |number: u64, grant| {
            let span = Span::one(Name(JUDGED.start + number));
            Held { span, mode: Mode::Exclusive, grant: Grant(grant) }
        };
        let again = |judge: &mut Judge| {
            let called = judge.histories.moment();
            let what = (Name(JUDGED.start), session, Mode::Exclusive);
            judge.histories.acquired(called, what, Some(Grant(6)));
            let verdict = check(&Lock, &judge.histories.locks, 10_000);
            matches!(verdict, Verdict::Linearizable { .. })
        };
        assert!(again(&mut judge));
        // Its holder was called for everything before that was granted, and gives another one back.
        judge.flushed(0, session, Seq(1), &[Ask::Release(held(1, 5))]);
        assert!(again(&mut judge), "it was not given up");
        judge.flushed(0, session, Seq(2), &[Ask::Release(held(0, 6))]);
        assert!(!again(&mut judge), "a grant that was given back is not granted again");
    }
}
