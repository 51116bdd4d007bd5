//! A checkpoint on its way out, to one follower.
//!
//! It begins with the question how far the follower is, since it may have a part from before. Chunks are read by the
//! driver, sent, and acknowledged when the follower has them on stable storage; so many are under way at once, which
//! bounds the memory on both sides. After silence it asks again, and goes on from what the follower has. The bytes never
//! stay here.

use std::time::Duration;

use bytes::Bytes;

use crate::message::{Body, Checkpoint, Chunk, Install, InstallReply};
use crate::progress::{Next, View};

/// A transfer without any answer for so long does not hold the log back.
const ABANDONED: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Sending {
    checkpoint: Checkpoint,
    /// Bytes that the follower has.
    acknowledged: u64,
    /// Where the next chunk begins.
    next: u64,
    /// When it last moved or was asked about; `None` before the first question.
    moved: Option<Duration>,
    /// When the follower last said how far it is.
    answered: Duration,
    /// It was gone back to this place; the other chunks that did not fit are no news.
    again: Option<u64>,
    /// The follower was asked how far it is: until it says so, nothing more is sent. A slow disk is not swamped.
    asking: bool,
}

/// A piece of a checkpoint that the driver is to read.
pub(crate) struct Read {
    pub(crate) checkpoint: Checkpoint,
    pub(crate) offset: u64,
    pub(crate) limit: u64,
}

impl Sending {
    pub(crate) fn new(checkpoint: Checkpoint, now: Duration) -> Self {
        let (acknowledged, next, moved) = (0, 0, None);
        Self { checkpoint, acknowledged, next, moved, answered: now, again: None, asking: false }
    }

    pub(crate) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// Bytes that the follower has, and of how many.
    pub(crate) fn done(&self) -> (u64, u64) {
        (self.acknowledged, self.checkpoint.size)
    }

    /// The next piece, if one may be under way.
    pub(crate) fn send(&mut self, view: &View<'_>) -> Option<Next> {
        let size = self.checkpoint.size;
        if self.moved.is_none_or(|moved| view.now >= moved + view.patience) {
            self.moved = Some(view.now);
            self.asking = true;
            return Some(Next::Say(self.question(view)));
        }
        if self.asking {
            return None;
        }
        let window = view.chunk_bytes.saturating_mul(view.chunk_window);
        if self.next >= size || self.next >= self.acknowledged.saturating_add(window) {
            return None;
        }
        let (offset, limit) = (self.next, view.chunk_bytes.min(size - self.next));
        self.next += limit;
        Some(Next::Read(Read { checkpoint: self.checkpoint.clone(), offset, limit }))
    }

    /// For a checkpoint without any bytes this is all of it.
    fn question(&self, view: &View<'_>) -> Body {
        let checkpoint = self.checkpoint.clone();
        let chunk = Chunk { checkpoint, offset: self.acknowledged, data: Bytes::new() };
        Body::Install(Install { chunk, round: view.round })
    }

    pub(crate) fn received(&mut self, reply: &InstallReply, now: Duration) {
        let size = self.checkpoint.size;
        let named = (reply.last, reply.digest) == (self.checkpoint.last, self.checkpoint.digest);
        if !named || reply.received > size {
            return;
        }
        self.answered = now;
        if std::mem::take(&mut self.asking) {
            (self.acknowledged, self.next) = (reply.received, reply.received);
            self.moved = Some(now);
            self.again = None;
        } else if reply.again {
            // The follower lost what it had, or a chunk was lost on the way: once for each place.
            if self.again != Some(reply.received) {
                self.again = Some(reply.received);
                self.acknowledged = reply.received;
                self.next = reply.received;
                self.moved = Some(now);
            }
        } else if reply.received > self.acknowledged {
            self.acknowledged = reply.received;
            self.next = self.next.max(reply.received);
            self.moved = Some(now);
        }
    }

    /// Whether this chunk was asked for and is still wanted.
    pub(crate) fn awaits(&self, chunk: &Chunk) -> bool {
        let end = chunk.offset + chunk.data.len() as u64;
        chunk.checkpoint == self.checkpoint
            && !chunk.data.is_empty()
            && chunk.offset >= self.acknowledged
            && end <= self.next
    }

    /// Whether the follower still answers.
    pub(crate) fn moves(&self, now: Duration) -> bool {
        now < self.answered + ABANDONED
    }
}
