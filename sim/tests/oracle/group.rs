//! A group of members of one core: what a schedule does to it, and messages in lockstep rounds.

use std::collections::{BTreeMap, BTreeSet};

use crate::member::{Change, Core, HEARTBEAT, PATIENCE, TIMEOUT, View};

/// One thing that happens to a group. All that it sends is delivered before the next.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// These members' election timers run out, at once.
    Stand(Vec<u64>),
    /// Nobody hears the leader for so long that all would vote again; then this member's timer runs out.
    Lapse(u64),
    /// Commands arrive at this member.
    Propose(u64, Vec<u64>),
    /// A member takes a checkpoint.
    Checkpoint(u64),
    /// A client reads at this member; the number names the read.
    Read(u64, u64),
    /// Messages from the first to the second are lost from now on.
    Cut(Vec<(u64, u64)>),
    /// All links work again.
    Heal,
    /// A member stops and starts, and then waits for as long as one that heard a leader would.
    Restart(u64),
    /// The same without the wait.
    Reboot(u64),
    /// The first hands leadership on to the second.
    Transfer(u64, u64),
    /// This leader changes the group; a member that is removed is cut off for good once all know.
    Change(u64, Change),
    /// This leader's heartbeats are sent and answered, twice.
    Beat(u64),
    /// Some election timeouts pass, in which leaders send heartbeats.
    Pass,
}

/// A group.
pub(crate) struct Group<C> {
    members: BTreeMap<u64, C>,
    cut: BTreeSet<(u64, u64)>,
    gone: BTreeSet<u64>,
    pub(crate) delivered: u64,
}

impl<C: Core> Group<C> {
    /// Members 1 to `count` vote; `spare` more may join.
    pub(crate) fn new(count: u64, spare: u64) -> Self {
        let voters: Vec<u64> = (1..=count).collect();
        let members = (1..=count + spare).map(|id| (id, C::new(id, &voters))).collect();
        Self { members, cut: BTreeSet::new(), gone: BTreeSet::new(), delivered: 0 }
    }

    pub(crate) fn view(&self, id: u64) -> View {
        self.members[&id].view()
    }

    pub(crate) fn views(&self) -> BTreeMap<u64, View> {
        let present = self.members.iter().filter(|(id, _)| !self.gone.contains(id));
        present.map(|(id, member)| (*id, member.view())).collect()
    }

    /// Whether two members hear each other.
    pub(crate) fn linked(&self, a: u64, b: u64) -> bool {
        !self.lost(a, b) && !self.lost(b, a)
    }

    /// Whether the second hears the first, who does not hear it.
    pub(crate) fn one_way(&self, from: u64, to: u64) -> bool {
        !self.lost(from, to) && self.lost(to, from)
    }

    fn lost(&self, from: u64, to: u64) -> bool {
        self.cut.contains(&(from, to)) || self.gone.contains(&from) || self.gone.contains(&to)
    }

    fn at(&mut self, id: u64) -> &mut C {
        self.members.get_mut(&id).unwrap()
    }

    fn ticks(&mut self, id: u64, ticks: u64) {
        for _ in 0..ticks {
            self.at(id).tick();
        }
    }

    pub(crate) fn run(&mut self, op: &Op) {
        match op {
            Op::Stand(ids) => {
                for id in ids {
                    self.ticks(*id, TIMEOUT);
                    self.at(*id).stand();
                }
            }
            Op::Lapse(id) => {
                let views = self.views();
                for (other, _) in views.iter().filter(|(_, view)| !view.leads) {
                    self.ticks(*other, PATIENCE + 1);
                }
                return self.run(&Op::Stand(vec![*id]));
            }
            Op::Propose(id, commands) => {
                commands.iter().for_each(|command| self.at(*id).propose(*command));
            }
            Op::Checkpoint(id) => self.at(*id).checkpoint(),
            Op::Read(id, number) => self.at(*id).read(*number),
            Op::Cut(links) => self.cut.extend(links),
            Op::Heal => self.cut.clear(),
            Op::Reboot(id) => self.at(*id).restart(),
            Op::Restart(id) => {
                self.at(*id).restart();
                self.ticks(*id, PATIENCE + 1);
            }
            Op::Transfer(from, to) => self.at(*from).transfer(*to),
            Op::Change(leader, change) => {
                self.at(*leader).change(*change);
                self.deliver();
                self.run(&Op::Beat(*leader));
                if let Change::Remove(id) = change {
                    self.gone.insert(*id);
                }
            }
            Op::Beat(leader) => {
                for _ in 0..2 {
                    self.ticks(*leader, HEARTBEAT);
                    self.deliver();
                }
            }
            Op::Pass => {
                for _ in 0..TIMEOUT * 2 {
                    let ids: Vec<u64> = self.members.keys().copied().collect();
                    ids.into_iter().for_each(|id| self.at(id).tick());
                    self.deliver();
                }
            }
        }
        self.deliver();
    }

    /// Rounds of all messages, until there are none.
    fn deliver(&mut self) {
        for _ in 0..1000 {
            let mut mail = Vec::new();
            for (from, member) in &mut self.members {
                mail.extend(member.work().into_iter().map(|(to, letter)| (*from, to, letter)));
            }
            if mail.is_empty() {
                return;
            }
            mail.retain(|(from, to, _)| !self.lost(*from, *to) && self.members.contains_key(to));
            for (_, to, letter) in mail {
                self.delivered += 1;
                self.at(to).take(letter);
            }
        }
        panic!("the group never comes to rest");
    }
}
