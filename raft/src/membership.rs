//! A change of the group: new voters first as learners, then both groups at once, then the new one.
//!
//! Section 6 (joint consensus) and the thesis' section 4.2.1 (a new server catches up in rounds before it counts). One
//! change at a time, each configuration committed before the next is appended, and none before this leader has
//! committed an entry of its own term. A leader that does not belong to the new group leads until it is committed, without
//! counting itself. Which configuration is in force is the log's business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::bug::{self, Bug};
use crate::configuration::Configuration;
use crate::effect::{Effect, Refusal};
use crate::ids::{Index, MemberId, Sequence, Ticket};
use crate::leader::Leader;
use crate::message::{Body, Entry, Payload};
use crate::node::{Node, State};
use crate::progress::Progress;
use crate::quorum::Voters;

/// A change that was asked for here.
pub(crate) struct Change {
    ticket: Ticket,
    target: Configuration,
    stage: Stage,
}

enum Stage {
    /// New voters are learners and must catch up; what was before comes back if they do not.
    CatchUp { races: BTreeMap<MemberId, Race>, before: Arc<Configuration> },
    /// A new voter did not; it is taken out again.
    Undo(Refusal),
    /// The group is on its way to the target.
    Going,
}

/// How a new voter catches up: rounds, each to where the log ended when it began.
#[derive(Clone, Copy)]
struct Race {
    goal: Index,
    since: Duration,
    rounds: u32,
    /// What it had when it last got anything done, and when that was.
    had: (Index, u64),
    moved: Duration,
}

/// How a race stands.
enum Standing {
    Runs,
    Done,
    Lost,
}

impl Race {
    fn new(last: Index, now: Duration) -> Self {
        Self { goal: last, since: now, rounds: 1, had: (Index::ZERO, 0), moved: now }
    }

    fn judge(&mut self, progress: &Progress, last: Index, node: &Node) -> Standing {
        let now = node.now;
        let has = (progress.matched, progress.chunks().map_or(0, |(done, _)| done));
        if has > self.had {
            self.had = has;
            self.moved = now;
        }
        if progress.matched >= self.goal && progress.rebuilding.is_none() {
            if now <= self.since + node.config.election_min {
                return Standing::Done;
            }
            if self.rounds >= node.config.catch_up_rounds {
                return Standing::Lost;
            }
            self.rounds += 1;
            (self.goal, self.since) = (last, now);
        }
        if now >= self.moved + node.config.catch_up_patience {
            return Standing::Lost;
        }
        Standing::Runs
    }
}

impl Node {
    /// The group is to become `target`.
    pub(crate) fn change_asked(&mut self, ticket: Ticket, mut target: Configuration) {
        for list in [&mut target.voters, &mut target.outgoing, &mut target.learners] {
            list.sort_unstable();
        }
        let (leader, begun) = (self.leader(), self.begin_change(ticket, target));
        if let Err(why) = begun {
            self.outbox.push(Effect::ChangeRefused { ticket, leader, why });
        }
    }

    fn begin_change(&mut self, ticket: Ticket, target: Configuration) -> Result<(), Refusal> {
        let State::Leader(leader) = &self.state else { return Err(Refusal::NotLeader) };
        let (configured, current) = self.log.configuration().clone();
        if leader.transfer.is_some() {
            return Err(Refusal::Transferring);
        } else if self.commit < leader.first {
            // A change by a leader that has committed nothing yet may overlap one that an earlier leader began
            // (Ongaro's correction of the single-server algorithm, 2015).
            return Err(Refusal::NotReady);
        } else if leader.change.is_some() || configured > self.commit || current.is_joint() {
            return Err(Refusal::Changing);
        } else if target.is_joint() {
            return Err(Refusal::Invalid("a change names voters and learners, nothing else"));
        }
        target.check().map_err(Refusal::Invalid)?;
        let new = target.voters.iter().copied().filter(|id| !current.votes(*id));
        let new: Vec<MemberId> = new.collect();
        let mut stage = Stage::Going;
        if !new.is_empty() {
            let mut with = (*current).clone();
            with.learners.extend(new.iter().filter(|id| !current.contains(**id)));
            with.learners.sort_unstable();
            with.check().map_err(Refusal::Invalid)?;
            if with != *current {
                self.configure(with);
            }
            let last = self.log.last().index;
            let races = new.iter().map(|id| (*id, Race::new(last, self.now))).collect();
            stage = Stage::CatchUp { races, before: current };
        } else if target != *current {
            self.go_to(&target);
        }
        if let State::Leader(leader) = &mut self.state {
            leader.change = Some(Change { ticket, target, stage });
        }
        Ok(())
    }

    /// Appends the configuration that leads to `target`: a joint one, unless the same members vote.
    fn go_to(&mut self, target: &Configuration) {
        let current = self.log.configuration().1.clone();
        let mut next = target.clone();
        if next.voters != current.voters && !bug::on(Bug::NoJoint) {
            next.outgoing.clone_from(&current.voters);
        }
        self.configure(next);
    }

    /// Appends a configuration, which is in force from now on.
    fn configure(&mut self, configuration: Configuration) {
        let (index, term) = (self.log.last().index.next(), self.hard.term);
        let payload = Payload::Configuration(Arc::new(configuration));
        self.log.append(Entry { index, term, payload });
        self.reconfigure();
    }

    /// Goes on with a change, this leader's or one that it found in its log.
    pub(crate) fn advance_change(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let (configured, current) = self.log.configuration().clone();
        let early = bug::on(Bug::LeaveJointEarly) && current.is_joint();
        if (configured > self.commit && !early) || self.commit < leader.first {
            return;
        }
        if current.is_joint() {
            // Both majorities have it: the old one is needed no more.
            let Configuration { voters, learners, .. } = (*current).clone();
            self.configure(Configuration { voters, learners, ..Configuration::default() });
            return;
        }
        self.advance_own_change(configured, &current);
        if !current.votes(self.config.id) && *self.log.configuration() == (configured, current) {
            self.retire();
        }
    }

    fn advance_own_change(&mut self, configured: Index, current: &Arc<Configuration>) {
        let State::Leader(leader) = &mut self.state else { return };
        let Some(mut change) = leader.change.take() else { return };
        let ticket = change.ticket;
        match &mut change.stage {
            Stage::Going if change.target == **current => {
                self.outbox.push(Effect::Changed { ticket, index: configured });
                return;
            }
            Stage::Going => {}
            Stage::Undo(why) => {
                let (leader, why) = (Some(self.config.id), *why);
                self.outbox.push(Effect::ChangeRefused { ticket, leader, why });
                return;
            }
            Stage::CatchUp { races, before } => match self.judge(races) {
                Some(Ok(())) => {
                    self.go_to(&change.target);
                    change.stage = Stage::Going;
                }
                Some(Err(id)) => {
                    if before != current {
                        self.configure((**before).clone());
                    }
                    change.stage = Stage::Undo(Refusal::Behind(id));
                }
                None => {}
            },
        }
        if let State::Leader(leader) = &mut self.state {
            leader.change = Some(change);
        }
    }

    /// Whether all new voters have caught up, or who never will.
    fn judge(&self, races: &mut BTreeMap<MemberId, Race>) -> Option<Result<(), MemberId>> {
        let State::Leader(leader) = &self.state else { return None };
        let last = self.log.last().index;
        let mut all = true;
        for (id, race) in races {
            match leader.progress.get(id).map(|p| race.judge(p, last, self)) {
                Some(Standing::Done) => {}
                Some(Standing::Runs) => all = false,
                Some(Standing::Lost) | None => return Some(Err(*id)),
            }
        }
        all.then_some(Ok(()))
    }

    /// The new group is committed, and this leader is not in it.
    fn retire(&mut self) {
        let State::Leader(leader) = &self.state else { return };
        let voters = leader.progress.iter().filter(|(id, _)| self.voters.contains(**id));
        let next = voters.max_by_key(|(_, p)| p.matched).map(|(id, _)| *id);
        self.send_commit();
        if let Some(to) = next {
            // So that the group need not wait for a timeout.
            self.send(to, Body::TimeoutNow, Sequence::ZERO);
        }
        self.follow(self.hard.term, None);
    }
}

/// Who belongs to the group, as this node's log says.
impl Node {
    /// Whether it needs nobody else to lead.
    pub(crate) fn alone(&self) -> bool {
        self.voters.alone(self.config.id) && !self.hard.rebuilding
    }

    /// Whether this member may lead: it votes in the configuration in force, or in the one that comes back if that is
    /// undone. A member that is being removed is sometimes the only one with a log that can win (thesis, 4.2.2).
    pub(crate) fn may_campaign(&self) -> bool {
        let possible = self.log.possible(self.commit);
        !self.hard.rebuilding && possible.iter().any(|(_, c)| c.votes(self.config.id))
    }

    /// Whether `id` belongs to the group, or will again if the newest configuration is undone.
    pub(crate) fn is_member(&self, id: MemberId) -> bool {
        self.log.possible(self.commit).iter().any(|(_, c)| c.contains(id))
    }

    /// The log changed: perhaps another configuration is in force.
    pub(crate) fn reconfigure(&mut self) {
        let configuration = &self.log.configuration().1;
        // Not by its place: another one may stand where one was undone.
        if !Arc::ptr_eq(configuration, &self.group) {
            self.group = configuration.clone();
            self.voters = Voters::new(configuration);
            self.regroup();
        }
    }
}

impl Leader {
    /// The group is another one: begins with new members, and goes on for a while with those that left, so that they learn
    /// of it.
    pub(crate) fn regroup(
        &mut self,
        members: &[MemberId],
        leaving: &[MemberId],
        last: Index,
        (now, until): (Duration, Duration),
    ) {
        for id in members.iter().chain(leaving) {
            self.progress.entry(*id).or_insert_with(|| Progress::new(last, now));
        }
        for (id, progress) in &mut self.progress {
            let stays = members.contains(id);
            progress.leaves = if stays { None } else { progress.leaves.or(Some(until)) };
        }
    }

    /// The change that was under way is not this node's any more.
    pub(crate) fn abandon_change(&mut self) -> Option<Ticket> {
        self.change.take().map(|change| change.ticket)
    }
}
