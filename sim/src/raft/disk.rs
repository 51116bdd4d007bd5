//! A disk that keeps what was synced, and of the rest, after a crash, some prefix.
//!
//! One sync runs at a time; what comes meanwhile shares the next. A crash leaves a random prefix of the *parts* of the
//! unsynced jobs, in the order that the room `raft` promises to stand.

use ::raft::{
    Checkpoint, Chunk, Entry, Event, HardState, Index, MemberId, Persist, Position, Sequence,
    Stored,
};
use bytes::Bytes;

use crate::dice::Dice;

/// One member's disk.
#[derive(Debug, Default)]
pub struct Disk {
    hard: HardState,
    checkpoint: Option<(Checkpoint, Bytes)>,
    /// Chunks of a leader's checkpoint.
    partial: Option<(Checkpoint, Vec<u8>)>,
    entries: Vec<Entry>,
    /// What the sync that runs will make stable.
    running: Vec<Job>,
    waiting: Vec<Job>,
}

/// Something to be written and synced.
#[derive(Debug)]
pub(super) enum Job {
    /// What the node asked for.
    Persist(Persist),
    /// A checkpoint made by the driver.
    Checkpoint(Checkpoint, Bytes),
}

/// A job that is synced.
pub(super) enum Done {
    Persisted(Sequence),
    Checkpoint(Checkpoint),
}

enum Part {
    Hard(HardState),
    Chunk(Chunk),
    Install(Checkpoint),
    Checkpoint(Checkpoint, Bytes),
    Truncate(Index),
    Entry(Entry),
}

impl Disk {
    /// Whether this entry would still be there after a loss of power now.
    #[must_use]
    pub fn holds(&self, at: Position) -> bool {
        self.checkpoint.as_ref().is_some_and(|(c, _)| c.last.index >= at.index)
            || self.entries.iter().any(|e| e.position() == at)
    }

    /// What a restarted member finds.
    pub(super) fn stored(&self) -> Stored {
        Stored {
            hard: self.hard,
            checkpoint: self.checkpoint.as_ref().map(|(checkpoint, _)| checkpoint.clone()),
            partial: self.partial.as_ref().map(|(c, bytes)| (c.clone(), bytes.len() as u64)),
            entries: self.entries.clone(),
        }
    }

    /// The bytes of its checkpoint.
    pub(super) fn data(&self) -> Option<&Bytes> {
        self.checkpoint.as_ref().map(|(_, data)| data)
    }

    /// Answers a node that asks for a piece of a checkpoint.
    pub(super) fn read(
        &self,
        to: MemberId,
        checkpoint: Checkpoint,
        offset: u64,
        limit: u64,
    ) -> Event {
        match &self.checkpoint {
            Some((newest, data)) if *newest == checkpoint => {
                let data = data.slice(offset as usize..(offset + limit) as usize);
                Event::ChunkRead { to, chunk: Chunk { checkpoint, offset, data } }
            }
            _ => Event::ChunkGone { to, checkpoint },
        }
    }

    /// Takes a job.
    pub(super) fn write(&mut self, job: Job) {
        self.waiting.push(job);
    }

    /// Begins a sync of all that waits; false if one runs or nothing waits.
    pub(super) fn begin(&mut self) -> bool {
        if self.waiting.is_empty() || !self.running.is_empty() {
            return false;
        }
        self.running = std::mem::take(&mut self.waiting);
        true
    }

    /// The sync that ran is done.
    pub(super) fn done(&mut self) -> Vec<Done> {
        let jobs = std::mem::take(&mut self.running);
        let done = jobs.iter().map(|job| match job {
            Job::Persist(persist) => Done::Persisted(persist.sequence),
            Job::Checkpoint(checkpoint, _) => Done::Checkpoint(checkpoint.clone()),
        });
        let done = done.collect();
        for part in jobs.into_iter().flat_map(parts) {
            self.apply(part);
        }
        done
    }

    /// Entries up to `index` are not needed.
    pub(super) fn trim(&mut self, index: Index) {
        self.entries.retain(|e| e.index > index);
    }

    /// Loses power; true if something unsynced was lost.
    pub(super) fn crash(&mut self, dice: &mut Dice) -> bool {
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
            Part::Hard(hard) => self.hard = hard,
            Part::Chunk(Chunk { checkpoint, offset, data }) => {
                if offset == 0 {
                    self.partial = Some((checkpoint, Vec::new()));
                }
                if let Some((_, bytes)) = &mut self.partial {
                    bytes.truncate(offset as usize);
                    bytes.extend_from_slice(&data);
                }
            }
            Part::Install(checkpoint) => {
                let bytes = self.partial.take().map(|(_, bytes)| bytes).unwrap_or_default();
                self.checkpoint = Some((checkpoint, bytes.into()));
                self.entries.clear();
            }
            Part::Checkpoint(checkpoint, data) => {
                let newest = self.checkpoint.as_ref().map(|(newest, _)| newest.last.index);
                if newest.is_none_or(|newest| newest < checkpoint.last.index) {
                    self.checkpoint = Some((checkpoint, data));
                }
            }
            Part::Truncate(from) => self.entries.retain(|e| e.index < from),
            Part::Entry(entry) => self.entries.push(entry),
        }
    }
}

fn parts(job: Job) -> Vec<Part> {
    match job {
        Job::Checkpoint(checkpoint, data) => vec![Part::Checkpoint(checkpoint, data)],
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
