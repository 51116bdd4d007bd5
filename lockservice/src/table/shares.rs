//! What each session holds of the map of locks: how many spans and names, and where to look for them.
//!
//! Where is told by blocks of 1,024 names: a batch of a thousand neighbours changes one or two entries, not a
//! thousand, and ten million ranges need no second list of ten million names. To find the spans of a session its
//! blocks are read, with what others hold there. It does not know the map itself.

use std::collections::BTreeMap;

use super::pieces::Hold;
use crate::name::{Name, SessionId};

/// Names of a block: 2^10.
const BLOCK_BITS: u32 = 10;

/// 1,024 neighbouring names.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Block(u64);

impl Block {
    const fn of(start: Name) -> Self {
        Self(start.0 >> BLOCK_BITS)
    }

    /// Its first name, and the last one.
    const fn ends(self) -> (Name, Name) {
        let first = self.0 << BLOCK_BITS;
        (Name(first), Name(first | ((1 << BLOCK_BITS) - 1)))
    }
}

/// What one session holds.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Share {
    /// How many of its spans start in a block.
    starts: BTreeMap<Block, u64>,
    spans: u64,
    names: u64,
}

impl Share {
    fn begin(&mut self, start: Name, spans: u64) {
        *self.starts.entry(Block::of(start)).or_default() += spans;
        self.spans += spans;
    }

    fn end(&mut self, start: Name) {
        let block = Block::of(start);
        let Some(spans) = self.starts.get_mut(&block) else { return };
        *spans -= 1;
        if *spans == 0 {
            self.starts.remove(&block);
        }
        self.spans -= 1;
    }
}

/// What sessions hold.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Shares(BTreeMap<SessionId, Share>);

impl Shares {
    /// `session` holds what reaches from `start` to before `end`.
    pub(super) fn add(&mut self, session: SessionId, start: Name, end: Name) {
        self.add_all(session, std::iter::once((start, end)));
    }

    /// As [`Shares::add`] for each; neighbours cost as much as one.
    pub(super) fn add_all(
        &mut self,
        session: SessionId,
        spans: impl Iterator<Item = (Name, Name)>,
    ) {
        let mut spans = spans.peekable();
        if spans.peek().is_none() {
            return;
        }
        let share = self.0.entry(session).or_default();
        while let Some((start, end)) = spans.next() {
            share.names += end.0 - start.0;
            let mut count = 1;
            let next = |next: &(Name, Name)| Block::of(next.0) == Block::of(start);
            while let Some((start, end)) = spans.next_if(next) {
                share.names += end.0 - start.0;
                count += 1;
            }
            share.begin(start, count);
        }
    }

    /// `session` no longer holds it.
    pub(super) fn sub(&mut self, session: SessionId, start: Name, end: Name) {
        let Some(share) = self.0.get_mut(&session) else { return };
        share.end(start);
        share.names -= end.0 - start.0;
        if share.spans == 0 {
            self.0.remove(&session);
        }
    }

    /// A border appeared at `at`.
    pub(super) fn cut(&mut self, hold: &Hold, at: Name) {
        hold.sessions(|session| {
            if let Some(share) = self.0.get_mut(&session) {
                share.begin(at, 1);
            }
        });
    }

    /// A border went.
    pub(super) fn join(&mut self, hold: &Hold, at: Name) {
        hold.sessions(|session| {
            if let Some(share) = self.0.get_mut(&session) {
                share.end(at);
            }
        });
    }

    /// In order, the first and the last names between which all spans of `session` start.
    pub(super) fn places(&self, session: SessionId) -> impl Iterator<Item = (Name, Name)> {
        let blocks = self.0.get(&session).into_iter().flat_map(|share| share.starts.keys());
        blocks.map(|block| block.ends())
    }

    /// How many spans and how many names `session` holds.
    pub(super) fn count(&self, session: SessionId) -> (u64, u64) {
        self.0.get(&session).map(|share| (share.spans, share.names)).unwrap_or_default()
    }
}
