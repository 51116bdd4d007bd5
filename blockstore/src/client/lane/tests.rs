//! What a lane remembers and forgets, in single cases and beside a chain that may lose its memory.

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
    let (flagged, _) = memory.issue(bytes(2048, 512, 1));
    memory.ack(two, OLD);
    memory.ack(flagged, OLD);
    assert_eq!(memory.covered(flagged, 2048, acks, OLD), 1024);
    assert!(memory.unflushed_upto(two.0) && !memory.unflushed_upto(one.0));
    assert_eq!(memory.refused(two) + memory.refused(other), 1024);
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

/// A chain of one chunk, and the client's lane, step by step.
struct Story {
    memory: Memory,
    version: ChainVersion,
    intact: ChainVersion,
    /// What is in memory on all members, and what is on their disks.
    volatile: Vec<u8>,
    durable: Vec<u8>,
    /// What the client must read.
    expected: Vec<u8>,
    /// A mutation on its way: the chain has not got it.
    open: Option<(Issue, u64, u64, u8)>,
}

impl Story {
    fn new() -> Self {
        let (volatile, durable, expected) = (vec![0; 24], vec![0; 24], vec![0; 24]);
        let (version, intact, open) = (OLD, OLD, None);
        let memory = Memory { version, intact, ..Memory::default() };
        Self { memory, version, intact, volatile, durable, expected, open }
    }

    fn begin(&mut self, sector: u64, sectors: u64, byte: u8) -> Issue {
        self.memory.issue(bytes(sector * 512, sectors * 512, byte)).0
    }

    fn done(&mut self, issue: Issue, (sector, sectors, byte): (u64, u64, u8), flagged: bool) {
        let (range, acks) = (sector as usize..(sector + sectors) as usize, self.memory.acks());
        self.volatile[range.clone()].fill(byte);
        self.expected[range].fill(byte);
        self.memory.ack(issue, self.version);
        if flagged {
            self.durable.clone_from(&self.volatile);
            self.memory.covered(issue, sector * 512, acks, self.version);
        }
    }

    fn answer(&mut self, refused: bool) {
        let Some((issue, sector, sectors, byte)) = self.open.take() else { return };
        if refused {
            self.memory.refused(issue);
            self.settle();
        } else {
            self.done(issue, (sector, sectors, byte), false);
        }
    }

    fn flush(&mut self) {
        self.answer(false);
        let Some(upto) = self.memory.unflushed() else { return };
        self.durable.clone_from(&self.volatile);
        self.memory.flushed(upto, (self.intact, self.version));
        assert!(!self.memory.unflushed_upto(upto), "a flush that covers everything leaves nothing");
    }

    fn lose_power(&mut self) {
        self.volatile.clone_from(&self.durable);
        self.version.0 += 1;
        self.intact = self.version;
        self.settle();
    }

    /// As a client does before it sends anything under another version.
    fn settle(&mut self) {
        while self.memory.version < self.version {
            let lost = self.memory.lost(self.intact);
            if lost.is_empty() {
                self.memory.version = self.version;
            }
            let again = lost.into_iter().map(|(issue, part)| {
                let Content::Bytes(bytes) = &part.content else { panic!("nothing is discarded") };
                for (sector, byte) in bytes.iter().step_by(512).enumerate() {
                    self.volatile[part.offset as usize / 512 + sector] = *byte;
                }
                (issue, part, self.version)
            });
            let again = again.collect();
            self.memory.rewritten(self.intact, again);
        }
        let open = self.open.map_or(0..0, |(_, from, n, _)| from as usize..(from + n) as usize);
        for sector in (0..24).filter(|sector| !open.contains(sector)) {
            assert_eq!(self.volatile[sector], self.expected[sector], "sector {sector}");
        }
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    #[test]
    fn neither_lost_bytes_stay_lost_nor_replaced_bytes_come_back(
        steps in prop::collection::vec((0..10_u8, 0..16_u64, 1..8_u64), 0..40)
    ) {
        let mut story = Story::new();
        for (number, (kind, sector, sectors)) in steps.into_iter().enumerate() {
            let byte = number as u8 + 1;
            match kind {
                0..4 => {
                    story.answer(false);
                    let issue = story.begin(sector, sectors, byte);
                    story.done(issue, (sector, sectors, byte), kind == 0);
                }
                4 | 5 => {
                    story.answer(false);
                    let issue = story.begin(sector, sectors, byte);
                    story.open = Some((issue, sector, sectors, byte));
                }
                6 => story.answer(true),
                7 => story.flush(),
                8 => story.lose_power(),
                _ => {
                    // A member came back: nothing is lost.
                    story.version.0 += 1;
                    story.settle();
                }
            }
        }
        story.answer(true);
        story.lose_power();
    }
}
