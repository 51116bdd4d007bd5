//! A follower: takes the leader's entries and gives votes.
//!
//! Sections 5.2 to 5.4. Every answer that promises something waits for the disk; which part of it, is said where the
//! answer is made. It never starts anything; that its timer ran out is the candidate's affair.

use crate::bug::{self, Bug};
use crate::effect::HardState;
use crate::ids::{Index, MemberId, Round, Sequence, Term};
use crate::message::{Append, AppendReply, Body, Conflict, Entry, Outcome, Payload, Position};
use crate::node::{Node, State};

#[derive(Default)]
pub(crate) struct Follower {
    pub(crate) leader: Option<MemberId>,
}

impl Node {
    /// Whether a leader is known to be alive, so that nobody else should be voted for.
    pub(crate) fn hears_leader(&self) -> bool {
        let heard = match &self.state {
            State::Leader(leader) => Some(leader.heard(self)),
            _ => self.heard,
        };
        !bug::on(Bug::DisregardLeader)
            && heard.is_some_and(|heard| self.now < heard + self.config.election_min)
    }

    /// Somebody asks whether it would win in `term`.
    pub(crate) fn pre_vote_asked(&mut self, from: MemberId, term: Term, last: Position) {
        let rebuilding = self.hard.rebuilding && !bug::on(Bug::EmptiedVotes);
        let free = !self.hears_leader() && !rebuilding;
        let granted = term > self.hard.term && free && last.covers(self.log.last());
        // A refusal bears this node's term, so that one who lags can catch up with it.
        let reply_term = if granted { term } else { self.hard.term };
        self.send_as(reply_term, from, Body::PreVoteReply { granted }, self.need_hard());
    }

    /// Somebody campaigns in this term.
    pub(crate) fn vote_asked(&mut self, from: MemberId, last: Position) {
        let free = self.hard.vote.is_none_or(|vote| vote == from || bug::on(Bug::VoteTwice));
        let waits = matches!(self.state, State::Follower(Follower { leader: None, .. }));
        let rebuilding = self.hard.rebuilding && !bug::on(Bug::EmptiedVotes);
        let granted = free && waits && !rebuilding && last.covers(self.log.last());
        if granted {
            if self.hard.vote != Some(from) {
                self.set_hard(HardState { vote: Some(from), ..self.hard });
            }
            self.arm();
        }
        let need = if bug::on(Bug::VoteUnsynced) { Sequence::ZERO } else { self.need_all() };
        self.send(from, Body::VoteReply { granted }, need);
    }

    /// A message of an older term: its sender learns the newer one, if it claims anything.
    pub(crate) fn answer_stale(&mut self, from: MemberId, body: &Body) {
        let need = self.need_hard();
        match body {
            Body::Vote { .. } => self.send(from, Body::VoteReply { granted: false }, need),
            Body::Append(_) | Body::Install(_) => {
                // No round: this answers nothing that the sender asked in the newer term.
                let conflict = Conflict { term: None, first: Index::ZERO };
                let outcome = Outcome::Rejected { prev: Index::ZERO, conflict };
                self.send_reply(from, Round::ZERO, outcome, need);
            }
            Body::ReadIndex { serial, .. } => self.tell_index(from, *serial, None),
            _ => {}
        }
    }

    /// Notes that the leader of this term spoke; false if it cannot be the leader.
    pub(crate) fn hear(&mut self, from: MemberId) -> bool {
        match &mut self.state {
            // There is one leader in a term (election safety), and it is this node.
            State::Leader(_) => return false,
            State::Candidate(_) => self.follow(self.hard.term, Some(from)),
            State::Follower(follower) => follower.leader = Some(from),
        }
        self.heard = Some(self.now);
        self.arm();
        true
    }

    /// AppendEntries.
    pub(crate) fn append_asked(&mut self, from: MemberId, append: Append) {
        if !self.hear(from) {
            return;
        }
        let Append { prev, entries, commit, round } = append;
        let heartbeat = entries.is_empty();
        let Some(outcome) = self.accept(prev, entries, commit) else { return };
        let stable = self.log.stable();
        match outcome {
            // A heartbeat is answered at once with what is stable: the quorum round need not wait for a sync.
            Outcome::Accepted { matched } if heartbeat || matched <= stable => {
                let outcome = Outcome::Accepted { matched: matched.min(stable) };
                self.send_reply(from, round, outcome, self.need_hard());
            }
            Outcome::Accepted { .. } if bug::on(Bug::AckUnsynced) => {
                self.send_reply(from, round, outcome, self.need_hard());
            }
            Outcome::Accepted { .. } => self.send_reply(from, round, outcome, self.need_all()),
            Outcome::Rejected { .. } => self.send_reply(from, round, outcome, self.need_hard()),
        }
    }

    /// Brings the log in line with the leader's. `None` if that cannot be done without undoing a commitment, or if
    /// the entries are not what any leader sends.
    fn accept(
        &mut self,
        prev: Position,
        mut entries: Vec<Entry>,
        commit: Index,
    ) -> Option<Outcome> {
        let terms = entries.iter().map(|e| e.term).chain([self.hard.term]);
        if entries.iter().zip(prev.index.0 + 1..).any(|(e, i)| e.index.0 != i)
            || entries.first().is_some_and(|e| e.term == Term::ZERO)
            || entries.iter().any(|e| !sound(&e.payload))
            || !std::iter::once(prev.term).chain(terms).is_sorted()
        {
            return None;
        }
        let end = Index(prev.index.0 + entries.len() as u64);
        let base = self.log.base();
        let mut prev = prev;
        if prev.index < base.index {
            // What lies below the base is committed, hence equal.
            entries.retain(|e| e.index > base.index);
            if end <= base.index {
                return Some(Outcome::Accepted { matched: end });
            }
            prev = base;
        }
        let fits = if bug::on(Bug::MatchByIndex) {
            self.log.term(prev.index).is_some()
        } else {
            self.log.has(prev)
        };
        if !fits {
            let conflict = self.log.conflict(prev.index);
            return Some(Outcome::Rejected { prev: prev.index, conflict });
        }
        for entry in entries {
            match self.log.term(entry.index) {
                // A repeated or late message; what came after these entries must stay.
                Some(term) if term == entry.term && !bug::on(Bug::TruncateAlways) => continue,
                Some(term) if entry.index <= self.commit && term != entry.term => {
                    self.halt("a leader lacks an entry that was committed");
                    return None;
                }
                Some(_) => self.log.truncate(entry.index),
                None => {}
            }
            self.log.append(entry);
        }
        self.reconfigure();
        let known = if bug::on(Bug::CommitUnmatched) { self.log.last().index } else { end };
        self.commit = self.commit.max(commit.min(known));
        Some(Outcome::Accepted { matched: end })
    }

    pub(crate) fn send_reply(
        &mut self,
        to: MemberId,
        round: Round,
        outcome: Outcome,
        need: Sequence,
    ) {
        let rebuilding = self.hard.rebuilding.then_some(self.life);
        self.send(to, Body::AppendReply(AppendReply { round, outcome, rebuilding }), need);
    }
}

fn sound(payload: &Payload) -> bool {
    match payload {
        Payload::Configuration(configuration) => configuration.check().is_ok(),
        Payload::Noop | Payload::Command(_) => true,
    }
}
