//! Leadership handed on to a chosen member.
//!
//! Thesis, section 3.10: the leader takes no proposals, brings the other up to its own log, and tells it to campaign at
//! once. That campaign needs no pre-vote and is not refused by those who hear the leader. If nothing comes of it within
//! an election timeout, the leader goes on. Since the word may still be under way then, leases are over for its term.

use std::time::Duration;

use crate::effect::{Effect, Refusal};
use crate::ids::{MemberId, Sequence, Ticket};
use crate::message::Body;
use crate::node::{Node, State};

pub(crate) struct Transfer {
    pub(crate) ticket: Ticket,
    pub(crate) to: MemberId,
    /// When it is given up.
    pub(crate) until: Duration,
    /// When the other was told to campaign.
    pub(crate) told: Option<Duration>,
}

impl Node {
    /// `to` is to lead.
    pub(crate) fn transfer_asked(&mut self, ticket: Ticket, to: MemberId) {
        let leader = self.leader();
        if let Err(why) = self.begin_transfer(ticket, to) {
            self.outbox.push(Effect::TransferRefused { ticket, leader, why });
        }
    }

    fn begin_transfer(&mut self, ticket: Ticket, to: MemberId) -> Result<(), Refusal> {
        let until = self.now + self.config.election_max;
        let voter = self.voters.contains(to);
        let State::Leader(leader) = &mut self.state else { return Err(Refusal::NotLeader) };
        if self.commit < leader.first {
            return Err(Refusal::NotReady);
        } else if leader.transfer.is_some() {
            return Err(Refusal::Transferring);
        } else if leader.change.is_some() {
            return Err(Refusal::Changing);
        } else if to == self.config.id {
            return Err(Refusal::Invalid("this member leads already"));
        } else if !voter {
            return Err(Refusal::Invalid("only a voter can lead"));
        } else if leader.progress.get(&to).is_none_or(|p| p.rebuilding.is_some()) {
            return Err(Refusal::Invalid("a member that is being rebuilt cannot lead"));
        }
        leader.transfer = Some(Transfer { ticket, to, until, told: None });
        Ok(())
    }

    /// Tells the other to campaign when it has everything, again with each heartbeat; or gives up.
    pub(crate) fn advance_transfer(&mut self) {
        let (now, beat) = (self.now, self.config.heartbeat);
        let last = self.log.last().index;
        let State::Leader(leader) = &mut self.state else { return };
        let Some(transfer) = &mut leader.transfer else { return };
        let to = transfer.to;
        if now >= transfer.until {
            let ticket = transfer.ticket;
            leader.transfer = None;
            let (leader, why) = (Some(self.config.id), Refusal::GaveUp);
            self.outbox.push(Effect::TransferRefused { ticket, leader, why });
            return;
        }
        let level = leader.progress.get(&to).is_some_and(|p| p.matched == last);
        if level && transfer.told.is_none_or(|told| now >= told + beat) {
            transfer.told = Some(now);
            leader.lease.revoke();
            self.send(to, Body::TimeoutNow, Sequence::ZERO);
        }
    }

    /// The leader wants this node to lead.
    pub(crate) fn timeout_now(&mut self, from: MemberId) {
        let State::Follower(follower) = &self.state else { return };
        if follower.leader == Some(from) && self.may_campaign() {
            self.campaign(true);
        }
    }

    /// This leader leads no more: what becomes of the transfer.
    pub(crate) fn end_transfer(&mut self, transfer: &Transfer, leader: Option<MemberId>) {
        let (ticket, told, why) = (transfer.ticket, transfer.told, Refusal::Deposed);
        self.outbox.push(match told {
            Some(_) => Effect::Transferred { ticket },
            None => Effect::TransferRefused { ticket, leader, why },
        });
    }
}
