//! A leader: appends, replicates, commits, answers reads, and steps down when it is alone.
//!
//! Sections 5.3, 5.4.2 and 8; check-quorum is the thesis' section 6.2. It only ever appends to its own log. What is sent
//! to one follower is `progress`' business, which reads may be answered `read`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::effect::Effect;
use crate::ids::{Index, MemberId, Round, Sequence};
use crate::message::{AppendReply, Entry, Outcome, Payload};
use crate::node::{Node, State};
use crate::progress::{Next, Progress, View};
use crate::read::Reads;
use crate::sending::Read;

pub(crate) struct Leader {
    /// The entry with which it began its term.
    pub(crate) first: Index,
    pub(crate) progress: BTreeMap<MemberId, Progress>,
    pub(crate) reads: Reads,
    pub(crate) round: Round,
    /// When the next heartbeat is due.
    beat: Duration,
    /// Every follower is to hear something now.
    urgent: bool,
}

impl Leader {
    /// What a majority has reached, if this node has reached `own`. A member that was emptied counts for nothing.
    fn agreed<T: Ord + Default + Copy>(
        &self,
        node: &Node,
        own: T,
        value: impl Fn(&Progress) -> T,
    ) -> T {
        node.voters.agreed(|m| match self.progress.get(&m) {
            None => own,
            Some(progress) if progress.rebuilding.is_some() => T::default(),
            Some(progress) => value(progress),
        })
    }

    /// Since when a majority has not been heard; this node hears itself now.
    pub(crate) fn heard(&self, node: &Node) -> Duration {
        self.agreed(node, node.now, |p| p.heard)
    }

    pub(crate) fn deadline(&self, node: &Node) -> Option<Duration> {
        (!self.progress.is_empty())
            .then(|| self.beat.min(self.heard(node) + node.config.election_max))
    }

    /// A follower spoke, in answer to this round.
    pub(crate) fn heard_from(
        &mut self,
        from: MemberId,
        round: Round,
        now: Duration,
    ) -> Option<&mut Progress> {
        let newest = self.round;
        let progress = self.progress.get_mut(&from)?;
        progress.heard = now;
        progress.round = progress.round.max(round.min(newest));
        Some(progress)
    }
}

impl Node {
    /// Won the election.
    pub(crate) fn lead(&mut self) {
        let first = self.log.last().index.next();
        let others = self.voters.others(self.config.id);
        let progress = others.map(|m| (m, Progress::new(first, self.now))).collect();
        self.state = State::Leader(Leader {
            first,
            progress,
            reads: Reads::default(),
            round: Round::ZERO,
            beat: self.now + self.config.heartbeat,
            urgent: false,
        });
        // Until an entry of its own term is committed, a leader does not know what is (section 8).
        self.log.append(Entry { index: first, term: self.hard.term, payload: Payload::Noop });
    }

    pub(crate) fn leader_wake(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        if self.now >= leader.heard(self) + self.config.election_max && !self.alone() {
            self.follow(self.hard.term, None);
            return;
        }
        let beat = self.config.heartbeat;
        if let State::Leader(leader) = &mut self.state
            && self.now >= leader.beat
        {
            leader.beat = self.now + beat;
            leader.urgent = true;
        }
    }

    pub(crate) fn append_answered(&mut self, from: MemberId, reply: &AppendReply) {
        let last = self.log.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let Some(progress) = leader.heard_from(from, reply.round, self.now) else { return };
        match reply.outcome {
            Outcome::Accepted { matched } if matched <= last => {
                progress.accepted(matched, self.log.base().index);
                self.advance();
            }
            Outcome::Accepted { .. } => {}
            Outcome::Rejected { prev, conflict } => progress.rejected(prev, conflict, &self.log),
        }
        self.confirm_reads();
    }

    /// Commits what a majority has on stable storage, if it is of this term: older entries are committed only along
    /// with one of this term (section 5.4.2, figure 8).
    pub(crate) fn advance(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let own = self.log.stable();
        let held = leader.agreed(self, own, |p| p.matched);
        if held > self.commit && self.log.term(held) == Some(self.hard.term) {
            self.commit = held;
        }
    }

    /// Begins a round for the reads that wait, and sends every follower what it may get now.
    pub(crate) fn replicate(&mut self) {
        let State::Leader(leader) = &mut self.state else { return };
        if leader.reads.wants_round() && self.commit >= leader.first {
            leader.round = leader.round.next();
            leader.urgent = true;
            leader.reads.begin(leader.round, self.commit);
        }
        let view = View {
            log: &self.log,
            now: self.now,
            commit: self.commit,
            round: leader.round,
            batch_bytes: self.config.batch_bytes,
            window: self.config.window,
            chunk_bytes: self.config.chunk_bytes,
            chunk_window: self.config.chunk_window,
            patience: self.config.election_max,
        };
        let urgent = std::mem::take(&mut leader.urgent);
        let mut steps = Vec::new();
        for (to, progress) in &mut leader.progress {
            let mut said = false;
            while let Some(next) = progress.send(&view) {
                said |= matches!(next, Next::Say(_));
                steps.push((*to, next));
            }
            if urgent && !said {
                steps.extend(progress.heartbeat(&view).map(|body| (*to, Next::Say(body))));
            }
        }
        for (to, next) in steps {
            match next {
                // What a leader says depends on its vote and term, stable since before it was elected.
                Next::Say(body) => self.send(to, body, Sequence::ZERO),
                Next::Read(Read { checkpoint, offset, limit }) => {
                    self.outbox.push(Effect::ReadChunk { to, checkpoint, offset, limit });
                }
            }
        }
        self.confirm_reads();
    }

    pub(crate) fn confirm_reads(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let round = leader.agreed(self, leader.round, |p| p.round);
        if let State::Leader(leader) = &mut self.state {
            leader.reads.confirm(round);
        }
    }

    pub(crate) fn release_reads(&mut self) {
        let State::Leader(leader) = &mut self.state else { return };
        while let Some((index, tickets)) = leader.reads.ready(self.applied) {
            for ticket in tickets {
                self.outbox.push(Effect::ReadReady { ticket, index });
            }
        }
    }
}
