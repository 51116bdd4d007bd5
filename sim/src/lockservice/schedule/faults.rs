//! What goes wrong, and when: the faults of consensus, and those between clients and coordinators.

use std::{sync::Arc, time::Duration};

use lockservice::{
    LockGroup, Service as _, Shard,
    message::{GroupCommand, GroupReply},
};

use super::{Actor, LEASE, LEASE_MILLIS, Schedule};
use crate::{
    dice::Dice,
    lockservice::{
        history::JUDGED,
        work::{NAMES, name},
    },
    raft::{
        Options,
        faults::{Fault, choose},
    },
};

/// The link of whoever moves lock groups.
const OPERATOR: usize = 2_000;

/// Which faults a schedule has.
pub(super) struct Trouble {
    chosen: Vec<Fault>,
    /// Percent of clients' messages that are in trouble when nothing special is up.
    pub(super) base: u64,
    /// The longest time between two faults, in milliseconds.
    pause: u64,
    /// Faults that may still strike.
    strikes: u64,
    /// Only streams are in trouble, so that one leader sees for long that a holder does not answer.
    streams_only: bool,
}

impl Trouble {
    pub(super) fn new(dice: &mut Dice, coordinators: usize, options: &Options) -> Self {
        let mut chosen = choose(dice, coordinators, false);
        // An emptied disk, and a link that flaps, are left to the schedules of consensus.
        chosen.retain(|fault| ![Fault::EmptyDisk, Fault::Flap].contains(fault));
        chosen.retain(|fault| !options.without.contains(fault));
        Self {
            chosen,
            base: dice.between(0, 6),
            pause: [400, 900, 2_000][dice.pick(3)],
            strikes: options.strikes.unwrap_or(u64::MAX),
            streams_only: dice.chance(15),
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.strikes == 0
    }
}

impl Schedule {
    /// One more fault, and the next one later.
    pub(super) fn strike(&mut self) {
        if self.healed.is_some() || self.trouble.is_over() {
            return;
        }
        self.trouble.strikes -= 1;
        let now = self.group.now;
        let next = now + self.dice.millis(20, self.trouble.pause);
        self.group.at(next, Actor::Fault);
        let seat = self.dice.pick(self.seats.len());
        if self.trouble.streams_only {
            return if self.dice.chance(70) { self.deafen(seat) } else { self.hinder(seat) };
        }
        let lease = LEASE_MILLIS;
        if !self.sides.is_empty() && self.dice.chance(30) {
            self.disturb_shards();
            return;
        }
        match self.dice.between(0, 100) {
            0..36 => self.harm_the_group(),
            36..41 => self.stall(),
            41..47 => self.hinder(seat),
            47..60 => {
                let most = if self.dice.chance(40) { lease * 5 / 2 } else { lease / 2 };
                let takes = self.dice.millis(20, most);
                self.freeze(seat, takes);
            }
            60..78 => {
                let most = if self.dice.chance(40) { lease * 2 } else { lease / 2 };
                let until = self.ether.clock.now() + self.dice.millis(20, most);
                let all = self.dice.chance(60);
                let only = self.dice.pick(self.replicas.len());
                for place in (0..self.replicas.len()).filter(|place| all || *place == only) {
                    self.links.lock().cut(seat, place, until);
                }
            }
            78..88 => {
                self.links.lock().trouble = self.dice.between(10, 50);
                let until = now + self.dice.millis(200, 3_000);
                self.group.at(until, Actor::Fair);
            }
            _ => {
                if self.seats[seat].alive {
                    self.links.lock().strike("client killed");
                    self.leave(seat);
                }
            }
        }
    }

    /// A lock group is to be moved, or another coordinator comes to lead a shard.
    fn disturb_shards(&mut self) {
        if self.dice.chance(40) {
            let side = self.dice.pick(self.sides.len());
            let place = self.dice.pick(self.replicas.len());
            self.sides[side].lock().elect(place, self.ether.clock.now());
            self.links.lock().strike("shard under another leader");
            return;
        }
        self.move_some();
    }

    /// A lock group is to be moved.
    pub(super) fn move_some(&mut self) {
        let shards = self.sides.len() as u64 + 1;
        let number = self.dice.between(0, NAMES + JUDGED.end - JUDGED.start);
        let number = if number < NAMES { number } else { JUDGED.start };
        let group = LockGroup::of(name(true, number));
        let to = Shard(u32::try_from(self.dice.between(0, shards)).unwrap_or_default());
        let (ether, home) = (self.ether.clone(), self.router(OPERATOR, &self.ether));
        let judge = Arc::clone(&self.judge);
        self.links.lock().strike("lock group moved");
        if self.healed.is_none() && self.dice.chance(50) {
            // What the loser has said of it arrives after what the gainer says.
            let place = self.dice.pick(self.replicas.len());
            let until = self.ether.clock.now() + self.dice.millis(300, 2_500);
            (0..self.seats.len()).for_each(|seat| self.links.lock().slow(seat, place, until));
        }
        ether.clone().spawn("move", async move {
            let deadline = ether.clock.now() + LEASE;
            let asked = home.direct(GroupCommand::Move { group, to }, deadline).await;
            if asked == Ok(GroupReply::Done) {
                judge.lock().count("moves of lock groups recorded");
            }
        });
    }

    /// The consensus of a coordinator gets nothing done, its disk perhaps, while its servers answer.
    fn stall(&mut self) {
        let place = self.group.victim(&mut self.dice);
        if self.group.members[place].node.is_some() {
            let until = self.group.now + self.dice.millis(200, 12_000);
            self.group.members[place].paused = until;
            self.coordinators[place].stalled = until;
            self.links.lock().strike("consensus stalled");
        }
    }

    /// Streams that are slow or swallow all, or a renewal that is answered late and then silence.
    fn hinder(&mut self, seat: usize) {
        match self.dice.between(0, 3) {
            0 => {
                let place = self.dice.pick(self.replicas.len());
                let until = self.ether.clock.now() + self.dice.millis(100, 2_500);
                self.links.lock().slow(seat, place, until);
            }
            1 => self.deafen(seat),
            _ => self.links.lock().waylay(seat, LEASE * 2),
        }
    }

    /// Streams swallow all. Twice the lease is what a holder has that hears nothing, so at times it must be fenced;
    /// and at times nothing passes that it says when that is decided.
    fn deafen(&mut self, seat: usize) {
        let least = if self.dice.chance(50) { LEASE * 3 } else { Duration::ZERO };
        let takes = least + self.dice.millis(100, LEASE_MILLIS * 3);
        self.links.lock().deafen(seat, self.ether.clock.now() + takes);
        if self.dice.chance(50) {
            let mute = self.group.now + LEASE * 2 + self.dice.millis(0, LEASE_MILLIS);
            self.group.at(mute, Actor::Mute(seat));
        }
    }

    fn harm_the_group(&mut self) {
        if self.trouble.chosen.is_empty() {
            return;
        }
        let fault = self.trouble.chosen[self.dice.pick(self.trouble.chosen.len())];
        let victim = self.group.victim(&mut self.dice);
        // Long enough, at times, for a deposed leader to be asked by clients that do not know.
        let most = if self.dice.chance(40) { 6_000 } else { 900 };
        let until: Duration = self.group.now + self.dice.millis(20, most);
        self.group.harm(&mut self.dice, fault, victim, until);
    }
}
