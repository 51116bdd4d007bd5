//! A leader: appends, replicates, commits, and steps down when it is alone.
//!
//! Sections 5.3, 5.4.2 and 8; check-quorum is the thesis' section 6.2. It only ever appends to its own log. What is sent
//! to one follower is `progress`' business, which reads may be answered `read`'s, how the group changes `membership`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use crate::bug::{self, Bug};
use crate::effect::{Effect, Refusal};
use crate::ids::{Index, MemberId, Round, Sequence, Ticket};
use crate::lease::Lease;
use crate::membership::Change;
use crate::message::{AppendReply, Entry, Outcome, Payload};
use crate::node::{Node, State};
use crate::progress::{Next, Progress, View};
use crate::read::Reads;
use crate::sending::Read;
use crate::transfer::Transfer;

pub(crate) struct Leader {
    /// The entry with which it began its term.
    pub(crate) first: Index,
    pub(crate) progress: BTreeMap<MemberId, Progress>,
    pub(crate) reads: Reads,
    pub(crate) round: Round,
    pub(crate) lease: Lease,
    pub(crate) change: Option<Change>,
    pub(crate) transfer: Option<Transfer>,
    /// Bytes in the log that are not committed.
    pub(crate) uncommitted: usize,
    /// When the next heartbeat is due.
    beat: Duration,
    /// Every follower is to hear something now.
    pub(crate) urgent: bool,
}

impl Leader {
    /// What a majority has reached, if this node has reached `own`. A member that was emptied counts for nothing.
    pub(crate) fn agreed<T: Ord + Default + Copy>(
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
        if self.progress.is_empty() {
            return None;
        }
        let alone = self.heard(node) + node.config.election_max;
        let transfer = self.transfer.as_ref().map_or(Duration::MAX, |t| t.until);
        Some(self.beat.min(alone).min(transfer))
    }

    /// Begins a quorum round with the messages that are sent next, at this time of the clock.
    pub(crate) fn begin_round(&mut self, sent: Duration) -> Round {
        self.round = self.round.next();
        self.lease.begin(self.round, sent);
        self.round
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
        self.refuse_asks(Some(self.config.id), true);
        self.state = State::Leader(Box::new(Leader {
            first,
            progress: BTreeMap::new(),
            reads: Reads::default(),
            round: Round::ZERO,
            lease: Lease::default(),
            change: None,
            transfer: None,
            uncommitted: self.log.bytes_between(self.commit, self.log.last().index),
            beat: self.now + self.config.heartbeat,
            urgent: false,
        }));
        // Until an entry of its own term is committed, a leader does not know what is (section 8). The very first entry
        // says who founded the group (thesis, 4.4), so that one who joins by the log alone learns it too.
        let payload = match self.log.last().index {
            Index::ZERO => Payload::Configuration(self.group.clone()),
            _ => Payload::Noop,
        };
        self.log.append(Entry { index: first, term: self.hard.term, payload });
        self.regroup();
    }

    /// The group in force may be another one: who is sent to follows it.
    pub(crate) fn regroup(&mut self) {
        let me = self.config.id;
        let last = self.log.last().index;
        let (now, until) = (self.now, self.now + self.config.election_max * 4);
        let mut members = self.log.configuration().1.members();
        members.retain(|id| *id != me);
        let possible = self.log.possible(self.commit).iter().flat_map(|(_, c)| c.members());
        let leaving: Vec<MemberId> = possible.filter(|id| *id != me).collect();
        if let State::Leader(leader) = &mut self.state {
            leader.regroup(&members, &leaving, last, (now, until));
        }
    }

    pub(crate) fn leader_wake(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        if self.now >= leader.heard(self) + self.config.election_max && !self.alone() {
            self.follow(self.hard.term, None);
            return;
        }
        let (beat, now, sent) = (self.config.heartbeat, self.now, self.clock);
        if let State::Leader(leader) = &mut self.state
            && now >= leader.beat
        {
            leader.beat = now + beat;
            leader.urgent = true;
            leader.begin_round(sent);
            leader.progress.retain(|_, p| p.leaves.is_none_or(|until| now < until));
        }
    }

    pub(crate) fn append_answered(&mut self, from: MemberId, reply: &AppendReply) {
        if !self.note_rebuilding(from, reply.round, reply.rebuilding) {
            return;
        }
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
        self.tell_rebuilt(from);
        self.confirm_reads();
    }

    /// Commits what a majority has on stable storage, if it is of this term: older entries are committed only along
    /// with one of this term (section 5.4.2, figure 8).
    pub(crate) fn advance(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let own =
            if bug::on(Bug::CountUnsynced) { self.log.last().index } else { self.log.stable() };
        let held = leader.agreed(self, own, |p| p.matched);
        let own_term = bug::on(Bug::CommitOldTerm) || self.log.term(held) == Some(self.hard.term);
        if held > self.commit && own_term {
            let done = self.log.bytes_between(self.commit, held);
            self.commit = held;
            if let State::Leader(leader) = &mut self.state {
                leader.uncommitted = leader.uncommitted.saturating_sub(done);
            }
        }
    }

    /// Sends every follower what it may get now.
    pub(crate) fn replicate(&mut self) {
        self.begin_reads();
        let State::Leader(leader) = &mut self.state else { return };
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

    /// Says how far is committed, to all.
    pub(crate) fn send_commit(&mut self) {
        if let State::Leader(leader) = &mut self.state {
            leader.urgent = true;
        }
        self.replicate();
    }

    /// Takes a command into the log.
    pub(crate) fn propose(&mut self, ticket: Ticket, command: Bytes) {
        let payload = Payload::Command(command);
        let index = self.log.last().index.next();
        let entry = Entry { index, term: self.hard.term, payload };
        if let Err(why) = self.admit(&entry) {
            let leader = self.leader();
            self.outbox.push(Effect::ProposalRefused { ticket, leader, why });
            return;
        }
        let term = entry.term;
        self.log.append(entry);
        self.outbox.push(Effect::Accepted { ticket, index, term });
    }

    /// Whether a proposal may be taken now. One is always taken when nothing else waits.
    fn admit(&mut self, entry: &Entry) -> Result<(), Refusal> {
        let State::Leader(leader) = &mut self.state else { return Err(Refusal::NotLeader) };
        if leader.transfer.is_some() {
            return Err(Refusal::Transferring);
        }
        let waiting = leader.uncommitted.saturating_add(entry.size());
        let full = leader.uncommitted > 0 && waiting > self.config.uncommitted_bytes;
        if full || self.log.bytes() > self.config.log_bytes {
            return Err(Refusal::Busy);
        }
        leader.uncommitted = waiting;
        Ok(())
    }
}
