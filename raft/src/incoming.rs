//! A checkpoint on its way in, chunk by chunk.
//!
//! Figure 13 of the paper, with chunks that are acknowledged when they are on stable storage, so that a transfer that
//! broke (here, at the leader or between) goes on where it stopped. Nothing of the bytes is held: a chunk goes straight
//! into a persist. It does not know when a checkpoint is worth taking; that is `checkpoint`'s business.

use crate::bug::{self, Bug};
use crate::ids::{Sequence, Term};
use crate::message::{Checkpoint, Chunk};

pub(crate) struct Incoming {
    pub(crate) checkpoint: Checkpoint,
    /// Of the leader that sends it.
    term: Term,
    /// Bytes from its beginning, given out to be written or written.
    received: u64,
    /// To be part of the next persist.
    fresh: Vec<Chunk>,
    /// The persist with the last chunk.
    whole: Option<Sequence>,
}

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It goes to disk, or was there before.
    Yes,
    /// It does not follow what is there.
    Again,
    /// It is of a checkpoint that the leader gave up for a newer one.
    Old,
}

impl Incoming {
    /// What was collected in an earlier life.
    pub(crate) fn resumed(checkpoint: Checkpoint, received: u64) -> Self {
        // The last chunk comes again, so that the driver looks at the digest again.
        let received = if received >= checkpoint.size { 0 } else { received };
        Self { checkpoint, term: Term::ZERO, received, fresh: Vec::new(), whole: None }
    }

    pub(crate) fn new(checkpoint: Checkpoint, term: Term) -> Self {
        Self { checkpoint, term, received: 0, fresh: Vec::new(), whole: None }
    }

    /// Whether a chunk of `other` from the leader of `term` takes the place of this.
    pub(crate) fn yields(&self, other: &Checkpoint, term: Term) -> bool {
        *other != self.checkpoint
            && (term > self.term || other.last.index > self.checkpoint.last.index)
    }

    /// Takes a chunk that arrived; `sequence` is the persist that will carry it.
    pub(crate) fn take(&mut self, chunk: Chunk, term: Term, sequence: Sequence) -> Taken {
        if chunk.checkpoint != self.checkpoint {
            return Taken::Old;
        }
        self.term = self.term.max(term);
        let end = chunk.offset.saturating_add(chunk.data.len() as u64);
        let size = self.checkpoint.size;
        if end > size || (chunk.offset > self.received && !bug::on(Bug::WrongOffset)) {
            return Taken::Again;
        }
        let question = chunk.data.is_empty() && (size > 0 || self.whole.is_some());
        let follows = chunk.offset == self.received
            || (chunk.offset > self.received && bug::on(Bug::WrongOffset));
        if follows && !question {
            self.received = end;
            self.whole = (end == size).then_some(sequence);
            self.fresh.push(chunk);
            return Taken::Yes;
        }
        let repeated = !question && end <= self.received;
        if repeated || chunk.offset == self.received { Taken::Yes } else { Taken::Again }
    }

    /// Bytes from its beginning that are written, or will be by the persist that the answer waits for.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Whether something is to be written.
    pub(crate) fn dirty(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// What the next persist is to write.
    pub(crate) fn hand_out(&mut self) -> Vec<Chunk> {
        std::mem::take(&mut self.fresh)
    }

    /// The persist after which the checkpoint is whole.
    pub(crate) fn whole(&self) -> Option<Sequence> {
        self.whole
    }

    /// The bytes were not what they should be.
    pub(crate) fn restart(&mut self) {
        self.received = 0;
        self.whole = None;
        self.fresh.clear();
    }
}
