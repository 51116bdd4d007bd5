//! What a leader knows of one follower, and what it sends next.
//!
//! Three modes: *probe* (one append at a time until one fits), *stream* (appends in flight up to a window, `next` moves
//! on as they leave), *install* (the follower needs what only the checkpoint has, see `sending`). Commitment is not
//! decided here.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ids::{Index, Round, Serial};
use crate::log::Log;
use crate::message::{Append, Body, Checkpoint, Chunk, Conflict, InstallReply, Position};
use crate::rebuild::Rebuilding;
use crate::sending::{Read, Sending};

#[derive(Debug)]
pub(crate) enum Mode {
    Probe {
        /// An append was sent and not answered; the next heartbeat repeats the question.
        asked: bool,
    },
    Stream {
        /// The last index of each append in flight.
        flights: VecDeque<Index>,
    },
    Install(Sending),
}

#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) matched: Index,
    pub(crate) next: Index,
    pub(crate) mode: Mode,
    /// When the follower was last heard in this term.
    pub(crate) heard: Duration,
    /// The newest quorum round that it answered.
    pub(crate) round: Round,
    /// It said that it was emptied.
    pub(crate) rebuilding: Option<Rebuilding>,
    /// The life in which it was last told that it may vote again.
    pub(crate) rebuilt: Option<Serial>,
    /// It is no member any more, and is told so until then.
    pub(crate) leaves: Option<Duration>,
}

/// What is the same for all followers at one moment.
pub(crate) struct View<'a> {
    pub(crate) log: &'a Log,
    pub(crate) now: Duration,
    pub(crate) commit: Index,
    pub(crate) round: Round,
    pub(crate) batch_bytes: usize,
    pub(crate) window: usize,
    pub(crate) chunk_bytes: u64,
    pub(crate) chunk_window: u64,
    /// How long an unanswered chunk is waited for.
    pub(crate) patience: Duration,
}

/// What a leader does next for a follower.
pub(crate) enum Next {
    Say(Body),
    Read(Read),
}

impl View<'_> {
    fn append(&self, before: Index, entries: bool) -> Option<Body> {
        let prev = Position { index: before, term: self.log.term(before)? };
        let entries = if entries {
            self.log.slice(before.next(), self.log.last().index, self.batch_bytes)
        } else {
            Vec::new()
        };
        Some(Body::Append(Append { prev, entries, commit: self.commit, round: self.round }))
    }
}

impl Progress {
    pub(crate) fn new(next: Index, now: Duration) -> Self {
        Self {
            matched: Index::ZERO,
            next,
            mode: Mode::Probe { asked: false },
            heard: now,
            round: Round::ZERO,
            rebuilding: None,
            rebuilt: None,
            leaves: None,
        }
    }

    /// The follower was emptied: what it had does not count any more.
    pub(crate) fn forget(&mut self) {
        self.matched = Index::ZERO;
        self.mode = Mode::Stream { flights: VecDeque::new() };
    }

    /// The next thing that carries something, if it may be done now.
    pub(crate) fn send(&mut self, view: &View<'_>) -> Option<Next> {
        if self.next <= view.log.base().index {
            return self.install(view);
        }
        let last = view.log.last().index;
        match &mut self.mode {
            Mode::Probe { asked: true } => None,
            Mode::Stream { flights } => {
                if self.next > last || flights.len() >= view.window {
                    return None;
                }
                let body = view.append(self.next.back(), true)?;
                if let Body::Append(append) = &body {
                    self.next = append.entries.last().map_or(self.next, |e| e.index.next());
                    flights.push_back(self.next.back());
                }
                Some(Next::Say(body))
            }
            Mode::Probe { .. } | Mode::Install(_) => {
                self.mode = Mode::Probe { asked: true };
                view.append(self.next.back(), true).map(Next::Say)
            }
        }
    }

    fn install(&mut self, view: &View<'_>) -> Option<Next> {
        if !matches!(self.mode, Mode::Install(_)) {
            let checkpoint = view.log.checkpoint()?.clone();
            self.mode = Mode::Install(Sending::new(checkpoint, view.now));
        }
        let Mode::Install(sending) = &mut self.mode else { return None };
        sending.send(view)
    }

    /// A message that carries nothing but the leader's claim, its commit index and its round. It also asks whether
    /// what was sent before has arrived.
    pub(crate) fn heartbeat(&self, view: &View<'_>) -> Option<Body> {
        view.append(self.next.back().max(view.log.base().index), false)
    }

    /// The follower's stable log equals the leader's up to `matched`; the leader's begins after `base`.
    pub(crate) fn accepted(&mut self, matched: Index, base: Index) {
        self.matched = self.matched.max(matched);
        let after = self.matched.next();
        let answers = match &mut self.mode {
            Mode::Stream { flights } => {
                while flights.pop_front_if(|last| *last <= matched).is_some() {}
                self.next = self.next.max(after);
                return;
            }
            // An answer to something older says nothing of the question now open.
            Mode::Probe { .. } => after >= self.next,
            Mode::Install(_) => self.matched >= base,
        };
        if answers {
            self.next = after;
            self.mode = Mode::Stream { flights: VecDeque::new() };
        } else if let Mode::Install(sending) = &self.mode
            && self.matched >= sending.checkpoint().last.index
        {
            // It has the one that was sent, and needs a newer one already.
            self.next = after;
            self.mode = Mode::Probe { asked: false };
        }
    }

    /// The follower has no such entry as the one at `prev` (section 5.3: back up by a term at a time).
    pub(crate) fn rejected(&mut self, prev: Index, conflict: Conflict, log: &Log) {
        let open = match self.mode {
            Mode::Stream { .. } => prev > self.matched,
            Mode::Probe { .. } => prev == self.next.back(),
            Mode::Install(_) => false,
        };
        if !open {
            return;
        }
        let hint = conflict
            .term
            .and_then(|term| log.last_of(term, prev))
            .map_or(conflict.first, Index::next);
        let end = log.last().index.next();
        self.next = hint.min(prev).min(end).max(self.matched.next());
        self.mode = Mode::Probe { asked: false };
    }

    /// How far the follower is with the checkpoint that it is sent.
    pub(crate) fn received(&mut self, reply: &InstallReply, now: Duration) {
        if let Mode::Install(sending) = &mut self.mode {
            sending.received(reply, now);
        }
    }

    /// Bytes of a checkpoint that it has, and of how many.
    pub(crate) fn chunks(&self) -> Option<(u64, u64)> {
        match &self.mode {
            Mode::Install(sending) => Some(sending.done()),
            _ => None,
        }
    }

    /// Whether a chunk that was read is still to be sent.
    pub(crate) fn awaits(&mut self, chunk: &Chunk) -> bool {
        matches!(&self.mode, Mode::Install(sending) if sending.awaits(chunk))
    }

    /// The checkpoint that is being sent is no more.
    pub(crate) fn gone(&mut self, gone: &Checkpoint, newest: Option<&Checkpoint>, now: Duration) {
        if let Mode::Install(sending) = &mut self.mode
            && sending.checkpoint() == gone
            && let Some(newest) = newest.filter(|newest| *newest != gone)
        {
            *sending = Sending::new(newest.clone(), now);
        }
    }

    /// The end of the checkpoint that travels, while it makes progress.
    pub(crate) fn sending(&self, now: Duration) -> Option<Index> {
        match &self.mode {
            Mode::Install(sending) if sending.moves(now) => Some(sending.checkpoint().last.index),
            _ => None,
        }
    }
}
