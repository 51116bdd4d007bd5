//! Who gets what: acquires, hints, releases, downgrades, and the waiters.
//!
//! Waiters are served first come, first served: an earlier one bars a later one that conflicts
//! with it, with one exception: a session that holds what the earlier one waits for passes,
//! because it may need more before it can give that up.
//!
//! Nothing here looks at all waiters or at all pieces: what changed names some lines of waiters,
//! and a line is left at the first of it that must go on waiting.

use std::collections::BTreeSet;

use super::{
    Table,
    advisory::Wait,
    pieces::Hold,
    queue::{Line, Waiter},
};
use crate::{
    bug::{Bug, seeded},
    locks::Held,
    message::{Acquire, Ask, Event, Owner, Ticket},
    name::{Grant, Mode, Name, SessionId, Span},
};

fn conflict(one: Mode, other: Mode) -> bool {
    one == Mode::Exclusive || other == Mode::Exclusive
}

/// The modes that conflict with `mode`.
fn against(mode: Mode) -> &'static [Mode] {
    match mode {
        Mode::Shared => &[Mode::Exclusive],
        Mode::Exclusive => &[Mode::Exclusive, Mode::Shared],
    }
}

/// What a holder may keep when somebody wants `mode`.
fn keep(mode: Mode) -> Option<Mode> {
    match mode {
        Mode::Shared => Some(Mode::Shared),
        Mode::Exclusive => None,
    }
}

impl Table {
    /// Does one ask. What it freed is added to `freed`: then [`Table::settle`].
    pub(super) fn ask(&mut self, session: SessionId, ask: Ask, freed: &mut Vec<Span>) {
        match ask {
            Ask::Acquire(acquire) => self.acquire(session, acquire),
            Ask::Hint { ticket, names, mode } => self.hint(session, ticket, names, mode),
            Ask::Cancel(ticket) => {
                // One that goes elsewhere with its group is taken back there.
                let served = |place: &u64| {
                    self.queue.get(*place).is_some_and(|w| self.slots.serves(w.ask.need))
                };
                let place = self.queue.find(session, ticket).filter(served);
                if let Some(waiter) = place.and_then(|place| self.queue.remove(place)) {
                    self.tell(session, || Event::Refused(ticket));
                    freed.push(waiter.ask.need);
                } else {
                    self.cancel_claim(session, ticket);
                }
            }
            Ask::Release(held) => {
                if self.pieces.take(&held, session) {
                    freed.push(held.span);
                }
            }
            Ask::Downgrade(held) => {
                if self.pieces.downgrade(&held, session) {
                    freed.push(held.span);
                }
            }
            Ask::Able => self.able(session),
            Ask::At(..) => {}
            Ask::Seen(grant) => {
                if !seeded(Bug::SeenIgnored) {
                    self.newest = self.newest.max(grant);
                }
            }
            Ask::Claim { ticket, claim, patience } => {
                self.claim(Wait { session, ticket, claim }, patience);
            }
        }
    }

    fn acquire(&mut self, session: SessionId, ask: Acquire) {
        let full = self.pieces.count(session).0 >= Self::MOST_SPANS
            || (ask.wait && self.queue.count(session) >= Self::MOST_WAITS);
        if full {
            self.tell(session, || Event::Full(ask.ticket));
        } else if self.could_go(u64::MAX, &Waiter { session, ask }) {
            self.grant(session, &ask);
        } else if ask.wait {
            self.queue.push(Waiter { session, ask });
            for (holder, span, keep) in self.in_the_way(session, ask.need, ask.mode) {
                self.tell(holder, || Event::Revoke { span, keep });
            }
        } else {
            self.tell(session, || Event::Refused(ask.ticket));
        }
    }

    fn hint(&mut self, session: SessionId, ticket: Ticket, mut names: Vec<Name>, mode: Mode) {
        names.retain(|name| name.0 < u64::MAX);
        names.sort_unstable();
        names.dedup();
        let mut number = None;
        let mut given: Vec<Held> = Vec::new();
        if self.queue.len() == 0 && self.has_room(session, names.len()) {
            // Nobody waits: what nobody holds goes together.
            let (free, others) = self.pieces.divide(&names);
            names = others;
            if !free.is_empty() {
                let grant = *number.insert(self.number(session, mode));
                self.pieces.give_free(&free, Owner { session, mode, grant });
                given.extend(free.into_iter().map(|span| Held { span, mode, grant }));
            }
        }
        for name in names {
            let span = Span::one(name);
            if !self.has_room(session, 1)
                || !self.pieces.free(span, mode, session)
                || self.bar(u64::MAX, session, span, mode).is_some()
            {
                continue;
            }
            let grant = *number.get_or_insert_with(|| self.number(session, mode));
            given.extend(self.pieces.give(span, Owner { session, mode, grant }));
        }
        given.sort_unstable_by_key(|held| held.span.start());
        given.dedup_by(|next, last| {
            let joined = Span::new(last.span.start(), next.span.end());
            let meet = last.span.end() == next.span.start();
            if let Some(joined) = joined.filter(|_| meet) {
                last.span = joined;
            }
            meet
        });
        self.granted(session, ticket, given);
    }

    /// Whether `session` may hold so many spans more.
    fn has_room(&self, session: SessionId, more: usize) -> bool {
        self.pieces.count(session).0 + more as u64 <= Self::MOST_SPANS
    }

    fn grant(&mut self, session: SessionId, ask: &Acquire) {
        let wish = self.slots.clip(ask.need, ask.wish);
        let span = self.clip(ask, self.pieces.room(ask.need, wish));
        let owner = Owner { session, mode: ask.mode, grant: self.number(session, ask.mode) };
        let held = self.pieces.give(span, owner);
        self.granted(session, ask.ticket, held);
    }

    /// The part of `room` around the need that no waiter asked for.
    fn clip(&self, ask: &Acquire, room: Span) -> Span {
        let (mut start, mut end) = (room.start(), room.end());
        if room != ask.need {
            for (other, _) in self.queue.lines(room) {
                if other.start() < ask.need.start() {
                    start = start.max(other.end()).min(ask.need.start());
                }
                if other.end() > ask.need.end() {
                    end = end.min(other.start()).max(ask.need.end());
                }
            }
        }
        Span::new(start, end).unwrap_or(ask.need)
    }

    /// The number of a grant that is being made now.
    fn number(&mut self, session: SessionId, mode: Mode) -> Grant {
        if mode == Mode::Exclusive {
            self.newest.0 += 1;
            if let Some(row) = self.sessions.get_mut(&session) {
                row.newest = self.newest;
            }
        }
        self.newest
    }

    /// Tells the new owner, and at once also what of it is waited for already.
    fn granted(&mut self, session: SessionId, ticket: Ticket, held: Vec<Held>) {
        if !self.listeners.contains(&session) {
            return;
        }
        let mut revokes = self.wanted(session, &held);
        if seeded(Bug::RevokeForgotten) {
            revokes.clear();
        }
        self.tell(session, || Event::Granted { ticket, held });
        for revoke in revokes {
            self.tell(session, || revoke);
        }
    }

    /// What others wait for of `held`: one revocation for each line and mode, by arrival.
    pub(super) fn wanted(&self, session: SessionId, held: &[Held]) -> Vec<Event> {
        let mut wanted = Vec::new();
        for held in held {
            for (need, line) in self.queue.lines(held.span) {
                let Some(span) = need.intersection(held.span) else { continue };
                for &mode in against(held.mode) {
                    if let Some(place) = self.other(line, mode, session, u64::MAX) {
                        wanted.push((place, Event::Revoke { span, keep: keep(mode) }));
                    }
                }
            }
        }
        wanted.sort_by_key(|(place, _)| *place);
        wanted.into_iter().map(|(_, revoke)| revoke).collect()
    }

    /// The first before `place` in `line` who waits in `mode` and is not `session`.
    fn other(&self, line: &Line, mode: Mode, session: SessionId, place: u64) -> Option<u64> {
        let other = |place: &&u64| self.queue.get(**place).is_some_and(|w| w.session != session);
        line.of(mode).range(..place).find(other).copied()
    }

    /// A waiter before `place` that must be served first.
    fn bar(&self, place: u64, session: SessionId, need: Span, mode: Mode) -> Option<u64> {
        self.queue.lines(need).find_map(|(other, line)| {
            against(mode)
                .iter()
                .filter_map(|&theirs| {
                    self.other(line, theirs, session, place)
                        .filter(|_| !self.waits_for(other, theirs, session))
                })
                .min()
        })
    }

    /// Whether whoever wants `need` in `mode` waits for `holder`.
    fn waits_for(&self, need: Span, mode: Mode, holder: SessionId) -> bool {
        self.pieces
            .overlaps(need)
            .any(|(_, hold)| hold.of(holder).is_some_and(|(held, _)| conflict(held, mode)))
    }

    /// Who holds what somebody needs, what of it, and what may stay.
    fn in_the_way(
        &self,
        session: SessionId,
        need: Span,
        mode: Mode,
    ) -> Vec<(SessionId, Span, Option<Mode>)> {
        let mut found: Vec<(SessionId, Span, Option<Mode>)> = Vec::new();
        for (span, hold) in self.pieces.overlaps(need) {
            if !hold.conflicts(session, mode) {
                continue;
            }
            match hold {
                Hold::Exclusive(holder, _) => found.push((*holder, span, keep(mode))),
                Hold::Shared(owners) => found.extend(
                    owners
                        .keys()
                        .filter(|holder| **holder != session)
                        .map(|holder| (*holder, span, keep(mode))),
                ),
            }
        }
        found
    }

    /// Serves the waiters that can be served after `freed` was given back or no longer waited for.
    pub(super) fn settle(&mut self, freed: &[Span]) {
        let mut lines: BTreeSet<Span> = BTreeSet::new();
        for &span in freed {
            lines.extend(self.queue.lines(span).map(|(need, _)| need));
        }
        // By arrival of the first of each line, as far as that can be said.
        let mut order: Vec<(u64, Span)> = lines
            .into_iter()
            .filter_map(|need| self.queue.in_line(need, 0).map(|(place, _)| (place, need)))
            .collect();
        order.sort_unstable();
        for (_, need) in order {
            self.advance(need);
        }
    }

    /// Serves the line for `need` up to the first that cannot go, and whoever may pass that one.
    fn advance(&mut self, need: Span) {
        let mut from = 0;
        while let Some((place, waiter)) = self.queue.in_line(need, from) {
            let waiter = *waiter;
            if !self.serve(place, waiter) {
                self.pass(need, place, waiter);
                return;
            }
            from = place + 1;
        }
    }

    /// Gives a waiter its lock if it can go.
    fn serve(&mut self, place: u64, waiter: Waiter) -> bool {
        let could = self.slots.serves(waiter.ask.need) && self.could_go(place, &waiter);
        if could {
            self.queue.remove(place);
            // So that a shared grant that was waited for can be told from older ones.
            self.newest.0 += u64::from(waiter.ask.mode == Mode::Shared);
            self.grant(waiter.session, &waiter.ask);
            self.encourage(waiter.session, waiter.ask.need);
        }
        could
    }

    /// `session` was just given `need`: if others wait for that, its other waiters now pass them.
    fn encourage(&mut self, session: SessionId, need: Span) {
        if self.queue.count(session) == 0 {
            return;
        }
        let wanted: Vec<Span> = self.queue.lines(need).map(|(other, _)| other).collect();
        if wanted.is_empty() {
            return;
        }
        let places: Vec<(u64, Waiter)> = self
            .queue
            .of(session)
            .filter(|(_, mine)| wanted.iter().any(|other| other.overlaps(mine.ask.need)))
            .map(|(place, mine)| (place, *mine))
            .collect();
        for (place, mine) in places {
            if self.queue.get(place).is_some() {
                self.serve(place, mine);
            }
        }
    }

    /// `stuck`, at `place` of the line for `need`, must wait. Behind it only those can go whom it
    /// does not bar: its own session, whoever it waits for, and the same of whoever bars it.
    fn pass(&mut self, need: Span, place: u64, stuck: Waiter) {
        if self.queue.in_line(need, place + 1).is_none() {
            return;
        }
        let mut may: BTreeSet<SessionId> = BTreeSet::from([stuck.session]);
        may.extend(
            self.pieces.overlaps(need).flat_map(|(_, hold)| hold.owners()).map(|o| o.session),
        );
        let bar = self.bar(place, stuck.session, need, stuck.ask.mode);
        if let Some(earlier) = bar.and_then(|bar| self.queue.get(bar)).copied() {
            may.insert(earlier.session);
            let holders = self.pieces.overlaps(earlier.ask.need);
            may.extend(holders.flat_map(|(_, hold)| hold.owners()).map(|owner| owner.session));
        }
        for session in may {
            let mine: Vec<(u64, Waiter)> = self
                .queue
                .of(session)
                .filter(|(at, mine)| *at > place && mine.ask.need == need)
                .map(|(at, mine)| (at, *mine))
                .collect();
            for (at, waiter) in mine {
                if self.queue.get(at).is_some() {
                    self.serve(at, waiter);
                }
            }
        }
    }

    /// All that `session` is asked to give up, derived anew.
    pub(super) fn revokes_of(&self, session: SessionId) -> Vec<Event> {
        if self.queue.len() == 0 {
            return Vec::new();
        }
        self.wanted(session, &self.pieces.held_by(session))
    }

    /// Whom a waiter waits for: holders in its way.
    pub(super) fn waits_on(&self, waiter: &Waiter) -> Vec<SessionId> {
        let mut on: Vec<SessionId> = self
            .in_the_way(waiter.session, waiter.ask.need, waiter.ask.mode)
            .into_iter()
            .map(|(holder, ..)| holder)
            .collect();
        on.sort_unstable();
        on.dedup();
        on
    }

    /// The live sessions that have been in a waiter's way since the table was at `mark`: they
    /// held what they hold now, and were asked for it. Looks at `most` waiters at the most.
    #[must_use]
    pub fn unanswered(&self, mark: Mark, most: usize) -> BTreeSet<SessionId> {
        let mut found = BTreeSet::new();
        for waiter in self.queue.before(mark.waiter).take(most) {
            // Of a group that is on its way elsewhere nothing can be given back.
            if !self.slots.serves(waiter.ask.need) {
                continue;
            }
            for (_, hold) in self.pieces.overlaps(waiter.ask.need) {
                if !hold.conflicts(waiter.session, waiter.ask.mode) {
                    continue;
                }
                let old =
                    |owner: &Owner| owner.session != waiter.session && owner.grant <= mark.newest;
                let owners = hold.owners().into_iter().filter(old).map(|owner| owner.session);
                found.extend(owners.filter(|session| self.lives(*session)));
            }
        }
        found
    }

    /// Where the table is now: compare later.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark { waiter: self.queue.next(), newest: self.newest }
    }

    /// Whether a waiter could be served now: never so between commands.
    pub(super) fn could_go(&self, place: u64, waiter: &Waiter) -> bool {
        let (session, ask) = (waiter.session, &waiter.ask);
        self.pieces.free(ask.need, ask.mode, session)
            && self.bar(place, session, ask.need, ask.mode).is_none()
    }
}

/// How far a table was at some time.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    /// The place of the next waiter.
    pub waiter: u64,
    /// The newest number of a grant.
    pub newest: Grant,
}
