//! Histories of grants and of registry operations, and the sequential objects that they are judged by.
//!
//! Moments are counted in the order in which things were seen, so that two are never equal. What a session was given by
//! the way (a wish, a hint) is not in a history; so the names whose grants are judged are only ever asked for one by one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use lockservice::{Grant, Mode, Name, SessionId, Span};

use super::work::name;
use crate::wgl::{Model, Operation, Outcome};

/// The names whose grants are judged.
pub(super) const JUDGED: std::ops::Range<u64> = 20..23;

/// What happens to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Acquire(Mode),
    /// Give it up, or keep it shared.
    GiveUp(Option<Mode>),
    /// The session is gone from the table.
    End,
}

/// A lock: who holds it, and the newest number.
pub(super) struct Lock;

type Hold = (Mode, Option<Grant>);

impl Model for Lock {
    type Key = u64;
    type State = (BTreeMap<SessionId, Hold>, Grant);
    type Input = (u64, SessionId, Deed);
    type Output = Grant;

    fn key(&self, input: &Self::Input) -> u64 {
        input.0
    }

    fn initial(&self, _: &u64) -> Self::State {
        Self::State::default()
    }

    fn observes(&self, _: &Self::Input, _: &Grant) -> bool {
        false
    }

    fn step(
        &self,
        (holds, newest): &Self::State,
        &(_, session, deed): &Self::Input,
        output: Option<&Grant>,
    ) -> Option<Self::State> {
        let (mut holds, mut newest) = (holds.clone(), *newest);
        match deed {
            Deed::End => {
                holds.remove(&session);
            }
            Deed::GiveUp(None) => {
                holds.remove(&session);
            }
            Deed::GiveUp(Some(mode)) => {
                if let Some(hold) = holds.get_mut(&session) {
                    *hold = (mode, None);
                }
            }
            Deed::Acquire(mode) => {
                let own = holds.get(&session).copied();
                let enough = own.filter(|(held, _)| *held >= mode);
                if let Some((Mode::Exclusive, Some(known))) = enough {
                    return output.is_none_or(|grant| *grant == known).then_some((holds, newest));
                }
                let others = holds.iter().filter(|(other, _)| **other != session);
                let mut others = others.map(|(_, (held, _))| *held);
                if others.any(|held| [held, mode].contains(&Mode::Exclusive)) {
                    return None;
                }
                let mode = enough.map_or(mode, |(held, _)| held);
                if let Some(&grant) = output.filter(|_| mode == Mode::Exclusive) {
                    if grant <= newest {
                        return None;
                    }
                    newest = grant;
                }
                let number = output.copied().filter(|_| mode == Mode::Exclusive);
                holds.insert(session, (mode, number));
            }
        }
        Some((holds, newest))
    }
}

/// What is asked of a node of the registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Create(Bytes),
    Set(Bytes, Option<u64>),
    Delete(Option<u64>),
    /// After a sync.
    Get,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Done,
    Version(u64),
    Exists,
    NoNode,
    /// It has another version.
    Other(u64),
    Node(u64, Bytes),
}

/// A node of the registry: its version and its data.
pub(super) struct Node;

impl Model for Node {
    type Key = u64;
    type State = Option<(u64, Bytes)>;
    type Input = (u64, Ask);
    type Output = Told;

    fn key(&self, input: &Self::Input) -> u64 {
        input.0
    }

    fn initial(&self, _: &u64) -> Self::State {
        None
    }

    fn observes(&self, input: &Self::Input, told: &Told) -> bool {
        input.1 == Ask::Get || matches!(told, Told::Exists | Told::NoNode | Told::Other(_))
    }

    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Told>,
    ) -> Option<Self::State> {
        let (next, right) = match (&input.1, state) {
            (Ask::Create(data), None) => (Some((0, data.clone())), Told::Done),
            (Ask::Create(_), Some(_)) => (state.clone(), Told::Exists),
            (_, None) => (None, Told::NoNode),
            (Ask::Get, Some((version, data))) => {
                (state.clone(), Told::Node(*version, data.clone()))
            }
            (Ask::Set(_, Some(wanted)) | Ask::Delete(Some(wanted)), Some((version, _)))
                if wanted != version =>
            {
                (state.clone(), Told::Other(*version))
            }
            (Ask::Set(data, _), Some((version, _))) => {
                (Some((version + 1, data.clone())), Told::Version(version + 1))
            }
            (Ask::Delete(_), Some(_)) => (None, Told::Done),
        };
        output.is_none_or(|told| *told == right).then_some(next)
    }
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Histories {
    pub(super) locks: Vec<Operation<(u64, SessionId, Deed), Grant>>,
    pub(super) nodes: Vec<Operation<(u64, Ask), Told>>,
    clock: u64,
    /// Who was ever given, or may have been given, a judged lock.
    parties: BTreeSet<SessionId>,
}

impl Histories {
    /// A moment, later than all before.
    pub(super) fn moment(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    /// Somebody asked for a judged lock at `called`, and was given it just now; or was not.
    pub(super) fn acquired(
        &mut self,
        called: u64,
        (name, session, mode): (Name, SessionId, Mode),
        grant: Option<Grant>,
    ) {
        let at = self.moment();
        self.parties.insert(session);
        // What nobody was told of stands in nobody's way here: if it was granted, whatever is got
        // from it later is got as if it were granted then.
        let Some(output) = grant else { return };
        let input = (u64::from(name.index()), session, Deed::Acquire(mode));
        let outcome = Outcome::Returned { at, output };
        self.locks.push(Operation { client: session.0, called, input, outcome });
    }

    /// `session` is about to send that it gives a lock back. It uses nothing of it any more, so for all
    /// that others can see, this is the moment. The end of the holder's flush is not: what was granted
    /// while the flush was under way stays.
    pub(super) fn gave_up(&mut self, session: SessionId, span: Span, keep: Option<Mode>) {
        let gone = |number| [false, true].iter().any(|apart| span.contains(name(*apart, number)));
        self.of(session, gone, Deed::GiveUp(keep));
    }

    /// The session is gone from the table.
    pub(super) fn ended(&mut self, session: SessionId) {
        self.of(session, |_| true, Deed::End);
    }

    fn of(&mut self, session: SessionId, which: impl Fn(u64) -> bool, deed: Deed) {
        if !self.parties.contains(&session) {
            return;
        }
        for name in JUDGED.filter(|name| which(*name)) {
            let called = self.moment();
            let outcome = Outcome::Returned { at: self.moment(), output: Grant(0) };
            let input = (name, session, deed);
            self.locks.push(Operation { client: session.0, called, input, outcome });
        }
    }

    /// A node was asked for something at `called`; it was told just now, or is not known.
    pub(super) fn node(&mut self, called: u64, client: u64, input: (u64, Ask), told: Option<Told>) {
        let at = self.moment();
        let outcome = match told {
            Some(output) => Outcome::Returned { at, output },
            None if input.1 == Ask::Get => return,
            None => Outcome::Unknown { until: None },
        };
        self.nodes.push(Operation { client, called, input, outcome });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wgl::{Verdict, check};

    const NAME: Name = Name(JUDGED.start);

    fn judged(of: &Histories) -> bool {
        matches!(check(&Lock, &of.locks, 10_000), Verdict::Linearizable { .. })
    }

    fn acquire(of: &mut Histories, session: u64, mode: Mode, grant: u64) {
        let called = of.moment();
        of.acquired(called, (NAME, SessionId(session), mode), Some(Grant(grant)));
    }

    #[test]
    fn a_lock_that_two_were_given_is_not_linearizable() {
        for second in [Mode::Exclusive, Mode::Shared] {
            let mut of = Histories::default();
            acquire(&mut of, 1, Mode::Exclusive, 5);
            acquire(&mut of, 2, second, 6);
            assert!(!judged(&of), "{second:?}");
        }
    }

    #[test]
    fn a_lock_passes_on_when_it_was_given_up_or_its_session_ended() {
        let mut of = Histories::default();
        acquire(&mut of, 1, Mode::Exclusive, 5);
        of.gave_up(SessionId(1), Span::one(NAME), None);
        acquire(&mut of, 2, Mode::Exclusive, 6);
        of.ended(SessionId(2));
        acquire(&mut of, 3, Mode::Shared, 6);
        acquire(&mut of, 1, Mode::Shared, 6);
        assert!(judged(&of));
    }

    #[test]
    fn a_number_that_does_not_grow_is_not_linearizable() {
        let mut of = Histories::default();
        acquire(&mut of, 1, Mode::Exclusive, 5);
        of.gave_up(SessionId(1), Span::one(NAME), None);
        acquire(&mut of, 2, Mode::Exclusive, 5);
        assert!(!judged(&of));
    }
}
