//! Effects on their way out, and those that wait for the disk.
//!
//! The rule that this file keeps: a message leaves only after everything it depends on is on stable storage. The
//! roles say what a message depends on; the driver says what is stable. It does not know what the messages mean.

use std::collections::VecDeque;

use crate::effect::Effect;
use crate::ids::Sequence;

#[derive(Default)]
pub(crate) struct Outbox {
    ready: VecDeque<Effect>,
    held: Vec<(Sequence, Effect)>,
    /// The last persist given out.
    issued: Sequence,
    /// The last persist known to be on stable storage.
    done: Sequence,
    /// The last persist that carried term and vote.
    hard: Sequence,
}

impl Outbox {
    /// Sends an effect out at once.
    pub(crate) fn push(&mut self, effect: Effect) {
        self.ready.push_back(effect);
    }

    /// Sends an effect out when `need` is stable.
    pub(crate) fn hold(&mut self, need: Sequence, effect: Effect) {
        if need <= self.done {
            self.ready.push_back(effect);
        } else {
            self.held.push((need, effect));
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Effect> {
        self.ready.pop_front()
    }

    /// The persist that will carry what changed, if `dirty`; else the last one given out.
    pub(crate) fn need(&self, dirty: bool) -> Sequence {
        if dirty { self.issued.next() } else { self.issued }
    }

    /// The persist that carries term and vote as they are now.
    pub(crate) fn need_hard(&self, dirty: bool) -> Sequence {
        if dirty { self.issued.next() } else { self.hard }
    }

    /// A number for the next persist.
    pub(crate) fn issue(&mut self, hard: bool) -> Sequence {
        self.issued = self.issued.next();
        if hard {
            self.hard = self.issued;
        }
        self.issued
    }

    /// Everything up to and with `sequence` is stable; false if that is no news.
    pub(crate) fn persisted(&mut self, sequence: Sequence) -> bool {
        if sequence <= self.done || sequence > self.issued {
            return false;
        }
        self.done = sequence;
        for (need, effect) in std::mem::take(&mut self.held) {
            self.hold(need, effect);
        }
        true
    }

    /// Whether this persist is stable.
    pub(crate) fn is_done(&self, sequence: Sequence) -> bool {
        sequence <= self.done
    }

    /// Forgets everything that was to be done.
    pub(crate) fn clear(&mut self) {
        self.ready.clear();
        self.held.clear();
    }
}
