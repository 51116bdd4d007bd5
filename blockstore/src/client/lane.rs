//! What a client remembers of one group: mutations without an answer, and those that no flush has
//! covered yet, so that a chain which lost them gets them again, newest bytes only. Without I/O.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, RwLock};

use crate::{
    disk::{CHUNK, PAGE},
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

    /// A mutation was acknowledged under `version`.
    pub(super) fn ack(&mut self, issue: Issue, version: ChainVersion) {
        self.acks += 1;
        let number = self.acks;
        if let Some(kept) = self.kept.get_mut(&issue) {
            kept.ack = Some(Ack { version, number });
        }
    }

    /// A mutation will not be repeated any more; returns its weight.
    pub(super) fn forget(&mut self, issue: Issue) -> u64 {
        self.kept.remove(&issue).map_or(0, |kept| kept.part.weight())
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

    /// Forgets what a flagged write to the chunk at `offset` covered: what lies in that chunk and
    /// was acknowledged, under the same version, before it was sent (`acks`). Returns the weight.
    pub(super) fn covered(&mut self, offset: u64, acks: u64, version: ChainVersion) -> u64 {
        let chunk = offset / CHUNK;
        self.forget_if(|_, part, ack| {
            let inside = part.offset / CHUNK == chunk
                && (part.offset + part.length.max(1) - 1) / CHUNK == chunk;
            inside && ack.number <= acks && ack.version == version
        })
    }

    fn forget_if(&mut self, covered: impl Fn(Issue, &Part, Ack) -> bool) -> u64 {
        let mut weight = 0;
        self.kept.retain(|issue, kept| {
            let forget = kept.ack.is_some_and(|ack| covered(*issue, &kept.part, ack));
            if forget {
                weight += kept.part.weight();
            }
            !forget
        });
        weight
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
            let (start, end) = (kept.part.offset, kept.part.offset + kept.part.length);
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
    /// acknowledged before `version`, since which the chain is intact. Returns the weight before and
    /// after.
    pub(super) fn rewritten(
        &mut self,
        version: ChainVersion,
        parts: Vec<(Issue, Part, ChainVersion)>,
    ) -> (u64, u64) {
        let before = self.forget_if(|_, _, ack| ack.version < version);
        let mut after = 0;
        for (issue, part, version) in parts {
            after += part.weight();
            self.acks += 1;
            let ack = Some(Ack { version, number: self.acks });
            // A piece that was itself a piece before may have the same number as a later one.
            let mut issue = issue;
            while self.kept.contains_key(&issue) {
                issue.1 += 1;
            }
            self.kept.insert(issue, Kept { part, ack });
        }
        (before, after)
    }
}

/// A part in pieces that can be sent: a discard takes whole pages, so what is left of a page that
/// was partly written since becomes zeros.
fn pieces(part: &Part, mut each: impl FnMut(Part)) {
    if part.content != Content::Nothing {
        return each(part.clone());
    }
    let (start, end) = (part.offset, part.offset + part.length);
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop, proptest};

    use super::*;

    fn bytes(offset: u64, length: u64, byte: u8) -> Part {
        let content = Content::Bytes(Bytes::from(vec![byte; length as usize]));
        Part { offset, length, content }
    }

    fn discard(offset: u64, length: u64) -> Part {
        Part { offset, length, content: Content::Nothing }
    }

    const OLD: ChainVersion = ChainVersion(1);
    const NEW: ChainVersion = ChainVersion(2);

    #[test]
    fn the_floor_is_the_lowest_sequence_without_an_answer() {
        let mut memory = Memory::default();
        let (_, one) = memory.issue(bytes(0, 512, 1));
        let (_, two) = memory.issue(bytes(512, 512, 1));
        assert_eq!(memory.floor(), one);
        memory.end(one);
        assert_eq!(memory.floor(), two);
        memory.end(two);
        assert_eq!(memory.floor(), Sequence(3));
    }

    #[test]
    fn a_flush_covers_what_was_acknowledged_under_its_version_and_issued_before_it() {
        let mut memory = Memory::default();
        let (one, _) = memory.issue(bytes(0, 512, 1));
        let (two, _) = memory.issue(bytes(512, 512, 1));
        memory.ack(one, OLD);
        let upto = memory.unflushed().unwrap();
        assert!(memory.unanswered(upto) && !memory.unanswered(one.0));
        let (three, _) = memory.issue(bytes(1024, 512, 1));
        memory.ack(two, NEW);
        memory.ack(three, OLD);
        assert_eq!(memory.flushed(upto, (OLD, OLD)), 512);
        assert_eq!(memory.flushed(upto, (NEW, NEW)), 512);
        assert_eq!(memory.unflushed(), Some(three.0));
    }

    #[test]
    fn a_flagged_write_covers_only_what_was_acknowledged_before_it_was_sent() {
        let mut memory = Memory::default();
        let (one, _) = memory.issue(bytes(0, 512, 1));
        let (two, _) = memory.issue(bytes(512, 512, 1));
        let (other, _) = memory.issue(bytes(CHUNK, 512, 1));
        memory.ack(one, OLD);
        memory.ack(other, OLD);
        let acks = memory.acks();
        memory.ack(two, OLD);
        assert_eq!(memory.covered(0, acks, OLD), 512);
        assert!(memory.unflushed_upto(two.0) && !memory.unflushed_upto(one.0));
        assert_eq!(memory.forget(two) + memory.forget(other), 1024);
    }

    #[test]
    fn what_is_left_of_a_discarded_page_is_written_as_zeros() {
        let mut memory = Memory::default();
        let (one, _) = memory.issue(discard(0, 3 * PAGE));
        let (two, _) = memory.issue(bytes(PAGE + 512, 512, 7));
        memory.ack(one, OLD);
        memory.ack(two, OLD);
        let mut lost: Vec<Part> = memory.lost(NEW).into_iter().map(|(_, part)| part).collect();
        lost.sort_by_key(|part| part.offset);
        let expected = [
            discard(0, PAGE),
            bytes(PAGE, 512, 0),
            bytes(PAGE + 512, 512, 7),
            bytes(PAGE + 1024, PAGE - 1024, 0),
            discard(2 * PAGE, PAGE),
        ];
        assert_eq!(lost, expected);
    }

    #[test]
    fn what_was_written_again_is_kept_under_its_new_version() {
        let mut memory = Memory::default();
        let (one, _) = memory.issue(bytes(0, 1024, 1));
        let (two, _) = memory.issue(bytes(512, 512, 2));
        memory.ack(one, OLD);
        memory.ack(two, OLD);
        let again = memory.lost(NEW);
        let again = again.into_iter().map(|(issue, part)| (issue, part, NEW)).collect();
        assert_eq!(memory.rewritten(NEW, again), (1536, 1024));
        assert!(memory.lost(NEW).is_empty());
        assert_eq!(memory.lost(ChainVersion(3)).len(), 2);
        assert_eq!(memory.flushed(two.0, (OLD, NEW)), 1024);
    }

    proptest! {
        #[test]
        fn writing_again_what_was_lost_restores_the_newest_bytes(
            writes in prop::collection::vec((0..16_u64, 1..8_u64, 0..4_u8), 0..24)
        ) {
            let mut memory = Memory::default();
            let mut expected = vec![0xee_u8; 24 * 512];
            for (number, (sector, sectors, kind)) in writes.into_iter().enumerate() {
                let (offset, length) = (sector * 512, sectors * 512);
                let range = offset as usize..(offset + length) as usize;
                let byte = number as u8 + 1;
                // Kind 0 stays unanswered, so it is not written again by this, nor what it covers.
                let (issue, _) = memory.issue(bytes(offset, length, byte));
                expected[range].fill(if kind == 0 { 0xee } else { byte });
                if kind != 0 {
                    memory.ack(issue, OLD);
                }
            }
            let mut restored = vec![0xee_u8; 24 * 512];
            for (_, part) in memory.lost(NEW) {
                let range = part.offset as usize..(part.offset + part.length) as usize;
                let Content::Bytes(bytes) = part.content else { panic!("no discard was issued") };
                assert!(restored[range.clone()].iter().all(|byte| *byte == 0xee), "disjoint");
                restored[range].copy_from_slice(&bytes);
            }
            assert_eq!(restored, expected);
        }
    }
}
