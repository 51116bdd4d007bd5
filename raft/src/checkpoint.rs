//! Checkpoints: the log shortened here, and a follower that lags brought up to date.
//!
//! Section 7, in chunks as in its figure 13. How the state machine is encoded is unknown here, and its bytes only pass
//! through: the leader asks its driver for one chunk at a time, the follower gives each to its driver to be written.

use crate::bug::{self, Bug};
use crate::effect::Effect;
use crate::ids::{Index, MemberId, Round, Sequence};
use crate::incoming::{Incoming, Taken};
use crate::message::{Body, Checkpoint, Chunk, Install, InstallReply, Outcome};
use crate::node::{Node, State};

impl Node {
    /// The driver has a checkpoint that it made on stable storage.
    pub(crate) fn checkpoint_taken(&mut self, checkpoint: Checkpoint) {
        let last = checkpoint.last;
        let known = self.log.checkpointed();
        if last.index > self.applied || last.index <= known || !self.log.has(last) {
            return;
        }
        let mut keep = Index(last.index.0.saturating_sub(self.config.keep));
        if let State::Leader(leader) = &self.state {
            // What follows a checkpoint that is being sent will be needed when it has arrived.
            let sending = leader.progress.values().filter_map(|p| p.sending(self.now));
            keep = sending.min().unwrap_or(keep).min(keep);
        }
        let base = self.log.checkpoint_taken(checkpoint, keep, self.config.keep_bytes);
        if let Some(base) = base {
            self.outbox.push(Effect::Trim(base));
        }
    }

    /// InstallSnapshot, one chunk.
    pub(crate) fn install_asked(&mut self, from: MemberId, install: Install) {
        let Install { chunk, round } = install;
        let sound = chunk.checkpoint.configuration.check().is_ok();
        if !sound || chunk.checkpoint.last.term > self.hard.term || !self.hear(from) {
            return;
        }
        let checkpoint = chunk.checkpoint.clone();
        if self.covered(&checkpoint) {
            return self.have_all(from, round, checkpoint.last.index);
        }
        let term = self.hard.term;
        if self.incoming.as_ref().is_none_or(|i| i.yields(&checkpoint, term)) {
            self.incoming = Some(Incoming::new(checkpoint.clone(), term));
        }
        let sequence = self.outbox.need(true);
        let Some(incoming) = &mut self.incoming else { return };
        let again = match incoming.take(chunk, term, sequence) {
            Taken::Old => return,
            Taken::Yes => false,
            Taken::Again => true,
        };
        let received = incoming.received();
        self.send_received(from, round, &checkpoint, received, again);
    }

    /// Whether the log here has everything that the checkpoint stands for; what follows it here may be committed and
    /// must stay (section 7).
    fn covered(&mut self, checkpoint: &Checkpoint) -> bool {
        if self.log.has(checkpoint.last) && !bug::on(Bug::ForgetTail) {
            self.commit = self.commit.max(checkpoint.last.index);
        }
        let covered = checkpoint.last.index <= self.commit && !bug::on(Bug::OlderCheckpoint);
        if covered && self.incoming.as_ref().is_some_and(|i| i.checkpoint == *checkpoint) {
            self.incoming = None;
        }
        covered
    }

    fn have_all(&mut self, to: MemberId, round: Round, matched: Index) {
        // The need of a whole log: this answer promises all that the checkpoint stands for.
        self.send_reply(to, round, Outcome::Accepted { matched }, self.need_all());
    }

    fn send_received(
        &mut self,
        to: MemberId,
        round: Round,
        checkpoint: &Checkpoint,
        received: u64,
        again: bool,
    ) {
        let (last, digest) = (checkpoint.last, checkpoint.digest);
        let reply = InstallReply { round, last, digest, received, again };
        self.send(to, Body::InstallReply(reply), self.need_all());
    }

    /// The disk moved on; perhaps a whole checkpoint is there now.
    pub(crate) fn install_stored(&mut self) {
        let whole = self.incoming.as_ref().and_then(Incoming::whole);
        if !whole.is_some_and(|sequence| self.outbox.is_done(sequence)) {
            return;
        }
        let Some(Incoming { checkpoint, .. }) = self.incoming.take() else { return };
        let last = checkpoint.last;
        if !self.covered(&checkpoint) {
            self.log.reset(checkpoint.clone());
            self.commit = last.index;
            self.applied = last.index;
            self.reconfigure();
            self.restoring = self.need_all();
            let early = bug::on(Bug::RestoreEarly);
            let need = if early { Sequence::ZERO } else { self.restoring };
            self.outbox.hold(need, Effect::Restore(checkpoint));
        }
        if let State::Follower(follower) = &self.state
            && let Some(leader) = follower.leader
        {
            // Any leader has what is committed. An old round does no harm: it confirms nothing new.
            self.have_all(leader, Round::ZERO, last.index);
        }
    }

    /// The driver found that the collected bytes are not what they should be.
    pub(crate) fn checkpoint_damaged(&mut self, checkpoint: &Checkpoint) {
        let Some(incoming) = self.incoming.as_mut().filter(|i| i.checkpoint == *checkpoint) else {
            return;
        };
        incoming.restart();
        if let State::Follower(follower) = &self.state
            && let Some(leader) = follower.leader
        {
            self.send_received(leader, Round::ZERO, checkpoint, 0, true);
        }
    }

    /// How far a follower is with the checkpoint that it is sent.
    pub(crate) fn install_answered(&mut self, from: MemberId, reply: &InstallReply) {
        let now = self.now;
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.heard_from(from, reply.round, now) else { return };
        progress.received(reply, now);
        self.confirm_reads();
    }

    /// The driver read a chunk.
    pub(crate) fn chunk_read(&mut self, to: MemberId, chunk: Chunk) {
        let State::Leader(leader) = &mut self.state else { return };
        let round = leader.round;
        if leader.progress.get_mut(&to).is_some_and(|p| p.awaits(&chunk)) {
            self.send(to, Body::Install(Install { chunk, round }), Sequence::ZERO);
        }
    }

    /// The driver has that checkpoint no more.
    pub(crate) fn chunk_gone(&mut self, to: MemberId, checkpoint: &Checkpoint) {
        let State::Leader(leader) = &mut self.state else { return };
        let newest = self.log.checkpoint();
        if let Some(progress) = leader.progress.get_mut(&to) {
            progress.gone(checkpoint, newest, self.now);
        }
    }
}
