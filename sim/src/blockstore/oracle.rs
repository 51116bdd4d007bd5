//! What clients did and saw, sector by sector: what a read may not show, and the history for the search for an order.

use std::{collections::BTreeMap, time::Duration};

use crate::wgl::{Model, Operation, Outcome};

pub(super) const ACKNOWLEDGED: &str = "B1 acknowledged writes are on every in-sync replica";
pub(super) const FLUSHED: &str = "B1 flushed writes survive power loss of all";
pub(super) const EQUAL: &str = "B1 replicas are equal at rest";
pub(super) const CHECKSUMS: &str = "B2 no read shows bytes that nobody wrote";
pub(super) const STALE: &str = "B2 no stale strong read";
pub(super) const ACTING: &str = "B3 a lease and the chain's version";
pub(super) const FENCED: &str = "B4 a fenced session changes nothing";
pub(super) const HEADS: &str = "B5 one head";
pub(super) const REGISTER: &str = "B2, B4, B6 one register a sector";

/// A register: the first byte of a sector.
pub(super) type Sector = u64;
/// What a sector holds: zero, or the number of the write.
pub(super) type Value = u64;

/// What was done to a sector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Act {
    Write(Sector, Value),
    Read(Sector),
}

struct Op {
    session: u64,
    act: Act,
    start: Duration,
    /// `None`: nobody knows whether it happened.
    end: Option<Duration>,
    seen: Option<Value>,
    /// If it happened, it was before this.
    limit: Option<Duration>,
    /// It was on stable storage then.
    flushed: bool,
}

/// All that happened.
#[derive(Default)]
pub(super) struct History {
    ops: BTreeMap<Sector, Vec<Op>>,
    fences: BTreeMap<u64, Duration>,
}

/// Names an operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct OpId(Sector, usize);

impl OpId {
    pub(super) fn sector(self) -> Sector {
        self.0
    }
}

/// One register a sector.
pub(super) struct Registers;

impl Model for Registers {
    type Key = Sector;
    type State = Value;
    type Input = Act;
    type Output = Value;

    fn key(&self, input: &Act) -> Sector {
        match input {
            Act::Write(sector, _) | Act::Read(sector) => *sector,
        }
    }

    fn initial(&self, _: &Sector) -> Value {
        0
    }

    fn step(&self, state: &Value, input: &Act, output: Option<&Value>) -> Option<Value> {
        match input {
            Act::Write(_, value) => Some(*value),
            Act::Read(_) => output.is_none_or(|seen| seen == state).then_some(*state),
        }
    }

    fn observes(&self, input: &Act, _: &Value) -> bool {
        matches!(input, Act::Read(_))
    }
}

fn moment(at: Duration) -> u64 {
    u64::try_from(at.as_nanos()).unwrap_or(u64::MAX)
}

impl History {
    pub(super) fn begin(&mut self, session: u64, act: Act, start: Duration) -> OpId {
        let sector = Registers.key(&act);
        let ops = self.ops.entry(sector).or_default();
        ops.push(Op { session, act, start, end: None, seen: None, limit: None, flushed: false });
        OpId(sector, ops.len() - 1)
    }

    fn op(&mut self, id: OpId) -> Option<&mut Op> {
        self.ops.get_mut(&id.0)?.get_mut(id.1)
    }

    /// An operation has its answer; a read has seen this. Says whether a fenced session was answered that had asked only
    /// after its fence.
    pub(super) fn end(&mut self, id: OpId, end: Duration, seen: Option<Value>) -> bool {
        let fences = std::mem::take(&mut self.fences);
        let mut late = false;
        if let Some(op) = self.op(id) {
            op.seen = seen;
            // What a fenced session was told late has happened before its fence, or never.
            let fence = fences.get(&op.session).filter(|_| seen.is_none());
            late = fence.is_some_and(|fence| op.start > *fence);
            op.end = Some(fence.map_or(end, |fence| end.min(*fence)));
        }
        self.fences = fences;
        late
    }

    /// A flush that began then covers what the session had done.
    pub(super) fn flushed(&mut self, session: u64, began: Duration) {
        for op in self.ops.values_mut().flatten() {
            op.flushed |= op.session == session && op.end.is_some_and(|end| end <= began);
        }
    }

    /// This was on stable storage when it was answered.
    pub(super) fn durable(&mut self, id: OpId) {
        if let Some(op) = self.op(id) {
            op.flushed = true;
        }
    }

    /// From now on the session changes nothing.
    pub(super) fn fenced(&mut self, session: u64, now: Duration) {
        self.fences.insert(session, now);
        for op in self.ops.values_mut().flatten().filter(|op| op.session == session) {
            op.limit = op.limit.or(Some(now));
        }
    }

    /// Whether anybody ever wrote this value to the sector. Zeros are there before any write.
    pub(super) fn knows(&self, sector: Sector, value: Value) -> bool {
        let wrote = |op: &Op| op.act == Act::Write(sector, value);
        value == 0 || self.ops.get(&sector).is_some_and(|ops| ops.iter().any(wrote))
    }

    /// Whether `value`, seen in this sector, is older than a write that ended before `since` (and was flushed, if only
    /// those count; and was that session's, if one is named). Says which.
    pub(super) fn is_older(
        &self,
        (sector, value): (Sector, Value),
        since: Duration,
        (flushed, own): (bool, Option<u64>),
    ) -> Option<Value> {
        let ops = self.ops.get(&sector)?;
        // What is on its way takes the place of what was lost before: until it is there, that may show. And whoever
        // is fenced cannot write again what was lost.
        let own = own.filter(|session| {
            let open = |op: &Op| op.session == *session && op.end.is_none_or(|end| end >= since);
            !self.fences.contains_key(session)
                && !ops.iter().any(|op| open(op) && matches!(op.act, Act::Write(..)))
        });
        let writes = || {
            ops.iter().filter_map(|op| match op.act {
                Act::Write(_, value) => Some((value, op)),
                Act::Read(_) => None,
            })
        };
        // Zeros may come from any discard, the last one too.
        let same = writes().filter(|(other, _)| *other == value);
        let last = same.map(|(_, op)| op.end.or(op.limit).unwrap_or(Duration::MAX)).max();
        let last = last.unwrap_or(Duration::ZERO);
        writes()
            .find(|(other, op)| {
                *other != value
                    && op.start > last
                    && op.end.is_some_and(|end| end < since)
                    && (op.flushed || !flushed || own == Some(op.session))
            })
            .map(|(other, _)| other)
    }

    /// Everything, for the search for an order.
    pub(super) fn operations(&self) -> Vec<Operation<Act, Value>> {
        // A read without an answer shows nothing.
        let told = |op: &&Op| op.end.is_some() || matches!(op.act, Act::Write(..));
        let ops = self.ops.values().flatten().filter(told);
        ops.map(|op| Operation {
            client: op.session,
            called: moment(op.start),
            input: op.act,
            outcome: match op.end {
                Some(end) => {
                    Outcome::Returned { at: moment(end), output: op.seen.unwrap_or_default() }
                }
                None => Outcome::Unknown { until: op.limit.map(moment) },
            },
        })
        .collect()
    }

    /// Sectors that anything happened to.
    pub(super) fn sectors(&self) -> Vec<Sector> {
        self.ops.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wgl::{Verdict, check};

    const AT: Sector = 512;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn history(ops: &[(u64, Act, u64, Option<u64>, Option<Value>)]) -> History {
        let mut history = History::default();
        for (session, act, start, end, seen) in ops {
            let id = history.begin(*session, *act, seconds(*start));
            if let Some(end) = end {
                history.end(id, seconds(*end), *seen);
            }
        }
        history
    }

    fn explains(history: &History) -> bool {
        matches!(check(&Registers, &history.operations(), 1000), Verdict::Linearizable { .. })
    }

    #[test]
    fn a_read_of_what_was_overwritten_before_it_began_is_stale() {
        let stale = history(&[
            (1, Act::Write(AT, 1), 0, Some(1), None),
            (1, Act::Write(AT, 2), 2, Some(3), None),
            (2, Act::Read(AT), 4, Some(5), Some(1)),
        ]);
        assert!(!explains(&stale));
        let all = (false, None);
        assert_eq!(stale.is_older((AT, 1), seconds(4), all), Some(2));
        assert_eq!(stale.is_older((AT, 2), seconds(4), all), None);
        assert_eq!(stale.is_older((AT, 1), seconds(4), (true, None)), None, "nothing was flushed");
        assert_eq!(stale.is_older((AT, 1), seconds(4), (true, Some(1))), Some(2));
    }

    #[test]
    fn what_a_fenced_session_left_open_does_not_show_after_the_fence() {
        let mut late = history(&[
            (1, Act::Write(AT, 1), 0, None, None),
            (2, Act::Read(AT), 3, Some(4), Some(0)),
            (2, Act::Read(AT), 5, Some(6), Some(1)),
        ]);
        assert!(explains(&late));
        late.fenced(1, seconds(2));
        assert!(!explains(&late));
    }

    #[test]
    fn a_fenced_session_may_be_told_late_of_what_it_asked_before() {
        let mut history = History::default();
        let before = history.begin(1, Act::Write(AT, 1), seconds(1));
        history.fenced(1, seconds(2));
        let after = history.begin(1, Act::Write(AT, 2), seconds(3));
        assert!(!history.end(before, seconds(4), None));
        assert!(history.end(after, seconds(4), None));
    }
}
