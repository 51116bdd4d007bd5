//! The part of a schedule that does harm, and at the end heals.
//!
//! Leaders are preferred victims, since a fault at a follower seldom matters.

use std::time::Duration;

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
        let victim = self.victim();
        match fault {
            Fault::Loss | Fault::Duplicate | Fault::Delay => {
                let percent = self.dice.between(5, 50);
                self.group.net.set_rate(fault, percent, until);
            }
            Fault::Lag => self.lag(victim, until),
            Fault::Partition => self.split(until),
            Fault::OneWay => self.deafen(victim, until),
            Fault::Flap => {
                let other = self.dice.pick(self.group.members.len());
                let times = self.dice.between(4, 30);
                self.flap(victim, other, times);
            }
            Fault::Crash => {
                // Some crashes come between two effects of one step.
                if self.dice.chance(50) {
                    self.group.members[victim].doom = Some(self.dice.between(1, 6));
                } else {
                    self.group.crash(victim, fault);
                }
            }
            Fault::PowerLoss => {
                for place in 0..self.group.members.len() {
                    self.group.crash(place, fault);
                }
            }
            Fault::Pause => {
                if self.group.members[victim].node.is_some() {
                    self.group.members[victim].paused = until;
                    self.group.struck.add(fault);
                }
            }
            Fault::SlowDisk => {
                self.group.slow.insert(victim, until);
            }
            Fault::SpoiledChunk => {
                // Whoever is sent a checkpoint next.
                for member in &mut self.group.members {
                    member.disk.spoil = true;
                }
            }
            Fault::EmptyDisk => self.empty(victim),
            Fault::Reorder | Fault::LostWrites | Fault::Drift => {}
        }
    }

    fn victim(&mut self) -> usize {
        let any = self.dice.pick(self.group.members.len());
        let leader = self.group.leader();
        leader.filter(|_| self.dice.chance(60)).unwrap_or(any)
    }

    /// Two parts that do not hear each other.
    fn split(&mut self, until: Duration) {
        let count = self.group.members.len();
        let sides: Vec<bool> = (0..count).map(|_| self.dice.chance(50)).collect();
        for from in 0..count {
            for to in 0..count {
                if sides[from] != sides[to] {
                    self.group.net.block((from, to), Fault::Partition, until);
                }
            }
        }
    }

    /// A member that hears nobody, or that nobody hears; or one link of it.
    fn deafen(&mut self, victim: usize, until: Duration) {
        let hears = self.dice.chance(50);
        let whole = self.dice.chance(70);
        let count = self.group.members.len();
        let only = self.dice.pick(count);
        for other in (0..count).filter(|o| *o != victim && (whole || *o == only)) {
            let link = if hears { (victim, other) } else { (other, victim) };
            self.group.net.block(link, Fault::OneWay, until);
        }
    }

    /// A member hears everybody late; after a while nobody hears it any more, and what was on its way still arrives.
    fn lag(&mut self, victim: usize, until: Duration) {
        let by = self.dice.millis(20, 190);
        for other in (0..self.group.members.len()).filter(|o| *o != victim) {
            self.group.net.lag((other, victim), by, until);
            if self.dice.chance(30) {
                self.group.net.lag((victim, other), by, until);
            }
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
        self.group.net.heal();
        self.group.slow.clear();
        self.group.absence = 1;
        for place in 0..self.group.members.len() {
            let member = &mut self.group.members[place];
            member.paused = Duration::ZERO;
            member.doom = None;
            member.disk.spoil = false;
            self.group.restart(place);
        }
        let first = self.ticket.next();
        self.healed = Some(Healed { at: self.group.now, first, wrote: false, read: false });
    }
}
