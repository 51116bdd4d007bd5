//! A candidate: asks first whether it could win, then for votes.
//!
//! Section 5.2; the pre-vote is the thesis' section 9.6: a member that was cut off comes back without raising the
//! term, so without deposing the leader. Its own vote counts like any other, when it is on stable storage.

use std::collections::BTreeSet;

use crate::bug::{self, Bug};
use crate::effect::HardState;
use crate::ids::{MemberId, Sequence, Term};
use crate::message::Body;
use crate::node::{Node, State};

pub(crate) struct Candidate {
    stage: Stage,
    granted: BTreeSet<MemberId>,
}

enum Stage {
    /// Nothing has changed yet, in term or on disk.
    PreVote,
    /// Campaigns; its own vote is in this persist.
    Vote(Sequence),
}

impl Node {
    /// The election timer ran out.
    pub(crate) fn pre_campaign(&mut self) {
        self.arm();
        let granted = BTreeSet::from([self.config.id]);
        self.state = State::Candidate(Candidate { stage: Stage::PreVote, granted });
        self.refuse_asks(None, true);
        if self.alone() {
            return self.campaign(false);
        }
        let last = self.log.last();
        self.ask(self.hard.term.next(), &Body::PreVote { last }, self.need_hard());
    }

    /// Votes for itself in a new term and asks the others to do so; with `transfer` because the leader wants it.
    pub(crate) fn campaign(&mut self, transfer: bool) {
        self.refuse_asks(None, true);
        let (term, vote) = (self.hard.term.next(), Some(self.config.id));
        self.set_hard(HardState { term, vote, ..self.hard });
        self.arm();
        let mut need = self.need_all();
        let stage = Stage::Vote(need);
        let mut granted = BTreeSet::new();
        if bug::on(Bug::OwnVoteUnsynced) {
            need = Sequence::ZERO;
            granted.insert(self.config.id);
        }
        self.state = State::Candidate(Candidate { stage, granted });
        let last = self.log.last();
        self.ask(self.hard.term, &Body::Vote { last, transfer }, need);
    }

    fn ask(&mut self, term: Term, body: &Body, need: Sequence) {
        let others: Vec<MemberId> = self.voters.others(self.config.id).collect();
        for to in others {
            self.send_as(term, to, body.clone(), need);
        }
    }

    pub(crate) fn pre_vote_answered(&mut self, from: MemberId, term: Term, granted: bool) {
        let current = self.hard.term;
        if let State::Candidate(Candidate { stage: Stage::PreVote, granted: all }) = &mut self.state
            && granted
            && term == current.next()
        {
            all.insert(from);
            if self.voters.carried(|m| all.contains(&m)) {
                self.campaign(false);
            }
        }
    }

    pub(crate) fn vote_answered(&mut self, from: MemberId, granted: bool) {
        if let State::Candidate(Candidate { stage: Stage::Vote(_), granted: all }) = &mut self.state
            && granted
        {
            all.insert(from);
            if self.voters.carried(|m| all.contains(&m)) {
                self.lead();
            }
        }
    }

    /// The disk moved on; perhaps this node's own vote is there now.
    pub(crate) fn own_vote_stored(&mut self) {
        if let State::Candidate(Candidate { stage: Stage::Vote(own), .. }) = &self.state
            && self.outbox.is_done(*own)
        {
            self.vote_answered(self.config.id, true);
        }
    }
}
