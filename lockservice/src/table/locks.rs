//! Who gets what: acquires, hints, releases, downgrades, and the queue of waiters.
//!
//! Waiters are served first come, first served: an earlier one bars a later one that conflicts
//! with it, with one exception: a session that holds what the earlier one waits for passes,
//! because it may need more before it can give that up.

use super::{Table, Waiter, pieces::Hold};
use crate::{
    locks::Held,
    message::{Acquire, Ask, Event, Owner, Ticket},
    name::{Grant, Mode, Name, SessionId, Span},
};

fn conflict(one: Mode, other: Mode) -> bool {
    one == Mode::Exclusive || other == Mode::Exclusive
}

/// What a holder may keep when somebody wants `mode`.
fn keep(mode: Mode) -> Option<Mode> {
    match mode {
        Mode::Shared => Some(Mode::Shared),
        Mode::Exclusive => None,
    }
}

impl Table {
    /// Does one ask; whether waiters may have become free to go.
    pub(super) fn ask(&mut self, session: SessionId, ask: Ask) -> bool {
        match ask {
            Ask::Acquire(acquire) => {
                self.acquire(session, acquire);
                false
            }
            Ask::Hint { ticket, names, mode } => {
                self.hint(session, ticket, names, mode);
                false
            }
            Ask::Cancel(ticket) => {
                let before = self.waiters.len();
                self.waiters.retain(|_, w| w.session != session || w.ask.ticket != ticket);
                let cancelled = self.waiters.len() < before;
                if cancelled {
                    self.tell(session, || Event::Refused(ticket));
                }
                cancelled
            }
            Ask::Release(held) => self.pieces.take(&held, session),
            Ask::Downgrade(held) => self.pieces.downgrade(&held, session),
        }
    }

    fn acquire(&mut self, session: SessionId, ask: Acquire) {
        let barred = self.barred(u64::MAX, session, ask.need, ask.mode);
        if !barred && self.pieces.free(ask.need, ask.mode, session) {
            self.grant(session, &ask);
        } else if ask.wait {
            self.waiters.insert(self.next_waiter, Waiter { session, ask });
            self.next_waiter += 1;
            for (holder, span, keep) in self.in_the_way(session, ask.need, ask.mode) {
                self.tell(holder, || Event::Revoke { span, keep });
            }
        } else {
            self.tell(session, || Event::Refused(ask.ticket));
        }
    }

    fn hint(&mut self, session: SessionId, ticket: Ticket, mut names: Vec<Name>, mode: Mode) {
        names.sort_unstable();
        names.dedup();
        let mut number = None;
        let mut given: Vec<Held> = Vec::new();
        for name in names {
            if name.0 == u64::MAX {
                continue;
            }
            let span = Span::one(name);
            if !self.pieces.free(span, mode, session) || self.barred(u64::MAX, session, span, mode)
            {
                continue;
            }
            let grant = *number.get_or_insert_with(|| self.number(session, mode));
            for held in self.pieces.give(span, Owner { session, mode, grant }) {
                match given.last_mut() {
                    Some(last) if last.span.end() == held.span.start() => {
                        last.span =
                            Span::new(last.span.start(), held.span.end()).unwrap_or(last.span);
                    }
                    _ => given.push(held),
                }
            }
        }
        self.granted(session, ticket, given);
    }

    fn grant(&mut self, session: SessionId, ask: &Acquire) {
        let span = self.clip(ask, self.pieces.room(ask.need, ask.wish));
        let owner = Owner { session, mode: ask.mode, grant: self.number(session, ask.mode) };
        let held = self.pieces.give(span, owner);
        self.granted(session, ask.ticket, held);
    }

    /// The part of `room` around the need that no waiter asked for.
    fn clip(&self, ask: &Acquire, room: Span) -> Span {
        let (mut start, mut end) = (room.start(), room.end());
        if room != ask.need {
            for waiter in self.waiters.values() {
                let other = waiter.ask.need;
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

    /// Tells the new owner, and at once also who waits for it already.
    fn granted(&mut self, session: SessionId, ticket: Ticket, held: Vec<Held>) {
        let mut revokes = Vec::new();
        for waiter in self.waiters.values().filter(|waiter| waiter.session != session) {
            for held in &held {
                if conflict(waiter.ask.mode, held.mode)
                    && let Some(span) = waiter.ask.need.intersection(held.span)
                {
                    revokes.push(Event::Revoke { span, keep: keep(waiter.ask.mode) });
                }
            }
        }
        self.tell(session, || Event::Granted { ticket, held });
        for revoke in revokes {
            self.tell(session, || revoke);
        }
    }

    /// Whether a waiter before `place` must be served first.
    fn barred(&self, place: u64, session: SessionId, need: Span, mode: Mode) -> bool {
        self.waiters.range(..place).any(|(_, earlier)| {
            earlier.session != session
                && conflict(earlier.ask.mode, mode)
                && earlier.ask.need.overlaps(need)
                && !self.waits_for(&earlier.ask, session)
        })
    }

    fn waits_for(&self, ask: &Acquire, holder: SessionId) -> bool {
        self.pieces
            .overlaps(ask.need)
            .any(|(_, hold)| hold.of(holder).is_some_and(|(mode, _)| conflict(mode, ask.mode)))
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

    /// Serves the waiters that can be served.
    pub(super) fn settle(&mut self) {
        loop {
            let mut served = false;
            let places: Vec<u64> = self.waiters.keys().copied().collect();
            for place in places {
                let Some(waiter) = self.waiters.get(&place) else { continue };
                let (session, ask) = (waiter.session, waiter.ask);
                if self.pieces.free(ask.need, ask.mode, session)
                    && !self.barred(place, session, ask.need, ask.mode)
                {
                    self.waiters.remove(&place);
                    self.grant(session, &ask);
                    served = true;
                }
            }
            if !served {
                return;
            }
        }
    }

    /// All that `session` is asked to give up, derived anew.
    pub(super) fn revokes_of(&self, session: SessionId) -> Vec<Event> {
        let mut events = Vec::new();
        for waiter in self.waiters.values().filter(|waiter| waiter.session != session) {
            let found = self.in_the_way(waiter.session, waiter.ask.need, waiter.ask.mode);
            for (_, span, keep) in found.into_iter().filter(|(holder, ..)| *holder == session) {
                events.push(Event::Revoke { span, keep });
            }
        }
        events
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

    /// Whether a waiter could be served now: never so between commands.
    pub(super) fn could_go(&self, place: u64, waiter: &Waiter) -> bool {
        self.pieces.free(waiter.ask.need, waiter.ask.mode, waiter.session)
            && !self.barred(place, waiter.session, waiter.ask.need, waiter.ask.mode)
    }
}
