//! What arrives, and the terms that it bears.
//!
//! Section 5.1: a newer term makes anyone a follower, an older one is told so. What a message then does is in the file
//! of the role that it concerns.

use crate::bug::{self, Bug};
use crate::effect::{Effect, HardState, Refusal};
use crate::follower::Follower;
use crate::ids::{MemberId, Term};
use crate::leader::Leader;
use crate::message::{Body, Message};
use crate::node::{Node, State};
use crate::read::Asker;

impl Node {
    /// A message arrived.
    pub(crate) fn receive(&mut self, message: Message) {
        let Message { from, to, term, body } = message;
        // Whoever it is: a member that lags may not know the newest group yet (section 6). Whose vote counts is decided
        // where votes are counted.
        if to != self.config.id || from == to {
            return;
        }
        match body {
            Body::PreVote { last } => return self.pre_vote_asked(from, term, last),
            // A member that cannot hear the leader must not depose one that others hear (thesis, 4.2.3).
            Body::Vote { transfer: false, .. } if term >= self.hard.term && self.hears_leader() => {
                return;
            }
            // A member that was removed, and is being told so, must not depose the leader by its answers.
            Body::AppendReply(_) | Body::InstallReply(_)
                if term > self.hard.term && !self.is_member(from) =>
            {
                return;
            }
            _ => {}
        }
        if term > self.hard.term {
            match body {
                // Bears the term that was asked about.
                Body::PreVoteReply { granted: true } => {}
                Body::Append(_) | Body::Install(_) => self.follow(term, Some(from)),
                _ => self.follow(term, None),
            }
        } else if term < self.hard.term
            && !(bug::on(Bug::StaleAnswers) && matches!(body, Body::AppendReply(_)))
        {
            return self.answer_stale(from, &body);
        }
        match body {
            Body::PreVote { .. } => {}
            Body::PreVoteReply { granted } => self.pre_vote_answered(from, term, granted),
            Body::Vote { last, .. } => self.vote_asked(from, last),
            Body::VoteReply { granted } => self.vote_answered(from, granted),
            Body::Append(append) => self.append_asked(from, append),
            Body::AppendReply(reply) => self.append_answered(from, &reply),
            Body::Install(install) => self.install_asked(from, install),
            Body::InstallReply(reply) => self.install_answered(from, &reply),
            Body::TimeoutNow => self.timeout_now(from),
            Body::ReadIndex { serial, mode } => self.index_asked(from, serial, mode),
            Body::ReadIndexReply { serial, index } => self.read_answered(serial, index),
            Body::Rebuilt { upto, life } => self.rebuilt(from, upto, life),
        }
    }

    /// Becomes a follower, in this term or a newer one, and gives up what only a leader can answer.
    pub(crate) fn follow(&mut self, term: Term, leader: Option<MemberId>) {
        if term > self.hard.term {
            self.set_hard(HardState { term, vote: None, ..self.hard });
        }
        let old = std::mem::replace(&mut self.state, State::Follower(Follower { leader }));
        match old {
            State::Leader(old) => {
                self.resign(*old, leader);
                self.arm();
            }
            State::Candidate(_) => self.arm(),
            // Its timer runs on: only a leader or a granted vote puts a campaign off.
            State::Follower(old) => {
                if old.leader != leader {
                    self.refuse_asks(leader, true);
                }
            }
        }
    }

    /// Gives up what only a leader can answer.
    fn resign(&mut self, mut old: Leader, leader: Option<MemberId>) {
        if let Some(ticket) = old.abandon_change() {
            let why = Refusal::Deposed;
            self.outbox.push(Effect::ChangeRefused { ticket, leader, why });
        }
        if let Some(transfer) = &old.transfer {
            self.end_transfer(transfer, leader);
        }
        for asker in old.reads.abandon() {
            match asker {
                Asker::Here(ticket) => self.outbox.push(Effect::ReadRefused { ticket, leader }),
                Asker::There(member, serial) => self.tell_index(member, serial, None),
            }
        }
    }
}
