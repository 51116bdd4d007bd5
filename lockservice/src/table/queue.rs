//! Who waits: by arrival, by session and by need, so that nothing ever looks at all waiters.
//!
//! Waiters with the very same need stand in one *line*. Lines are found by their place among the
//! names: those of a length between two powers of two form a class, and within a class every line
//! that touches a span begins at most one class length before it. It knows no holder.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    message::{Acquire, Ticket},
    name::{Mode, Name, SessionId, Span},
};

/// Who waits for what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Waiter {
    pub(crate) session: SessionId,
    pub(crate) ask: Acquire,
}

/// The waiters with one need, by arrival.
#[derive(Default)]
pub(crate) struct Line {
    shared: BTreeSet<u64>,
    exclusive: BTreeSet<u64>,
}

impl Line {
    /// Those who wait in `mode`, by arrival.
    pub(crate) fn of(&self, mode: Mode) -> &BTreeSet<u64> {
        match mode {
            Mode::Shared => &self.shared,
            Mode::Exclusive => &self.exclusive,
        }
    }

    fn of_mut(&mut self, mode: Mode) -> &mut BTreeSet<u64> {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }

    /// The first at or after `place`.
    fn next(&self, place: u64) -> Option<u64> {
        let shared = self.shared.range(place..).next();
        let exclusive = self.exclusive.range(place..).next();
        shared.into_iter().chain(exclusive).min().copied()
    }

    fn is_empty(&self) -> bool {
        self.shared.is_empty() && self.exclusive.is_empty()
    }
}

/// All waiters.
#[derive(Default)]
pub(crate) struct Queue {
    next: u64,
    waiters: BTreeMap<u64, Waiter>,
    sessions: BTreeSet<(SessionId, u64)>,
    counts: BTreeMap<SessionId, usize>,
    lines: BTreeMap<u32, BTreeMap<(Name, Name), Line>>,
}

/// Lengths up to `2^class` belong to class `class` or below.
fn class(need: Span) -> u32 {
    u64::BITS - (need.end().0 - need.start().0 - 1).leading_zeros()
}

impl Queue {
    /// The place that the next one gets.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// As a checkpoint says.
    pub(crate) fn set_next(&mut self, next: u64) {
        self.next = next;
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn push(&mut self, waiter: Waiter) -> u64 {
        let place = self.next;
        self.next += 1;
        self.insert(place, waiter);
        place
    }

    /// Puts a waiter of a checkpoint at its place.
    pub(crate) fn insert(&mut self, place: u64, waiter: Waiter) {
        let need = waiter.ask.need;
        let lines = self.lines.entry(class(need)).or_default();
        let line = lines.entry((need.start(), need.end())).or_default();
        line.of_mut(waiter.ask.mode).insert(place);
        self.sessions.insert((waiter.session, place));
        *self.counts.entry(waiter.session).or_default() += 1;
        self.waiters.insert(place, waiter);
    }

    pub(crate) fn remove(&mut self, place: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&place)?;
        self.sessions.remove(&(waiter.session, place));
        if let Some(count) = self.counts.get_mut(&waiter.session) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&waiter.session);
            }
        }
        let need = waiter.ask.need;
        let lines = self.lines.get_mut(&class(need))?;
        if let Some(line) = lines.get_mut(&(need.start(), need.end())) {
            line.of_mut(waiter.ask.mode).remove(&place);
            if line.is_empty() {
                lines.remove(&(need.start(), need.end()));
            }
        }
        if lines.is_empty() {
            self.lines.remove(&class(need));
        }
        Some(waiter)
    }

    pub(crate) fn get(&self, place: u64) -> Option<&Waiter> {
        self.waiters.get(&place)
    }

    /// All, by arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, &Waiter)> {
        self.waiters.iter().map(|(&place, waiter)| (place, waiter))
    }

    /// Those who came before `place`, by arrival.
    pub(crate) fn before(&self, place: u64) -> impl Iterator<Item = &Waiter> {
        self.waiters.range(..place).map(|(_, waiter)| waiter)
    }

    /// Those of `session`, by arrival.
    pub(crate) fn of(&self, session: SessionId) -> impl Iterator<Item = (u64, &Waiter)> {
        self.sessions
            .range((session, 0)..=(session, u64::MAX))
            .filter_map(|&(_, place)| self.waiters.get(&place).map(|waiter| (place, waiter)))
    }

    /// How many of `session` there are.
    pub(crate) fn count(&self, session: SessionId) -> usize {
        self.counts.get(&session).copied().unwrap_or_default()
    }

    /// The one with the given ticket.
    pub(crate) fn find(&self, session: SessionId, ticket: Ticket) -> Option<u64> {
        self.of(session).find(|(_, waiter)| waiter.ask.ticket == ticket).map(|(place, _)| place)
    }

    /// The lines whose need has a name in `within`.
    pub(crate) fn lines(&self, within: Span) -> impl Iterator<Item = (Span, &Line)> {
        self.lines.iter().flat_map(move |(&class, lines)| {
            let longest = 1_u64.checked_shl(class).unwrap_or(u64::MAX);
            let from = Name(within.start().0.saturating_sub(longest));
            lines.range((from, Name(0))..(within.end(), Name(0))).filter_map(
                move |(&(start, end), line)| {
                    Span::new(start, end).filter(|need| need.overlaps(within)).map(|n| (n, line))
                },
            )
        })
    }

    /// Who stands in the line for `need`, first at or after `place`.
    pub(crate) fn in_line(&self, need: Span, place: u64) -> Option<(u64, &Waiter)> {
        let line = self.lines.get(&class(need))?.get(&(need.start(), need.end()))?;
        let place = line.next(place)?;
        self.waiters.get(&place).map(|waiter| (place, waiter))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Queue, Waiter, class};
    use crate::{
        Mode, Name, SessionId, Span,
        message::{Acquire, Ticket},
    };

    fn span(start: u64, end: u64) -> Span {
        Span::new(Name(start), Name(end)).unwrap()
    }

    fn waiter(need: Span, mode: Mode) -> Waiter {
        let ask = Acquire { ticket: Ticket(0), need, wish: need, mode, wait: true };
        Waiter { session: SessionId(1), ask }
    }

    #[test]
    fn a_class_holds_the_lengths_up_to_its_power_of_two() {
        for (len, expected) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (u64::MAX, 64)] {
            assert_eq!(class(span(0, len)), expected, "{len}");
        }
    }

    proptest! {
        #[test]
        fn the_lines_that_touch_a_span_are_those_that_a_look_at_all_would_find(
            needs in prop::collection::vec((0..200_u64, 1..90_u64), 0..60),
            gone in prop::collection::vec(0..60_u64, 0..20),
            (start, len) in (0..250_u64, 1..120_u64),
        ) {
            let mut queue = Queue::default();
            for (start, len) in &needs {
                queue.push(waiter(span(*start, start + len), Mode::Shared));
            }
            for place in gone {
                queue.remove(place);
            }
            let within = span(start, start + len);
            let mut found: Vec<Span> = queue.lines(within).map(|(need, _)| need).collect();
            found.sort();
            let mut expected: Vec<Span> =
                queue.iter().map(|(_, w)| w.ask.need).filter(|n| n.overlaps(within)).collect();
            expected.sort();
            expected.dedup();
            prop_assert_eq!(found, expected);
        }
    }
}
