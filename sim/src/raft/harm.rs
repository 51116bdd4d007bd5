//! What can be done to a group: faults of the network, of members and of their disks, and how all of it is healed.
//!
//! When, how often and which, a schedule decides. Leaders are preferred victims, since a fault at a follower seldom
//! matters.

use std::time::Duration;

use super::faults::Fault;
use super::group::Group;
use crate::dice::Dice;

impl<A> Group<A> {
    /// A member, rather a leader.
    pub(crate) fn victim(&self, dice: &mut Dice) -> usize {
        let any = dice.pick(self.members.len());
        self.leader().filter(|_| dice.chance(60)).unwrap_or(any)
    }

    /// Lets a fault loose that ends by itself, at a victim if it needs one.
    pub(crate) fn harm(&mut self, dice: &mut Dice, fault: Fault, victim: usize, until: Duration) {
        match fault {
            Fault::Loss | Fault::Duplicate | Fault::Delay => {
                let percent = dice.between(5, 50);
                self.net.set_rate(fault, percent, until);
            }
            Fault::Lag => self.lag(dice, victim, until),
            Fault::Partition => self.split(dice, until),
            Fault::OneWay => self.deafen(dice, victim, until),
            Fault::Crash => {
                // Some crashes come between two effects of one step.
                if dice.chance(50) {
                    self.members[victim].doom = Some(dice.between(1, 6));
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
                if self.members[victim].node.is_some() {
                    self.members[victim].paused = until;
                    self.struck.add(fault);
                }
            }
            Fault::SlowDisk => {
                self.slow.insert(victim, until);
            }
            Fault::SpoiledChunk => {
                // Whoever is sent a checkpoint next.
                for member in &mut self.members {
                    member.disk.spoil = true;
                }
            }
            // These come by themselves, or need more than a victim.
            Fault::Flap | Fault::EmptyDisk | Fault::Reorder | Fault::LostWrites | Fault::Drift => {}
        }
    }

    /// Two parts that do not hear each other.
    fn split(&mut self, dice: &mut Dice, until: Duration) {
        let count = self.members.len();
        let sides: Vec<bool> = (0..count).map(|_| dice.chance(50)).collect();
        for from in 0..count {
            for to in 0..count {
                if sides[from] != sides[to] {
                    self.net.block((from, to), Fault::Partition, until);
                }
            }
        }
    }

    /// A member that hears nobody, or that nobody hears; or one link of it.
    fn deafen(&mut self, dice: &mut Dice, victim: usize, until: Duration) {
        let hears = dice.chance(50);
        let whole = dice.chance(70);
        let count = self.members.len();
        let only = dice.pick(count);
        for other in (0..count).filter(|o| *o != victim && (whole || *o == only)) {
            let link = if hears { (victim, other) } else { (other, victim) };
            self.net.block(link, Fault::OneWay, until);
        }
    }

    /// A member hears everybody late; after a while nobody hears it any more, and what was on its way still arrives.
    fn lag(&mut self, dice: &mut Dice, victim: usize, until: Duration) {
        let by = dice.millis(20, 190);
        for other in (0..self.members.len()).filter(|o| *o != victim) {
            self.net.lag((other, victim), by, until);
            if dice.chance(30) {
                self.net.lag((victim, other), by, until);
            }
        }
    }

    /// No more faults, and everybody is up.
    pub(crate) fn heal(&mut self) {
        self.net.heal();
        self.slow.clear();
        self.absence = 1;
        for place in 0..self.members.len() {
            let member = &mut self.members[place];
            member.paused = Duration::ZERO;
            member.doom = None;
            member.disk.spoil = false;
            self.restart(place);
        }
    }
}
