//! An operator who cannot sit still: hands leadership on, adds and removes voters and learners, all at random times.

use ::raft::{Configuration, Event, MemberId};

use super::{Actor, Schedule};

/// The most voters that a random group gets.
const VOTERS: usize = 5;

impl Schedule {
    /// One more order, at the member that is taken for the leader, and the next one later.
    pub(super) fn operate(&mut self) {
        if self.healed.is_some() {
            return;
        }
        let next = self.group.now + self.dice.millis(30, 500);
        self.group.at(next, Actor::Operator);
        let place = self.group.hint;
        let member = &self.group.members[place];
        if member.node.is_none() || member.paused > self.group.now {
            return;
        }
        let ticket = self.next_ticket();
        let event = if self.dice.chance(40) {
            let to = MemberId(self.dice.between(1, self.group.members.len() as u64 + 1));
            Event::Transfer { ticket, to }
        } else {
            Event::Change { ticket, target: self.target_group(place) }
        };
        self.group.step(place, event);
    }

    /// Another group: mostly a small step from what the member at `place` is in, sometimes any.
    fn target_group(&mut self, place: usize) -> Configuration {
        let known = self.group.statuses[place].as_ref().map(|s| s.configuration.clone());
        let mut target = Configuration::default();
        let any = self.dice.chance(40);
        for id in (1..=self.group.members.len() as u64).map(MemberId) {
            let now = known.as_ref().map(|c| (c.voters.contains(&id), c.learners.contains(&id)));
            let stays = !any && self.dice.chance(75);
            let (votes, learns) = now
                .filter(|_| stays)
                .unwrap_or_else(|| (self.dice.chance(55), self.dice.chance(40)));
            if votes && target.voters.len() < VOTERS {
                target.voters.push(id);
            } else if learns {
                target.learners.push(id);
            }
        }
        if target.voters.is_empty() {
            let id = MemberId(place as u64 + 1);
            target.learners.retain(|l| *l != id);
            target.voters.push(id);
        }
        target
    }
}
