//! The part of a schedule that does harm, and at the end heals.
//!
//! What a fault does to the group is in `harm`; here is which of them strikes, and when.

use super::{Actor, Healed, Schedule};
use crate::raft::faults::Fault;

impl Schedule {
    /// One more fault, and the next one later.
    pub(super) fn strike(&mut self) {
        if self.healed.is_some() || self.strikes == 0 || self.chosen.is_empty() {
            return;
        }
        self.strikes -= 1;
        let now = self.group.now;
        let next = now + self.dice.millis(5, self.calm);
        self.group.at(next, Actor::Fault);
        let fault = self.chosen[self.dice.pick(self.chosen.len())];
        let until = now + self.dice.millis(20, 700);
        let victim = self.group.victim(&mut self.dice);
        match fault {
            Fault::Flap => {
                let other = self.dice.pick(self.group.members.len());
                let times = self.dice.between(4, 30);
                self.flap(victim, other, times);
            }
            Fault::EmptyDisk => self.empty(victim),
            other => self.group.harm(&mut self.dice, other, victim, until),
        }
    }

    /// A link goes down or comes back, and will again.
    pub(super) fn flap(&mut self, one: usize, other: usize, times: u64) {
        if times == 0 || one == other || self.healed.is_some() {
            return;
        }
        let until = self.group.now + self.dice.millis(5, 60);
        if times.is_multiple_of(2) {
            self.group.net.block((one, other), Fault::Flap, until);
            self.group.net.block((other, one), Fault::Flap, until);
        }
        self.group.at(until, Actor::Flap(one, other, times - 1));
    }

    /// A member loses all it had, unless another one is still without.
    fn empty(&mut self, victim: usize) {
        let members = &self.group.members;
        if members[victim].node.is_none() || members.iter().any(|m| m.disk.is_emptied()) {
            return;
        }
        self.group.crash(victim, Fault::EmptyDisk);
        self.group.members[victim].disk.replace();
    }

    /// No more faults; from here on there must be progress.
    pub(super) fn heal(&mut self) {
        self.group.heal();
        let first = self.ticket.next();
        self.healed = Some(Healed { at: self.group.now, first, wrote: false, read: false });
    }
}
