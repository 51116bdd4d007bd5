//! The part of a schedule that does harm, and at the end heals.
//!
//! Leaders are preferred victims, since a fault at a follower seldom matters.

use std::time::Duration;

use ::raft::Event;

use super::{Happening, Healed, Schedule};
use crate::raft::faults::Fault;

impl Schedule {
    /// One more fault, and the next one later.
    pub(super) fn strike(&mut self) {
        if self.healed.is_some() {
            return;
        }
        let next = self.now + self.dice.millis(5, self.calm);
        self.at(next, Happening::Fault);
        let fault = self.chosen[self.dice.pick(self.chosen.len())];
        let until = self.now + self.dice.millis(20, 700);
        match fault {
            Fault::Loss | Fault::Duplicate | Fault::Delay => {
                let percent = self.dice.between(5, 50);
                self.net.set_rate(fault, percent, until);
            }
            Fault::Partition => self.split(until),
            Fault::OneWay => self.deafen(until),
            Fault::Crash => {
                let victim = self.victim();
                // Some crashes come between two effects of one step.
                if self.dice.chance(50) {
                    self.members[victim].doom = Some(self.dice.between(1, 6));
                } else {
                    self.crash(victim, fault);
                }
            }
            Fault::PowerLoss => {
                for place in 0..self.members.len() {
                    self.crash(place, fault);
                }
            }
            Fault::Pause => {
                let victim = self.victim();
                if self.members[victim].node.is_some() {
                    self.members[victim].paused = until;
                    self.struck.add(fault);
                }
            }
            Fault::SlowDisk => {
                let victim = self.victim();
                self.slow.insert(victim, until);
            }
            Fault::Reorder | Fault::LostWrites | Fault::Drift => {}
        }
    }

    fn victim(&mut self) -> usize {
        let leader = self.members.iter().position(|m| m.leads());
        let any = self.dice.pick(self.members.len());
        leader.filter(|_| self.dice.chance(60)).unwrap_or(any)
    }

    /// Two parts that do not hear each other.
    fn split(&mut self, until: Duration) {
        let count = self.members.len();
        let sides: Vec<bool> = (0..count).map(|_| self.dice.chance(50)).collect();
        for from in 0..count {
            for to in 0..count {
                if sides[from] != sides[to] {
                    self.net.block((from, to), Fault::Partition, until);
                }
            }
        }
    }

    /// A member that hears nobody, or that nobody hears; or one link of it.
    fn deafen(&mut self, until: Duration) {
        let victim = self.victim();
        let hears = self.dice.chance(50);
        let whole = self.dice.chance(70);
        let count = self.members.len();
        let only = self.dice.pick(count);
        for other in (0..count).filter(|o| *o != victim && (whole || *o == only)) {
            let link = if hears { (victim, other) } else { (other, victim) };
            self.net.block(link, Fault::OneWay, until);
        }
    }

    /// Stops a member, which loses what it had not synced, and plans its return.
    pub(super) fn crash(&mut self, place: usize, fault: Fault) {
        let member = &mut self.members[place];
        if member.node.is_none() {
            return;
        }
        member.stop();
        self.struck.add(fault);
        if member.disk.crash(&mut self.dice) {
            self.struck.add(Fault::LostWrites);
        }
        let soon = self.now + self.dice.millis(0, 500);
        let at = if self.healed.is_some() { self.now } else { soon };
        self.at(at, Happening::Restart { place });
    }

    pub(super) fn restart(&mut self, place: usize) {
        let seed = self.dice.roll();
        let member = &mut self.members[place];
        if member.node.is_some() {
            return;
        }
        if let Err(error) = member.start(seed) {
            self.wrong = Some(("what a disk may hold", error.to_string()));
            return;
        }
        self.step(place, Event::Wake);
    }

    /// No more faults; from here on there must be progress.
    pub(super) fn heal(&mut self) {
        self.net.heal();
        self.slow.clear();
        for place in 0..self.members.len() {
            self.members[place].paused = Duration::ZERO;
            self.members[place].doom = None;
            self.at(self.now, Happening::Restart { place });
        }
        self.healed =
            Some(Healed { at: self.now, first: self.ticket.next(), wrote: false, read: false });
    }
}
