//! The clerk as a pure machine: what it holds, what it asked for, what it is asked to give up,
//! what is pinned. Calls and events in, effects out. It has no clock and no socket: leases are the
//! shell's.
//!
//! Asks leave in numbered batches, one batch at a time, so that a release and the acquire behind
//! it can never change places and a repeated batch is recognized.

mod claims;
mod lanes;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use world::Time;

use super::held::Holdings;
use crate::{
    advisory::Claimed,
    bug::{Bug, seeded},
    error::Error,
    group::{self, LockGroup, Shard},
    locks::Held,
    message::{Acquire, Ask, Event, Seq, Ticket},
    name::{Grant, Mode, Name, SessionId, Span},
};

use claims::Claims;
use lanes::{Atlas, Lane, Told};

/// Names a pin.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PinId(pub u64);

/// Names a revocation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RevocationId(pub u64);

/// What the shell must do.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Tell whoever asked.
    Answer(Ticket, Answer),
    /// There is a batch to send.
    Send,
    /// Something changed that a blocked acquire may have waited for.
    Changed,
    /// Call the holder, then [`Machine::revoked`].
    Revoke(RevocationId, Span, Option<Mode>),
    /// Call the recoverer.
    Recover(SessionId, Vec<Held>),
    /// Renew the lease now.
    Renew,
    /// Tell whoever claimed.
    Claimed(Ticket, Result<Claimed, Error>),
    /// The stream of a shard shows the past, or what cannot be judged yet: listen again.
    Stale(Shard),
    /// There are so many shards: talk to all of them.
    Shards(u32),
    /// The session is over.
    Over(Error),
}

/// The answer to a ticket.
#[derive(Clone, PartialEq, Debug)]
pub enum Answer {
    /// It is held, and pinned until [`Machine::unpin`].
    Granted(PinId, Held),
    /// Not free; or, for a need of several names, one was given up while the others were waited
    /// for: then whoever waits asks again.
    Refused,
    /// The session holds or waits for as much as one may.
    Full,
    /// What a hint got is seen by what is held.
    Hinted,
    /// The session is over.
    Over(Error),
}

/// What becomes of a wish for a lock.
#[derive(Debug, PartialEq)]
pub enum Want {
    /// It is held, and pinned until [`Machine::unpin`].
    Have(PinId, Held),
    /// The service was asked.
    Asked(Ticket),
    /// A revocation must end first.
    Revoking,
    /// An earlier question must be answered first.
    Asking,
    /// The names lie in several lock groups, and there are several shards.
    Straddles,
    /// The session is over.
    Over(Error),
}

struct Revocation {
    span: Span,
    keep: Option<Mode>,
    /// What the holder was called for, once it was; what is granted while it is at it stays.
    running: Option<Vec<Held>>,
}

impl Revocation {
    /// Whether it takes all that is held of `span`: one that began may have begun before some of it
    /// was granted.
    fn takes(&self, span: Span, parts: &[Held]) -> bool {
        let called = |part: &Held| {
            self.running.as_ref().is_none_or(|begun| {
                let mut begun = begun.iter();
                begun.any(|b| {
                    b.span.covers(part.span) && (b.mode, b.grant) == (part.mode, part.grant)
                })
            })
        };
        self.span.covers(span) && parts.iter().all(called)
    }
}

struct Question {
    /// `None` for a hint.
    need: Option<Span>,
    /// Of a hint: whom it was asked of.
    shard: Shard,
    names: Vec<Name>,
    mode: Mode,
    /// Nobody waits for the answer, but it is still to come, perhaps as a grant; until then
    /// nothing else may be asked of these names, or a release could meet the wrong grant.
    cancelled: bool,
}

impl Question {
    fn overlaps(&self, span: Span) -> bool {
        self.need.is_some_and(|need| need.overlaps(span))
            || self.names.iter().any(|name| span.contains(*name))
    }
}

/// The state of one clerk.
#[derive(Default)]
pub struct Machine {
    pub(crate) held: Holdings,
    pub(crate) newest: Grant,
    pub(crate) over: Option<Error>,
    /// Nothing more is wanted: the session is about to be closed.
    closing: bool,
    /// The time, as the shell last told it: only to know what has not been used for long.
    pub(crate) now: Time,
    pins: BTreeMap<PinId, Span>,
    revocations: BTreeMap<RevocationId, Revocation>,
    questions: BTreeMap<Ticket, Question>,
    claims: Claims,
    queue: Vec<Ask>,
    lanes: BTreeMap<Shard, Lane>,
    atlas: Atlas,
    next: u64,
}

/// A numbered batch of asks.
pub type Batch = (Seq, Arc<[Ask]>);

/// The most asks of one batch.
const BATCH: usize = 4096;

fn touches(part: &Held, keep: Option<Mode>) -> bool {
    keep.is_none_or(|keep| part.mode > keep)
}

impl Machine {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// The lock that `name` is held under.
    #[must_use]
    pub fn holds(&self, name: Name) -> Option<Held> {
        self.held.get(name)
    }

    /// Whether the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over.is_some()
    }

    /// Somebody wants `need`.
    pub fn want(&mut self, ask: (Span, Span, Mode), wait: bool) -> (Want, Vec<Effect>) {
        let (need, wish, mode) = ask;
        if let Some(error) = &self.over {
            return (Want::Over(error.clone()), Vec::new());
        }
        if self.closing {
            return (Want::Over(Error::Closed), Vec::new());
        }
        if !self.atlas.is_plain() && LockGroup::only(need).is_none() {
            return (Want::Straddles, Vec::new());
        }
        if self.revoking(need) {
            return (Want::Revoking, Vec::new());
        }
        if let Some(held) = self.held.covers(need, mode) {
            self.held.touch(need.start(), self.now);
            return (Want::Have(self.pin(need), held), Vec::new());
        }
        if self.questions.values().any(|question| question.overlaps(need)) {
            return (Want::Asking, Vec::new());
        }
        if mode == Mode::Exclusive {
            let shared: Vec<Span> = self
                .held
                .parts(need)
                .filter(|part| part.mode == Mode::Shared)
                .map(|part| part.span)
                .collect();
            if !shared.is_empty() {
                let mut effects = Vec::new();
                for span in shared {
                    effects.extend(self.revoke(span, None));
                }
                return (Want::Revoking, effects);
            }
        }
        let ticket = Ticket(self.fresh());
        self.questions.insert(
            ticket,
            Question {
                need: Some(need),
                shard: Shard::HOME,
                names: Vec::new(),
                mode,
                cancelled: false,
            },
        );
        let wish = if self.atlas.is_plain() { wish } else { group::clip(need, wish) };
        self.queue.push(Ask::Acquire(Acquire { ticket, need, wish, mode, wait }));
        (Want::Asked(ticket), vec![Effect::Send])
    }

    /// Asks for what is free of `names`, each shard for its own.
    pub fn hint(&mut self, names: &[Name], mode: Mode) -> Vec<Ticket> {
        let mut wanted: Vec<Name> =
            names.iter().copied().filter(|name| name.0 < u64::MAX).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let mut wanted = self.held.missing(wanted);
        wanted.retain(|name| {
            let one = Span::one(*name);
            !self.revoking(one) && !self.questions.values().any(|question| question.overlaps(one))
        });
        if wanted.is_empty() || self.closing || self.over.is_some() {
            return Vec::new();
        }
        let parts = if self.atlas.is_plain() {
            BTreeMap::from([(Shard::HOME, wanted)])
        } else {
            self.by_shard(wanted)
        };
        let mut tickets = Vec::new();
        for (shard, names) in parts {
            let ticket = Ticket(self.fresh());
            self.queue.push(Ask::Hint { ticket, names: names.clone(), mode });
            let question = Question { need: None, shard, names, mode, cancelled: false };
            self.questions.insert(ticket, question);
            tickets.push(ticket);
        }
        tickets
    }

    /// Whoever asked no longer waits.
    pub fn cancel(&mut self, ticket: Ticket) -> Vec<Effect> {
        let Some(question) = self.questions.get_mut(&ticket) else { return Vec::new() };
        question.cancelled = true;
        let hint = question.need.is_none();
        let before = self.queue.len();
        self.queue.retain(|ask| match ask {
            Ask::Acquire(Acquire { ticket: asked, .. }) | Ask::Hint { ticket: asked, .. } => {
                *asked != ticket
            }
            Ask::Cancel(_)
            | Ask::Release(_)
            | Ask::Downgrade(_)
            | Ask::Able
            | Ask::Seen(_)
            | Ask::At(..)
            | Ask::Claim { .. } => true,
        });
        if self.queue.len() < before {
            self.questions.remove(&ticket);
        } else if !hint {
            self.queue.push(Ask::Cancel(ticket));
        }
        vec![Effect::Send, Effect::Changed]
    }

    fn pin(&mut self, span: Span) -> PinId {
        let pin = PinId(self.fresh());
        self.pins.insert(pin, span);
        pin
    }

    /// A pin is dropped.
    pub fn unpin(&mut self, pin: PinId) -> Vec<Effect> {
        self.pins.remove(&pin);
        let mut effects = self.start();
        // A revocation that waits for other pins of its span no longer bars the names of this one:
        // whoever waits for them must look again, or it would sleep until its deadline.
        if self.revocations.values().any(|revocation| revocation.running.is_none()) {
            effects.push(Effect::Changed);
        }
        effects
    }

    /// Whether an acquire of `need` must let a revocation go first. One that still waits for pins
    /// elsewhere in its span does not count: the owner of such a pin may be who is asking.
    fn revoking(&self, need: Span) -> bool {
        self.revocations.values().any(|revocation| {
            revocation.span.overlaps(need) && (revocation.running.is_some() || self.pinned(need))
        })
    }

    /// Whether the holder is just giving up something of `need`.
    fn is_going(&self, need: Span) -> bool {
        let mut running = self.revocations.values().flat_map(|r| r.running.iter().flatten());
        running.any(|part| part.span.overlaps(need)) && !seeded(Bug::GoingIsPinned)
    }

    fn pinned(&self, span: Span) -> bool {
        if seeded(Bug::PinIgnored) {
            return false;
        }
        self.pins.values().any(|pinned| pinned.overlaps(span))
    }

    /// Asks for `span` to be given up, down to `keep`.
    pub fn revoke(&mut self, span: Span, keep: Option<Mode>) -> Vec<Effect> {
        let parts: Vec<Held> = self.held.parts(span).filter(|part| touches(part, keep)).collect();
        let needless = parts.is_empty()
            || self.revocations.values().any(|r| r.keep <= keep && r.takes(span, &parts));
        if needless || self.over.is_some() {
            return Vec::new();
        }
        let id = RevocationId(self.fresh());
        self.revocations.insert(id, Revocation { span, keep, running: None });
        self.start()
    }

    /// Gives up what of `within` has not been used for `idle`; and, when the session holds nearly
    /// `most` spans, what of it has not been used for longest.
    pub fn tidy(&mut self, within: Span, idle: Duration, most: usize) -> Vec<Effect> {
        let mut old = self.held.unused(within, self.now - idle, self.held.len());
        if self.held.len() > most / 10 * 9 {
            old.extend(self.held.unused(within, self.now, self.held.len() - most / 10 * 8));
        }
        let mut effects = Vec::new();
        for span in old {
            if !self.pinned(span) {
                effects.extend(self.revoke(span, None));
            }
        }
        effects
    }

    /// How many revocations are not answered yet.
    pub fn flushing(&self) -> usize {
        self.revocations.len()
    }

    /// Whether something of `span` is still to be given up.
    pub fn giving_up(&self, span: Span) -> bool {
        self.revocations.values().any(|r| r.span.overlaps(span))
    }

    /// Whether an answer is still to come.
    #[cfg(test)]
    pub(crate) fn asking(&self) -> bool {
        !self.questions.is_empty()
    }

    /// A recoverer is there: the service may choose this session.
    pub fn able(&mut self) -> Vec<Effect> {
        self.queue.push(Ask::Able);
        vec![Effect::Send]
    }

    /// From now on nothing is wanted any more, and whoever waits is told so. What is held, or still
    /// comes as an answer, is for the shell to give up.
    pub fn close(&mut self) -> Vec<Effect> {
        self.closing = true;
        let asked: Vec<Ticket> =
            self.questions.iter().filter(|(_, q)| !q.cancelled).map(|(t, _)| *t).collect();
        let mut effects = Vec::new();
        for ticket in asked {
            effects.extend(self.cancel(ticket));
            effects.push(Effect::Answer(ticket, Answer::Over(Error::Closed)));
        }
        effects.extend(self.end_claims(&Error::Closed));
        effects
    }

    /// Whether nothing is held, and nothing more can come.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.held.len() == 0 && self.questions.is_empty()
    }

    /// Starts the revocations that can start.
    fn start(&mut self) -> Vec<Effect> {
        let mut effects = Vec::new();
        let waiting: Vec<RevocationId> = self
            .revocations
            .iter()
            .filter(|(_, r)| r.running.is_none())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            let Some(Revocation { span, keep, .. }) = self.revocations.get(&id) else { continue };
            let (span, keep) = (*span, *keep);
            let mut others = self.revocations.values();
            let busy = others.any(|r| r.running.is_some() && r.span.overlaps(span));
            if busy || self.pinned(span) {
                continue;
            }
            let parts: Vec<Held> =
                self.held.parts(span).filter(|part| touches(part, keep)).collect();
            if parts.is_empty() {
                self.revocations.remove(&id);
                effects.push(Effect::Changed);
            } else if let Some(revocation) = self.revocations.get_mut(&id) {
                revocation.running = Some(parts);
                effects.push(Effect::Revoke(id, span, keep));
            }
        }
        effects
    }

    /// What a revocation that is under way names, and what may stay.
    #[must_use]
    pub fn revoking_span(&self, id: RevocationId) -> Option<(Span, Option<Mode>)> {
        self.revocations.get(&id).map(|revocation| (revocation.span, revocation.keep))
    }

    /// The holder has given up what the revocation asked for.
    pub fn revoked(&mut self, id: RevocationId) -> Vec<Effect> {
        let Some(Revocation { keep, running, .. }) = self.revocations.remove(&id) else {
            return Vec::new();
        };
        for part in running.into_iter().flatten() {
            self.held.change(&part, keep, self.now);
            self.queue.push(match keep {
                None => Ask::Release(part),
                Some(_) => Ask::Downgrade(part),
            });
        }
        let mut effects = vec![Effect::Send, Effect::Changed];
        effects.extend(self.start());
        effects
    }

    /// A shard told something.
    pub fn event(&mut self, shard: Shard, event: Event) -> Vec<Effect> {
        if self.over.is_some() || self.is_unheard(shard, &event) {
            return Vec::new();
        }
        match event {
            Event::Snapshot { seq, newest, view, held, waiting } => {
                let told = Told { held: &held, waiting: &waiting };
                self.snapshot(shard, (seq, newest), view, &told)
            }
            Event::Adopted { group, by, held, waiting } => {
                self.adopted(shard, (group, by), &Told { held: &held, waiting: &waiting })
            }
            Event::Shards(shards) => self.grown(shards),
            Event::Granted { ticket, held } => self.granted(shard, ticket, &held),
            Event::Refused(ticket) => self.refused(ticket, Answer::Refused),
            Event::Full(ticket) => self.refused(ticket, Answer::Full),
            Event::Revoke { span, .. } if !self.atlas.believes(shard, span) => Vec::new(),
            Event::Revoke { span, keep } => self.revoke(span, keep),
            Event::Recover { dead, held } => vec![Effect::Recover(dead, held)],
            Event::Claimed(ticket, claimed) => self.claimed(ticket, claimed),
            Event::Report => vec![Effect::Renew],
            Event::Ended => self.end(Error::Expired),
        }
    }

    fn refused(&mut self, ticket: Ticket, answer: Answer) -> Vec<Effect> {
        let question = self.questions.remove(&ticket);
        match question.filter(|question| !question.cancelled) {
            Some(_) => vec![Effect::Answer(ticket, answer), Effect::Changed],
            None => vec![Effect::Changed],
        }
    }

    fn granted(&mut self, shard: Shard, ticket: Ticket, held: &[Held]) -> Vec<Effect> {
        let needed = self.questions.get(&ticket).and_then(|question| question.need);
        if needed.is_some_and(|need| !self.atlas.believes(shard, need)) {
            // The shard that has the group now says what came of it.
            return Vec::new();
        }
        for held in held.iter().filter(|held| self.atlas.believes(shard, held.span)) {
            self.held.set(*held, self.now);
            if held.mode == Mode::Exclusive {
                self.newest = self.newest.max(held.grant);
            }
        }
        match self.questions.remove(&ticket) {
            Some(question) => self.answer(ticket, &question),
            None => vec![Effect::Changed],
        }
    }

    /// The session is over: everybody is told.
    pub fn end(&mut self, error: Error) -> Vec<Effect> {
        if self.over.is_some() {
            return Vec::new();
        }
        // Of a session that closes, the end is no loss: it holds nothing.
        let error = if self.closing { Error::Closed } else { error };
        self.over = Some(error.clone());
        self.held = Holdings::default();
        self.stop_lanes();
        self.revocations.clear();
        let mut effects: Vec<Effect> = std::mem::take(&mut self.questions)
            .into_iter()
            .filter(|(_, question)| !question.cancelled)
            .map(|(ticket, _)| Effect::Answer(ticket, Answer::Over(error.clone())))
            .collect();
        effects.extend(self.end_claims(&error));
        effects.push(Effect::Changed);
        effects.push(Effect::Over(error));
        effects
    }
}
