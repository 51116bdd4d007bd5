//! Reads at the leader: those that wait for proof that it still led when they were asked (thesis, section 6.4).
//!
//! One quorum round serves all reads that were waiting when it began; reads that come during a round wait for the next
//! one, since a round begun before a read proves nothing for it. A read by lease needs no round while the lease runs
//! (section 6.4.1), and is one like all others when it does not. What a follower asks for its readers is answered with the
//! index; a reader of this node waits until the state machine is there.

use std::collections::VecDeque;
use std::time::Duration;

use crate::bug::{self, Bug};
use crate::effect::Effect;
use crate::ids::{Index, MemberId, Round, Sequence, Serial, Ticket};
use crate::message::{Body, ReadMode};
use crate::node::{Node, State};

/// Who wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    /// A client of this node.
    Here(Ticket),
    /// A follower, for its clients.
    There(MemberId, Serial),
}

#[derive(Default)]
pub(crate) struct Reads {
    /// No round was begun for these.
    waiting: Vec<Asker>,
    asked: Option<Batch>,
    /// Led by a quorum; what is missing is the state machine.
    confirmed: VecDeque<(Index, Ticket)>,
}

struct Batch {
    round: Round,
    index: Index,
    askers: Vec<Asker>,
}

impl Reads {
    pub(crate) fn add(&mut self, asker: Asker) {
        match &mut self.asked {
            Some(batch) if bug::on(Bug::ReadJoinsRound) => batch.askers.push(asker),
            _ => self.waiting.push(asker),
        }
    }

    /// Whether a round should begin.
    pub(crate) fn wants_round(&self) -> bool {
        self.asked.is_none() && !self.waiting.is_empty()
    }

    /// A round begins; the reads in it see what is committed now.
    pub(crate) fn begin(&mut self, round: Round, index: Index) {
        let askers = std::mem::take(&mut self.waiting);
        self.asked = Some(Batch { round, index, askers });
    }

    /// A quorum answered this round: gives the followers to be told, and the index.
    pub(crate) fn confirm(&mut self, round: Round) -> Option<(Index, Vec<(MemberId, Serial)>)> {
        let Batch { index, askers, .. } =
            self.asked.take_if(|batch| batch.round <= round || bug::on(Bug::ReadUnproven))?;
        let mut others = Vec::new();
        for asker in askers {
            match asker {
                Asker::Here(ticket) => self.confirmed.push_back((index, ticket)),
                Asker::There(member, serial) => others.push((member, serial)),
            }
        }
        Some((index, others))
    }

    /// The next read that may be answered, if the state machine is at `applied`.
    fn ready(&mut self, applied: Index) -> Option<(Index, Ticket)> {
        self.confirmed.pop_front_if(|(index, _)| *index <= applied)
    }

    /// Everyone who was not answered.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Asker> {
        let asked = self.asked.into_iter().flat_map(|b| b.askers);
        let confirmed = self.confirmed.into_iter().map(|(_, ticket)| Asker::Here(ticket));
        confirmed.chain(asked).chain(self.waiting)
    }
}

impl Node {
    /// Somebody wants an index from this leader.
    pub(crate) fn read_at_leader(&mut self, asker: Asker, mode: ReadMode) {
        let runs = self.leased().is_some_and(|end| self.now < end || bug::on(Bug::LeaseWithoutEnd));
        let leased = mode == ReadMode::Lease && runs;
        let (commit, State::Leader(leader)) = (self.commit, &mut self.state) else { return };
        match asker {
            _ if !leased => leader.reads.add(asker),
            Asker::Here(ticket) => leader.reads.confirmed.push_back((commit, ticket)),
            Asker::There(to, serial) => self.tell_index(to, serial, Some(commit)),
        }
    }

    /// A follower asks for its clients.
    pub(crate) fn index_asked(&mut self, from: MemberId, serial: Serial, mode: ReadMode) {
        match self.state {
            State::Leader(_) => self.read_at_leader(Asker::There(from, serial), mode),
            _ => self.tell_index(from, serial, None),
        }
    }

    pub(crate) fn tell_index(&mut self, to: MemberId, serial: Serial, index: Option<Index>) {
        let need = if index.is_some() { Sequence::ZERO } else { self.need_hard() };
        self.send(to, Body::ReadIndexReply { serial, index }, need);
    }

    /// Until when this leader needs no round to know that it leads, if it knows what is committed and has a lease.
    pub(crate) fn leased(&self) -> Option<Duration> {
        let State::Leader(leader) = &self.state else { return None };
        let length =
            if bug::on(Bug::LongLease) { self.config.election_max } else { self.config.lease() };
        leader.lease.end(length).filter(|_| self.commit >= leader.first)
    }

    /// Begins a round for the reads that wait, if none is under way.
    pub(crate) fn begin_reads(&mut self) {
        let (commit, sent) = (self.commit, self.clock);
        let State::Leader(leader) = &mut self.state else { return };
        let knows = commit >= leader.first || bug::on(Bug::ReadBeforeNoop);
        if leader.reads.wants_round() && knows {
            let round = leader.begin_round(sent);
            leader.urgent = true;
            leader.reads.begin(round, commit);
        }
    }

    /// What a majority has answered confirms the lease, and reads.
    pub(crate) fn confirm_reads(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let round = leader.agreed(self, leader.round, |p| p.round);
        let State::Leader(leader) = &mut self.state else { return };
        leader.lease.confirm(round);
        let Some((index, others)) = leader.reads.confirm(round) else { return };
        for (to, serial) in others {
            self.tell_index(to, serial, Some(index));
        }
    }

    /// Answers reads whose index the state machine has reached.
    pub(crate) fn release_reads(&mut self) {
        if !self.outbox.is_done(self.restoring) && !bug::on(Bug::ReadBeforeRestore) {
            return;
        }
        self.release_asks();
        let (applied, State::Leader(leader)) = (self.applied, &mut self.state) else { return };
        while let Some((index, ticket)) = leader.reads.ready(applied) {
            self.outbox.push(Effect::ReadReady { ticket, index });
        }
    }
}
