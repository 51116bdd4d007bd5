//! Checkpoints: the log shortened here, and a follower that lags brought up to date.
//!
//! Section 7, with the checkpoint sent whole. How the state machine is encoded is unknown here; the bytes are kept in
//! memory so that they can be sent at any time.

use bytes::Bytes;

use crate::effect::Effect;
use crate::ids::{Index, MemberId};
use crate::message::{Checkpoint, Install, Outcome, Position};
use crate::node::Node;

impl Node {
    /// The driver has a checkpoint of the state machine at `index` on stable storage.
    pub(crate) fn checkpoint_taken(&mut self, index: Index, data: Bytes) {
        if index > self.applied || index <= self.log.checkpointed() {
            return;
        }
        let Some(term) = self.log.term(index) else { return };
        let checkpoint = Checkpoint { last: Position { index, term }, data };
        if let Some(base) = self.log.checkpoint_taken(checkpoint, self.config.keep) {
            self.outbox.push(Effect::Trim(base));
        }
    }

    /// InstallSnapshot.
    pub(crate) fn install_asked(&mut self, from: MemberId, install: Install) {
        if install.checkpoint.last.term > self.hard.term || !self.hear(from) {
            return;
        }
        let Install { checkpoint, round } = install;
        let last = checkpoint.last;
        if last.index > self.commit {
            if self.log.has(last) {
                // What follows it here may be committed: keep it (section 7).
                self.commit = last.index;
            } else {
                self.log.reset(checkpoint.clone());
                self.commit = last.index;
                self.applied = last.index;
                let need = self.need_all();
                self.outbox.hold(need, Effect::Restore(checkpoint));
            }
        }
        // The need of a whole log: this answer promises all that the checkpoint stands for.
        let outcome = Outcome::Accepted { matched: last.index };
        self.send_reply(from, round, outcome, self.need_all());
    }
}
