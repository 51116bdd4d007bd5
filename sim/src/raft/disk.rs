//! A disk that keeps what was synced, and of the rest, after a crash, some prefix.
//!
//! One sync runs at a time; what comes meanwhile shares the next. A crash leaves a random prefix of the *parts* of the
//! unsynced jobs, in the order that the room `raft` promises to stand. A checkpoint that arrives is collected beside the
//! one in use.

use std::collections::BTreeMap;

use ::raft::{
    Checkpoint, Chunk, Entry, HardState, Index, MemberId, Persist, Position, Sequence, Stored, Term,
};
use bytes::Bytes;

use crate::dice::Dice;

/// The function that all drivers of a simulated group agree on to digest a checkpoint.
pub(crate) fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |digest, byte| {
        (digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// A checkpoint with its bytes, or with the first of them.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) name: Checkpoint,
    pub(crate) bytes: Bytes,
}

impl Saved {
    fn is_whole(&self) -> bool {
        self.bytes.len() as u64 == self.name.size
    }

    fn is_sound(&self) -> bool {
        self.is_whole() && digest(&self.bytes) == self.name.digest
    }
}

/// One member's disk.
#[derive(Debug, Default)]
pub struct Disk {
    hard: HardState,
    checkpoint: Option<Saved>,
    partial: Option<Saved>,
    /// Consecutive.
    entries: Vec<Entry>,
    votes: BTreeMap<Term, MemberId>,
    /// What the sync that runs will make stable.
    running: Vec<Job>,
    waiting: Vec<Job>,
    /// Bytes of the next chunk to be spoiled on its way to the platter.
    pub(crate) spoil: bool,
}

/// Something to be written and synced.
#[derive(Debug)]
pub(crate) enum Job {
    /// What the node asked for.
    Persist(Persist),
    /// A checkpoint made by the driver.
    Checkpoint(Saved),
}

/// A job that is synced.
pub(crate) enum Done {
    Persisted(Sequence),
    Checkpoint(Checkpoint),
    Damaged(Checkpoint),
}

enum Part {
    Hard(HardState),
    Chunk(Chunk),
    Install(Checkpoint),
    Checkpoint(Saved),
    Truncate(Index),
    Entry(Entry),
}

impl Disk {
    /// Whether this entry would still be there after a loss of power now.
    #[must_use]
    pub fn holds(&self, at: Position) -> bool {
        if self.checkpoint.as_ref().is_some_and(|c| c.name.last.index >= at.index) {
            return true;
        }
        let Some(first) = self.entries.first() else { return false };
        let offset = at.index.0.checked_sub(first.index.0);
        offset.and_then(|o| self.entries.get(o as usize)).is_some_and(|e| e.term == at.term)
    }

    /// The last index that would still be there.
    #[must_use]
    pub fn last(&self) -> Index {
        let checkpoint = self.checkpoint.as_ref().map_or(Index::ZERO, |c| c.name.last.index);
        self.entries.last().map_or(checkpoint, |e| e.index.max(checkpoint))
    }

    /// The stored term.
    #[must_use]
    pub fn term(&self) -> Term {
        self.hard.term
    }

    /// Whether it was replaced by an empty one and what was lost is not made good yet.
    #[must_use]
    pub fn is_emptied(&self) -> bool {
        self.hard.rebuilding
    }

    /// Whether a stored vote of this term was ever for this candidate.
    #[must_use]
    pub fn voted(&self, term: Term, candidate: MemberId) -> bool {
        self.votes.get(&term) == Some(&candidate)
    }

    /// A vote is told. One that no disk ever held stands as well, once a newer term is stored: the
    /// member can never vote in its term again. Says whether it stands.
    pub(crate) fn tell_vote(&mut self, term: Term, candidate: MemberId) -> bool {
        if self.hard.term > term {
            self.votes.entry(term).or_insert(candidate);
        }
        self.voted(term, candidate)
    }

    /// Every vote that reached the disk or stands without that, by term; the newest terms last.
    #[must_use]
    pub fn votes(&self) -> &BTreeMap<Term, MemberId> {
        &self.votes
    }

    /// The checkpoint in use.
    pub(crate) fn checkpoint(&self) -> Option<&Saved> {
        self.checkpoint.as_ref()
    }

    /// What a restarted member finds.
    pub(crate) fn stored(&self) -> Stored {
        let partial = self.partial.as_ref();
        Stored {
            hard: self.hard,
            checkpoint: self.checkpoint.as_ref().map(|c| c.name.clone()),
            partial: partial.map(|p| (p.name.clone(), p.bytes.len() as u64)),
            entries: self.entries.clone(),
        }
    }

    /// The disk is replaced by an empty one; its driver knows that, and that a member was there before.
    pub(crate) fn replace(&mut self) {
        *self = Self {
            hard: HardState { rebuilding: true, ..HardState::default() },
            ..Self::default()
        };
    }

    /// Takes a job.
    pub(crate) fn write(&mut self, job: Job) {
        self.waiting.push(job);
    }

    /// Begins a sync of all that waits; false if one runs or nothing waits.
    pub(crate) fn begin(&mut self) -> bool {
        if self.waiting.is_empty() || !self.running.is_empty() {
            return false;
        }
        self.running = std::mem::take(&mut self.waiting);
        true
    }

    /// The sync that ran is done.
    pub(crate) fn done(&mut self) -> Vec<Done> {
        let mut done = Vec::new();
        for job in std::mem::take(&mut self.running) {
            let report = match &job {
                Job::Persist(persist) => Done::Persisted(persist.sequence),
                Job::Checkpoint(saved) => Done::Checkpoint(saved.name.clone()),
            };
            let collected = matches!(&job, Job::Persist(p) if !p.chunks.is_empty());
            for part in parts(job) {
                self.apply(part);
            }
            let damaged =
                self.partial.as_ref().filter(|p| collected && p.is_whole() && !p.is_sound());
            done.extend(damaged.map(|p| Done::Damaged(p.name.clone())));
            done.push(report);
        }
        done
    }

    /// Entries up to this index can go.
    pub(crate) fn trim(&mut self, to: Index) {
        let keep = self.entries.iter().take_while(|e| e.index <= to).count();
        self.entries.drain(..keep);
    }

    /// Power is lost. True if something unsynced was lost.
    pub(crate) fn crash(&mut self, dice: &mut Dice) -> bool {
        let jobs = self.running.drain(..).chain(self.waiting.drain(..));
        let parts: Vec<Part> = jobs.flat_map(parts).collect();
        let all = parts.len();
        let kept = dice.pick(all + 1);
        for part in parts.into_iter().take(kept) {
            self.apply(part);
        }
        kept < all
    }

    fn apply(&mut self, part: Part) {
        match part {
            Part::Hard(hard) => {
                if let Some(vote) = hard.vote {
                    self.votes.insert(hard.term, vote);
                }
                self.hard = hard;
            }
            Part::Chunk(chunk) => self.collect(chunk),
            Part::Install(checkpoint) => {
                self.checkpoint = self.partial.take().filter(|p| p.name == checkpoint);
                self.entries.clear();
            }
            Part::Checkpoint(saved) => {
                let older = |c: &Saved| c.name.last.index < saved.name.last.index;
                if self.checkpoint.as_ref().is_none_or(older) {
                    self.checkpoint = Some(saved);
                }
            }
            Part::Truncate(from) => {
                let keep = self.entries.iter().take_while(|e| e.index < from).count();
                self.entries.truncate(keep);
            }
            Part::Entry(entry) => self.entries.push(entry),
        }
    }

    fn collect(&mut self, chunk: Chunk) {
        let mut data = chunk.data.to_vec();
        if std::mem::take(&mut self.spoil)
            && let Some(byte) = data.last_mut()
        {
            *byte ^= 0x40;
        }
        if chunk.offset == 0 {
            self.partial = Some(Saved { name: chunk.checkpoint, bytes: data.into() });
        } else if let Some(partial) = &mut self.partial
            && partial.name == chunk.checkpoint
            && partial.bytes.len() as u64 == chunk.offset
        {
            partial.bytes = [&partial.bytes[..], &data[..]].concat().into();
        } else {
            // A node that asks for this has lost track: what it collected is spoiled, and the digest will say so.
            self.partial = None;
        }
    }
}

fn parts(job: Job) -> Vec<Part> {
    match job {
        Job::Checkpoint(checkpoint) => vec![Part::Checkpoint(checkpoint)],
        Job::Persist(persist) => {
            let mut parts: Vec<Part> = persist.hard.map(Part::Hard).into_iter().collect();
            parts.extend(persist.chunks.into_iter().map(Part::Chunk));
            parts.extend(persist.checkpoint.map(Part::Install));
            parts.extend(persist.truncate.map(Part::Truncate));
            parts.extend(persist.entries.into_iter().map(Part::Entry));
            parts
        }
    }
}
