//! Gates: which locks are on their way out, and who may still use them.
//!
//! A revocation puts a gate on its span. While it is open only reads and writes of files pass;
//! when it is closed, nothing that the revocation takes away does. The clerk still says that the
//! lock is held for a moment after the revocation returned, so a gate stays closed until the clerk
//! has let go, or has handed out a pin, which it does only for a lock that it really has.

use lockservice::{Mode, Name, Span};

/// How far a revocation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Reads and writes pass.
    Open,
    /// Nothing passes.
    Closed,
    /// Nothing passes, and the revocation has returned to the clerk.
    Returned,
}

struct Gate {
    id: u64,
    span: Span,
    keep: Option<Mode>,
    stage: Stage,
    /// A read or write passed since [`Gates::watch`].
    passed: bool,
}

impl Gate {
    fn takes(&self, mode: Mode) -> bool {
        self.keep.is_none_or(|keep| mode > keep)
    }
}

/// All gates of a mount; usually none or a few.
#[derive(Default)]
pub(crate) struct Gates {
    gates: Vec<Gate>,
    next: u64,
    /// Spans of the last revocations that took everything, by number, for loads in flight.
    recent: std::collections::VecDeque<(u64, Span)>,
}

/// Which gates there were at a moment, for [`Gates::clear_since`].
#[derive(Clone)]
pub(crate) struct Seen {
    last: u64,
    /// Those that were up and had not returned: their revocations may go through later.
    up: Vec<u64>,
}

/// Spans that are remembered for loads in flight; a load that is slower than so many revocations
/// is made again.
const RECENT: usize = 128;

impl Gates {
    /// Puts up a gate; returns its number.
    pub(crate) fn open(&mut self, span: Span, keep: Option<Mode>) -> u64 {
        self.next += 1;
        let id = self.next;
        self.gates.push(Gate { id, span, keep, stage: Stage::Open, passed: false });
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((id, span));
        id
    }

    /// Moves gate `id` on.
    pub(crate) fn advance(&mut self, id: u64, stage: Stage) {
        for gate in &mut self.gates {
            if gate.id == id {
                gate.stage = stage;
            }
        }
    }

    /// From now on it is noted whether a read or write passes gate `id`.
    pub(crate) fn watch(&mut self, id: u64) {
        for gate in self.gates.iter_mut().filter(|gate| gate.id == id) {
            gate.passed = false;
        }
    }

    /// A read or write of `name` passes whatever gates are open there.
    pub(crate) fn pass(&mut self, name: Name) {
        for gate in self.gates.iter_mut().filter(|gate| gate.span.contains(name)) {
            gate.passed = true;
        }
    }

    /// Closes gate `id` unless a read or write passed it since [`Gates::watch`]: the kernel has
    /// then filled a page that it had been told to forget. Tells whether it is closed.
    pub(crate) fn close_if_unused(&mut self, id: u64) -> bool {
        let used = self.gates.iter().any(|gate| gate.id == id && gate.passed);
        if !used {
            self.advance(id, Stage::Closed);
        }
        !used
    }

    /// Whether a gate keeps `name` from being used in `mode`; `io` for reads and writes.
    pub(crate) fn shut(&self, name: Name, mode: Mode, io: bool) -> bool {
        self.gates.iter().any(|gate| {
            gate.span.contains(name) && gate.takes(mode) && !(io && gate.stage == Stage::Open)
        })
    }

    /// The clerk gave a pin: `span` is held in `mode`, so gates of the past have no business there.
    pub(crate) fn lift(&mut self, span: Span, mode: Mode) {
        let mut rest = Vec::new();
        self.gates.retain(|gate| {
            let over = gate.stage == Stage::Returned && gate.takes(mode);
            if !over || !gate.span.overlaps(span) {
                return true;
            }
            let left = Span::new(gate.span.start(), span.start().min(gate.span.end()));
            let right = Span::new(span.end().max(gate.span.start()), gate.span.end());
            for span in [left, right].into_iter().flatten() {
                rest.push(Gate { span, ..*gate });
            }
            false
        });
        self.gates.extend(rest);
    }

    /// Takes down the gates that returned and whose lock the clerk has let go, as `held` tells.
    pub(crate) fn sweep(&mut self, mut held: impl FnMut(Span, Mode) -> bool) {
        self.gates.retain(|gate| {
            let least = if gate.keep.is_some() { Mode::Exclusive } else { Mode::Shared };
            gate.stage != Stage::Returned || held(gate.span, least)
        });
    }

    /// Whether any gate is up.
    pub(crate) fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// The gates as they are now.
    pub(crate) fn seen(&self) -> Seen {
        let up = self.gates.iter().filter(|gate| gate.stage != Stage::Returned);
        Seen { last: self.next, up: up.map(|gate| gate.id).collect() }
    }

    fn pending(&self, id: u64) -> bool {
        self.gates.iter().any(|gate| gate.id == id && gate.stage != Stage::Returned)
    }

    /// Whether none of the revocations that were under way at `then` has taken `name` since.
    fn up_since(&self, then: &Seen, name: Name) -> bool {
        let elsewhere = |id| self.recent.iter().any(|(of, s)| *of == id && !s.contains(name));
        then.up.iter().all(|id| self.pending(*id) || elsewhere(*id))
    }

    /// Whether `name` is still ours for whoever finishes what a revocation waits for: no gate there
    /// has returned, and none that came since `then` has gone through.
    pub(crate) fn kept_since(&self, then: &Seen, name: Name) -> bool {
        let returned = |gate: &Gate| {
            gate.stage == Stage::Returned && gate.keep.is_none() && gate.span.contains(name)
        };
        let after = |id| id > then.last && !self.pending(id);
        self.reaches_back(then)
            && !self.gates.iter().any(returned)
            && self.up_since(then, name)
            && !self.recent.iter().any(|(id, span)| after(*id) && span.contains(name))
    }

    /// Whether all gates since `then` are remembered. They are not if `then` is of gates that are gone: when the
    /// lease is lost all state goes, and a load that was under way comes back to new ones.
    fn reaches_back(&self, then: &Seen) -> bool {
        self.next.checked_sub(then.last).is_some_and(|since| since <= RECENT as u64)
    }

    /// Whether no revocation touched `name` since `then`.
    pub(crate) fn clear_since(&self, then: &Seen, name: Name) -> bool {
        self.reaches_back(then)
            && self.up_since(then, name)
            && !self.recent.iter().any(|(id, span)| *id > then.last && span.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(from: u64, to: u64) -> Span {
        Span::new(Name(from), Name(to)).unwrap()
    }

    #[test]
    fn a_gate_lets_reads_and_writes_pass_until_it_closes() {
        let mut gates = Gates::default();
        let id = gates.open(span(10, 20), None);
        assert!(
            gates.shut(Name(10), Mode::Shared, false) && !gates.shut(Name(9), Mode::Shared, false)
        );
        assert!(!gates.shut(Name(10), Mode::Exclusive, true));
        gates.advance(id, Stage::Closed);
        assert!(gates.shut(Name(10), Mode::Shared, true));
    }

    #[test]
    fn a_gate_that_a_read_passed_is_not_closed_before_the_kernel_forgot_again() {
        let mut gates = Gates::default();
        let id = gates.open(span(10, 20), None);
        gates.watch(id);
        gates.pass(Name(12));
        assert!(!gates.close_if_unused(id));
        assert!(!gates.shut(Name(12), Mode::Shared, true));
        gates.watch(id);
        gates.pass(Name(30));
        assert!(gates.close_if_unused(id));
        assert!(gates.shut(Name(12), Mode::Shared, true));
    }

    #[test]
    fn a_downgrade_takes_away_only_the_exclusive_use() {
        let mut gates = Gates::default();
        gates.open(span(10, 20), Some(Mode::Shared));
        assert!(!gates.shut(Name(12), Mode::Shared, false));
        assert!(gates.shut(Name(12), Mode::Exclusive, false));
    }

    #[test]
    fn a_pin_lifts_its_part_of_a_gate_that_returned_and_of_no_other() {
        let mut gates = Gates::default();
        let id = gates.open(span(10, 20), None);
        gates.lift(span(12, 14), Mode::Shared);
        assert!(gates.shut(Name(13), Mode::Shared, false));
        gates.advance(id, Stage::Returned);
        gates.lift(span(12, 14), Mode::Shared);
        assert!(!gates.shut(Name(13), Mode::Shared, false));
        assert!(
            gates.shut(Name(11), Mode::Shared, false) && gates.shut(Name(14), Mode::Shared, false)
        );
        gates.sweep(|span, _| span.contains(Name(11)));
        assert!(
            gates.shut(Name(11), Mode::Shared, false) && !gates.shut(Name(14), Mode::Shared, false)
        );
    }

    #[test]
    fn a_load_that_a_revocation_waits_for_is_kept_until_the_revocation_has_returned() {
        let mut gates = Gates::default();
        let before = gates.seen();
        let id = gates.open(span(5, 6), None);
        gates.advance(id, Stage::Closed);
        assert!(!gates.clear_since(&before, Name(5)) && gates.kept_since(&before, Name(5)));
        assert!(gates.kept_since(&gates.seen(), Name(5)));
        gates.advance(id, Stage::Returned);
        assert!(!gates.kept_since(&before, Name(5)) && !gates.kept_since(&gates.seen(), Name(5)));
        gates.lift(span(5, 6), Mode::Exclusive);
        assert!(!gates.kept_since(&before, Name(5)) && gates.kept_since(&gates.seen(), Name(5)));
    }

    #[test]
    fn a_load_that_outlived_the_lease_is_not_believed() {
        let mut gates = Gates::default();
        gates.open(span(5, 6), None);
        let then = gates.seen();
        // What `Fs::fail` does.
        let gates = Gates::default();
        assert!(!gates.clear_since(&then, Name(9)) && !gates.kept_since(&then, Name(9)));
    }

    #[test]
    fn a_load_in_flight_learns_of_revocations() {
        let mut gates = Gates::default();
        let then = gates.seen();
        assert!(gates.clear_since(&then, Name(5)));
        gates.open(span(5, 6), None);
        assert!(!gates.clear_since(&then, Name(5)) && gates.clear_since(&then, Name(6)));
        for _ in 0..RECENT {
            gates.open(span(100, 101), None);
        }
        assert!(!gates.clear_since(&then, Name(6)));
    }

    #[test]
    fn a_load_that_began_while_a_revocation_was_under_way_is_not_kept_once_it_went_through() {
        let mut gates = Gates::default();
        let id = gates.open(span(5, 6), None);
        let then = gates.seen();
        assert!(gates.clear_since(&then, Name(5)), "a read under an open gate is kept");
        gates.advance(id, Stage::Closed);
        gates.advance(id, Stage::Returned);
        // The lock went to another mount, which changed the disk, and came back.
        gates.lift(span(5, 6), Mode::Exclusive);
        assert!(!gates.shut(Name(5), Mode::Shared, true));
        assert!(!gates.clear_since(&then, Name(5)) && !gates.kept_since(&then, Name(5)));
        assert!(gates.clear_since(&then, Name(7)) && gates.clear_since(&gates.seen(), Name(5)));
    }
}
