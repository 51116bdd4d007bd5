//! What is to be done when, in simulated time: earliest first, and what is due at one moment in the order in which it was
//! put down. What it is, and who lets time pass, is not known here.

use std::{collections::BTreeMap, time::Duration};

/// Things to be done.
#[derive(Debug)]
pub(crate) struct Agenda<T> {
    entries: BTreeMap<(Duration, u64), T>,
    put: u64,
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), put: 0 }
    }
}

impl<T> Agenda<T> {
    /// This is to be done then.
    pub(crate) fn put(&mut self, at: Duration, what: T) {
        self.put += 1;
        self.entries.insert((at, self.put), what);
    }

    /// When the first thing is to be done.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.entries.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first thing, and when it is to be done.
    pub(crate) fn pop(&mut self) -> Option<(Duration, T)> {
        self.entries.pop_first().map(|((at, _), what)| (at, what))
    }

    /// Takes the first thing that is to be done by `now`.
    pub(crate) fn due(&mut self, now: Duration) -> Option<T> {
        self.next().filter(|at| *at <= now)?;
        self.pop().map(|(_, what)| what)
    }

    /// Forgets all but these.
    pub(crate) fn retain(&mut self, keep: impl Fn(&T) -> bool) {
        self.entries.retain(|_, what| keep(what));
    }

    /// Takes everything, in order.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        std::mem::take(&mut self.entries).into_values()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::{Agenda, Duration};

    #[test]
    fn what_is_due_at_one_moment_comes_in_the_order_in_which_it_was_put_down() {
        let (soon, later) = (Duration::from_millis(1), Duration::from_millis(2));
        let mut agenda = Agenda::default();
        agenda.put(later, 'c');
        agenda.put(soon, 'a');
        agenda.put(soon, 'b');
        assert_eq!(agenda.next(), Some(soon));
        assert_eq!(
            (agenda.due(soon), agenda.due(soon), agenda.due(soon)),
            (Some('a'), Some('b'), None)
        );
        assert_eq!(agenda.pop(), Some((later, 'c')));
        assert!(agenda.is_empty());
    }
}
