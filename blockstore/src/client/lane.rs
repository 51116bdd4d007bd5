//! What a client remembers of one group: mutations without an answer, and those that no flush has
//! covered yet, so that a chain which lost them gets them again, newest bytes only. Without I/O.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock};

use crate::{
    disk::{CHUNK, PAGE},
    error::Error,
    place::{ChainVersion, Group, Sequence, ServerId},
};

/// What a mutation makes of its range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Content {
    /// These bytes.
    Bytes(Bytes),
    /// Zeros without space, in the chunks of the group.
    Nothing,
}

/// A range and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) content: Content,
}

impl Part {
    /// Bytes that remembering it costs.
    pub(super) fn weight(&self) -> u64 {
        match &self.content {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Nothing => 0,
        }
    }

    fn end(&self) -> u64 {
        self.offset + self.length
    }

    /// The piece of it from `start` to `end`.
    fn cut(&self, start: u64, end: u64) -> Self {
        let content = match &self.content {
            Content::Bytes(bytes) => {
                let (from, to) = (start - self.offset, end - self.offset);
                Content::Bytes(bytes.slice(from as usize..to as usize))
            }
            Content::Nothing => Content::Nothing,
        };
        Self { offset: start, length: end - start, content }
    }
}

/// A mutation in the order of issue; a second number tells the pieces of one apart.
pub(super) type Issue = (u64, u32);

/// When a mutation was acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ack {
    version: ChainVersion,
    /// Its place in the order of acknowledgements of the lane.
    number: u64,
}

#[derive(Clone, Debug)]
struct Kept {
    part: Part,
    ack: Option<Ack>,
}

/// The memory of a lane.
#[derive(Default)]
pub(super) struct Memory {
    /// The version under which everything acknowledged here was acknowledged; zero before the first.
    pub(super) version: ChainVersion,
    /// Since when the chain is intact. What was acknowledged before, and is still kept once the lane
    /// is settled, was lost and waits for the answer to a later mutation of the same bytes.
    intact: ChainVersion,
    /// There may be such.
    hidden: bool,
    /// Why acknowledged bytes that the chain lost could not be written again. No flush is good after that.
    pub(super) failed: Option<Error>,
    /// Who was in the way of the last attempt.
    pub(super) trouble: Option<ServerId>,
    kept: BTreeMap<Issue, Kept>,
    waiting: BTreeSet<Sequence>,
    issued: u64,
    sequence: u64,
    acks: u64,
}

/// A group, as this client uses it.
pub(super) struct Lane {
    pub(super) group: Group,
    pub(super) memory: Mutex<Memory>,
    /// Held shared by an attempt, alone by who writes again what the chain may have lost.
    pub(super) gate: RwLock<()>,
    /// A mutation was answered.
    pub(super) answered: Notify,
}

impl Lane {
    pub(super) fn new(group: Group) -> Self {
        Self { group, memory: Mutex::default(), gate: RwLock::new(()), answered: Notify::new() }
    }
}

impl Memory {
    /// A new mutation.
    pub(super) fn issue(&mut self, part: Part) -> (Issue, Sequence) {
        self.issued += 1;
        let issue = (self.issued, 0);
        self.kept.insert(issue, Kept { part, ack: None });
        (issue, self.begin())
    }

    /// A sequence for something to send.
    pub(super) fn begin(&mut self) -> Sequence {
        self.sequence += 1;
        self.waiting.insert(Sequence(self.sequence));
        Sequence(self.sequence)
    }

    /// The lowest sequence without an answer.
    pub(super) fn floor(&self) -> Sequence {
        self.waiting.first().copied().unwrap_or(Sequence(self.sequence + 1))
    }

    /// A sequence has its answer.
    pub(super) fn end(&mut self, sequence: Sequence) {
        self.waiting.remove(&sequence);
    }

    /// How many acknowledgements there were so far.
    pub(super) fn acks(&self) -> u64 {
        self.acks
    }

    /// A mutation was acknowledged under `version`. Returns the weight of what it replaced that was
    /// kept for the case that it is refused.
    pub(super) fn ack(&mut self, issue: Issue, version: ChainVersion) -> u64 {
        self.acks += 1;
        let number = self.acks;
        let Some(kept) = self.kept.get_mut(&issue) else { return 0 };
        kept.ack = Some(Ack { version, number });
        if !self.hidden {
            return 0;
        }
        let mut newer = Ranges::default();
        newer.add(kept.part.offset, kept.part.end());
        let stale = self.stale(self.intact);
        let older = stale.into_iter().filter(|older| *older < issue);
        older.map(|older| self.cut_out(older, &newer)).sum()
    }

    /// A mutation was refused for good; returns its weight. What it was to replace, and what the
    /// chain has lost, is to be written again after all.
    pub(super) fn refused(&mut self, issue: Issue) -> u64 {
        if self.hidden {
            self.version = ChainVersion(0);
        }
        self.kept.remove(&issue).map_or(0, |kept| kept.part.weight())
    }

    /// What was acknowledged before this version.
    fn stale(&self, version: ChainVersion) -> Vec<Issue> {
        let stale = |kept: &Kept| kept.ack.is_some_and(|ack| ack.version < version);
        self.kept.iter().filter(|(_, kept)| stale(kept)).map(|(issue, _)| *issue).collect()
    }

    /// Forgets what a flush under `version` covered: what was issued up to `upto` and acknowledged
    /// under that version, or under one since which the chain has lost nothing. Returns the weight.
    pub(super) fn flushed(
        &mut self,
        upto: u64,
        (intact, version): (ChainVersion, ChainVersion),
    ) -> u64 {
        self.forget_if(|issue, _, ack| {
            issue.0 <= upto && intact <= ack.version && ack.version <= version
        })
    }

    /// Forgets a flagged write that was acknowledged under the version that it was sent under, and
    /// what it covered: what lies in its chunk and was acknowledged, under the same version, before
    /// it was sent (`acks`). Returns the weight.
    pub(super) fn covered(
        &mut self,
        flagged: Issue,
        offset: u64,
        acks: u64,
        version: ChainVersion,
    ) -> u64 {
        let chunk = offset / CHUNK;
        self.forget_if(|issue, part, ack| {
            let inside = part.offset / CHUNK == chunk && (part.end().max(1) - 1) / CHUNK == chunk;
            issue == flagged || (inside && ack.number <= acks && ack.version == version)
        })
    }

    /// Forgets what is on stable storage, and what that replaced: older bytes must not be written
    /// again over it. Returns the weight.
    fn forget_if(&mut self, covered: impl Fn(Issue, &Part, Ack) -> bool) -> u64 {
        let (mut gone, mut left) = (Vec::new(), None);
        for (issue, kept) in &self.kept {
            match kept.ack {
                Some(ack) if covered(*issue, &kept.part, ack) => gone.push(*issue),
                Some(_) => left = left.or(Some(*issue)),
                None => {}
            }
        }
        let mut weight = 0;
        let mut gone: Vec<(Issue, u64, u64)> = gone
            .into_iter()
            .filter_map(|issue| self.kept.remove(&issue).map(|kept| (issue, kept.part)))
            .map(|(issue, part)| {
                weight += part.weight();
                (issue, part.offset, part.end())
            })
            .collect();
        // Mostly all that is older is gone, too.
        let Some(oldest) = left.filter(|left| gone.last().is_some_and(|last| *left < last.0))
        else {
            return weight;
        };
        let acked = self.kept.range(oldest..).filter(|(_, kept)| kept.ack.is_some());
        let older: Vec<Issue> = acked.map(|(issue, _)| *issue).rev().collect();
        let mut newer = Ranges::default();
        for issue in older {
            while let Some((_, start, end)) = gone.pop_if(|(later, ..)| *later > issue) {
                newer.add(start, end);
            }
            weight += self.cut_out(issue, &newer);
        }
        weight
    }

    /// Keeps of a mutation only what is not in `newer`; returns the weight of the rest.
    fn cut_out(&mut self, issue: Issue, newer: &Ranges) -> u64 {
        let Some(Kept { part, ack }) = self.kept.remove(&issue) else { return 0 };
        let mut left = 0;
        for (start, end) in newer.gaps(part.offset, part.end()) {
            let piece = part.cut(start, end);
            left += piece.weight();
            self.keep(issue, piece, ack);
        }
        part.weight() - left
    }

    /// Keeps a piece of a mutation.
    fn keep(&mut self, mut issue: Issue, part: Part, ack: Option<Ack>) {
        // A piece that was itself a piece before may have the same number as a later one.
        while self.kept.contains_key(&issue) {
            issue.1 += 1;
        }
        self.kept.insert(issue, Kept { part, ack });
    }

    /// The last mutation issued, if any is not flushed.
    pub(super) fn unflushed(&self) -> Option<u64> {
        self.kept.last_key_value().map(|((issue, _), _)| *issue)
    }

    /// Whether a mutation issued up to `upto` is not flushed.
    pub(super) fn unflushed_upto(&self, upto: u64) -> bool {
        self.kept.first_key_value().is_some_and(|((issue, _), _)| *issue <= upto)
    }

    /// Whether a mutation up to `upto` has no answer yet.
    pub(super) fn unanswered(&self, upto: u64) -> bool {
        self.kept.range(..=(upto, u32::MAX)).any(|(_, kept)| kept.ack.is_none())
    }

    /// What a chain that is intact since `version` may have lost: the newest bytes of everything
    /// acknowledged under an older one; disjoint. What a later mutation changed, or is about to change, is not in it.
    pub(super) fn lost(&self, version: ChainVersion) -> Vec<(Issue, Part)> {
        let (mut lost, mut newer) = (Vec::new(), Ranges::default());
        for ((issue, _), kept) in self.kept.iter().rev() {
            let (start, end) = (kept.part.offset, kept.part.end());
            if kept.ack.is_some_and(|ack| ack.version < version) {
                for (start, end) in newer.gaps(start, end) {
                    pieces(&kept.part.cut(start, end), |part| lost.push((*issue, part)));
                }
            }
            newer.add(start, end);
        }
        let mut number = BTreeMap::new();
        lost.into_iter()
            .map(|(issue, part)| {
                let next = number.entry(issue).or_insert(0_u32);
                *next += 1;
                ((issue, *next), part)
            })
            .collect()
    }

    /// Puts what was written again, and the version that acknowledged it, in the place of what was
    /// acknowledged before `version`, since which the chain is intact. What a mutation without an
    /// answer is about to replace stays, in case that one is refused. Returns the weight before and
    /// after.
    pub(super) fn rewritten(
        &mut self,
        version: ChainVersion,
        parts: Vec<(Issue, Part, ChainVersion)>,
    ) -> (u64, u64) {
        self.intact = self.intact.max(version);
        let hidden = self.under_unanswered(version);
        self.hidden = !hidden.is_empty();
        let (mut before, mut after) = (0, 0);
        for issue in self.stale(version) {
            before += self.kept.remove(&issue).map_or(0, |kept| kept.part.weight());
        }
        for (issue, part, ack) in hidden {
            after += part.weight();
            self.keep(issue, part, Some(ack));
        }
        for (issue, part, version) in parts {
            after += part.weight();
            self.acks += 1;
            self.keep(issue, part, Some(Ack { version, number: self.acks }));
        }
        (before, after)
    }

    /// The bytes acknowledged before `version` that only mutations without an answer replace.
    fn under_unanswered(&self, version: ChainVersion) -> Vec<(Issue, Part, Ack)> {
        let (mut answered, mut open) = (Ranges::default(), Ranges::default());
        let mut under = Vec::new();
        for (issue, Kept { part, ack }) in self.kept.iter().rev() {
            let (start, end) = (part.offset, part.end());
            let Some(ack) = ack else {
                open.add(start, end);
                continue;
            };
            if ack.version < version {
                let left = answered.gaps(start, end);
                for (start, end) in
                    left.into_iter().flat_map(|(start, end)| open.common(start, end))
                {
                    under.push((*issue, part.cut(start, end), *ack));
                }
            }
            answered.add(start, end);
        }
        under
    }
}

/// A part in pieces that can be sent: a discard takes whole pages, so what is left of a page that
/// was partly written since becomes zeros.
fn pieces(part: &Part, mut each: impl FnMut(Part)) {
    if part.content != Content::Nothing {
        return each(part.clone());
    }
    let (start, end) = (part.offset, part.end());
    let (first, last) = (start.next_multiple_of(PAGE).min(end), end / PAGE * PAGE);
    let last = last.max(first);
    let zeros = |start: u64, end: u64| Part {
        offset: start,
        length: end - start,
        content: Content::Bytes(Bytes::from(vec![0; (end - start) as usize])),
    };
    if start < first {
        each(zeros(start, first));
    }
    if first < last {
        each(part.cut(first, last));
    }
    if last < end {
        each(zeros(last, end));
    }
}

/// A set of bytes as disjoint ranges.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn add(&mut self, mut start: u64, mut end: u64) {
        while let Some((&from, &to)) = self.0.range(..=end).next_back() {
            if to < start {
                break;
            }
            start = start.min(from);
            end = end.max(to);
            self.0.remove(&from);
        }
        self.0.insert(start, end);
    }

    /// What of `start..end` is not in the set.
    fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let (mut gaps, mut at) = (Vec::new(), start);
        let first = self.0.range(..=start).next_back().map_or(start, |(from, _)| *from);
        for (&from, &to) in self.0.range(first..end) {
            if from > at {
                gaps.push((at, from));
            }
            at = at.max(to);
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }

    /// What of `start..end` is in the set.
    fn common(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let (mut common, mut at) = (Vec::new(), start);
        for (from, to) in self.gaps(start, end).into_iter().chain([(end, end)]) {
            if from > at {
                common.push((at, from));
            }
            at = to;
        }
        common
    }
}

#[cfg(test)]
mod tests;
