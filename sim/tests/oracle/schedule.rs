//! Schedules from a seed, and the comparison after each step.

use std::collections::{BTreeMap, BTreeSet};

use sim::dice::Dice;

use crate::group::{Group, Op};
use crate::member::{Change, View};
use crate::ours::Ours;
use crate::theirs::Theirs;

/// Steps of a schedule.
const STEPS: usize = 60;

/// What schedules did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) steps: u64,
    pub(crate) delivered: u64,
    pub(crate) terms: u64,
    pub(crate) committed: u64,
    /// Entries that a member had and lost to another leader's.
    pub(crate) replaced: u64,
    /// Leaders that stood down without a word from another.
    pub(crate) lonely: u64,
    pub(crate) transferred: u64,
    pub(crate) changed: u64,
    /// Checkpoints taken, and members that were brought up by one.
    pub(crate) checkpoints: u64,
    pub(crate) restored: u64,
    /// Reads that were answered, at leaders and at others.
    pub(crate) read: [u64; 2],
    /// Candidates that were refused, by both.
    pub(crate) refused: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.delivered += other.delivered;
        self.terms += other.terms;
        self.committed += other.committed;
        self.replaced += other.replaced;
        self.lonely += other.lonely;
        self.transferred += other.transferred;
        self.changed += other.changed;
        self.checkpoints += other.checkpoints;
        self.restored += other.restored;
        self.read[0] += other.read[0];
        self.read[1] += other.read[1];
        self.refused += other.refused;
    }
}

/// Both groups, and what the schedule must know to go on.
struct Pair {
    ours: Group<Ours>,
    theirs: Group<Theirs>,
    /// Members that were restarted and have not heard a leader since.
    fresh: BTreeSet<u64>,
    /// Members that hear a leader who does not hear them, or did since they were last heard.
    unheard: BTreeSet<u64>,
    spare: BTreeSet<u64>,
    cut: bool,
    commands: u64,
    tally: Tally,
}

/// Runs the schedule of this seed through both cores.
///
/// # Errors
/// Says after which happenings the two differ, and in what.
pub(crate) fn run(seed: u64) -> Result<Tally, String> {
    let mut dice = Dice::new(seed);
    let count = if dice.chance(50) { 3 } else { 5 };
    let mut pair = Pair {
        ours: Group::new(count, 2),
        theirs: Group::new(count, 2),
        fresh: BTreeSet::new(),
        unheard: BTreeSet::new(),
        spare: BTreeSet::from([count + 1, count + 2]),
        cut: false,
        commands: 0,
        tally: Tally::default(),
    };
    let mut story = Vec::new();
    for _ in 0..STEPS {
        let Some(op) = pair.choose(&mut dice) else { continue };
        story.push(op.clone());
        pair.step(&op).map_err(|why| {
            let last = story.iter().rev().take(12).rev();
            format!("{why}\nafter: {:#?}", last.map(|op| format!("{op:?}")).collect::<Vec<_>>())
        })?;
    }
    pair.tally.delivered = pair.ours.delivered + pair.theirs.delivered;
    let views = pair.ours.views();
    pair.tally.terms = views.values().map(|view| view.term).max().unwrap_or_default();
    pair.tally.committed = views.values().map(|view| view.commit).max().unwrap_or_default();
    Ok(pair.tally)
}

impl Pair {
    /// The leader of the newest term that a majority hears and is heard by.
    fn leader(&self) -> Option<(u64, View)> {
        let views = self.ours.views();
        let newest = views.into_iter().filter(|(_, v)| v.leads).max_by_key(|(_, v)| v.term)?;
        let (id, view) = &newest;
        let near = view.voters.iter().filter(|v| **v == *id || self.ours.linked(*id, **v)).count();
        (near * 2 > view.voters.len()).then_some(newest)
    }

    fn choose(&mut self, dice: &mut Dice) -> Option<Op> {
        let views = self.ours.views();
        let ids: Vec<u64> = views.keys().copied().filter(|id| !self.spare.contains(id)).collect();
        let voters: Vec<u64> =
            ids.iter().copied().filter(|id| views[id].voters.contains(id)).collect();
        let leads: Vec<u64> = ids.iter().copied().filter(|id| views[id].leads).collect();
        let any = voters[dice.pick(voters.len())];
        let other = voters[dice.pick(voters.len())];
        // See `differences`: a pre-vote for the very term that the asked one is in.
        let equal = |id: &u64| views.values().any(|view| view.term == views[id].term + 1);
        let op = match dice.between(0, 100) {
            0..30 if !leads.is_empty() => {
                let commands = (0..dice.between(1, 4)).map(|_| self.command()).collect();
                Op::Propose(leads[dice.pick(leads.len())], commands)
            }
            0..45 if !views[&any].leads => Op::Lapse(any),
            45..50 if !views[&any].leads => Op::Stand(vec![any]),
            50..54 if any != other && !views[&any].leads && !views[&other].leads => {
                Op::Stand(vec![any, other])
            }
            54..66 if !self.cut => Op::Cut(links(&ids, dice)),
            54..74 => Op::Heal,
            74..80 => Op::Restart(ids[dice.pick(ids.len())]),
            80..86 => {
                let (leader, view) = self.leader()?;
                let to = view.voters[dice.pick(view.voters.len())];
                (to != leader).then_some(Op::Transfer(leader, to))?
            }
            86..92 => self.change(dice)?,
            92..95 => self.read(dice)?,
            95..98 => self.checkpoint(&views, any)?,
            _ => Op::Pass,
        };
        match &op {
            Op::Stand(ids) if ids.iter().any(equal) => None,
            Op::Lapse(id) if equal(id) => None,
            _ => Some(op),
        }
    }

    fn command(&mut self) -> u64 {
        self.commands += 1;
        self.commands
    }

    /// A checkpoint of a member that has applied the same in both, while whoever hears a member is heard by it: to one that
    /// is not heard the oracle sends a whole checkpoint, where ours asks first how much of it is there.
    fn checkpoint(&self, views: &BTreeMap<u64, View>, id: u64) -> Option<Op> {
        let one_way = |(a, b): (&u64, &u64)| self.ours.one_way(*a, *b);
        let asks = views.keys().any(|a| views.keys().any(|b| one_way((a, b))));
        let level = views[&id].applied == self.theirs.view(id).applied;
        (!asks && level && !self.fresh.contains(&id) && !self.unheard.contains(&id))
            .then_some(Op::Checkpoint(id))
    }

    /// A read at a member that hears the leader and is heard by it.
    fn read(&mut self, dice: &mut Dice) -> Option<Op> {
        let (leader, view) = self.leader()?;
        let near = |id: &u64| *id == leader || self.ours.linked(leader, *id);
        let near: Vec<u64> = view.voters.iter().copied().filter(near).collect();
        Some(Op::Read(near[dice.pick(near.len())], self.command()))
    }

    /// A change of the group, if all members are there to take it.
    fn change(&mut self, dice: &mut Dice) -> Option<Op> {
        let (leader, view) = self.leader()?;
        if self.cut || view.joint {
            return None;
        }
        let spare = self.spare.first().copied();
        let change = match (view.learners.first(), spare) {
            (Some(learner), _) => Change::Promote(*learner),
            (None, Some(id)) if dice.chance(50) => Change::Learner(id),
            _ if view.voters.len() > 3 => {
                let others: Vec<u64> =
                    view.voters.iter().copied().filter(|id| *id != leader).collect();
                Change::Remove(others[dice.pick(others.len())])
            }
            _ => return None,
        };
        Some(Op::Change(leader, change))
    }

    fn step(&mut self, op: &Op) -> Result<(), String> {
        let before = self.ours.views();
        let mut ops = vec![op.clone()];
        match op {
            Op::Change(_, Change::Learner(id)) => {
                self.spare.remove(id);
            }
            Op::Restart(id) => {
                self.fresh.insert(*id);
            }
            Op::Cut(_) => self.cut = true,
            Op::Heal => {
                self.cut = false;
                ops.push(Op::Pass);
            }
            Op::Transfer(..) => ops.push(Op::Pass),
            _ => {}
        }
        for op in &ops {
            self.ours.run(op);
            self.theirs.run(op);
        }
        let leader = self.leader();
        if let Some((id, _)) = &leader {
            self.ours.run(&Op::Beat(*id));
            self.theirs.run(&Op::Beat(*id));
        }
        self.note(op, &before);
        self.compare(leader.map(|(id, _)| id))
    }

    fn note(&mut self, op: &Op, before: &BTreeMap<u64, View>) {
        let after = self.ours.views();
        let tally = &mut self.tally;
        tally.steps += 1;
        for (id, old) in before {
            let Some(new) = after.get(id) else { continue };
            let (was, is) = (old.log_beside(new), new.log_beside(old));
            let kept = was.iter().zip(is).take_while(|(a, b)| a == b).count();
            tally.replaced += (was.len() - kept) as u64;
            tally.restored += u64::from(new.base > old.base && !matches!(op, Op::Checkpoint(_)));
            tally.lonely += u64::from(
                old.leads && !new.leads && old.term == new.term && matches!(op, Op::Pass),
            );
        }
        match op {
            Op::Transfer(_, to) => tally.transferred += u64::from(after[to].leads),
            Op::Change(..) => tally.changed += 1,
            Op::Checkpoint(at) => tally.checkpoints += u64::from(after[at].base > before[at].base),
            Op::Read(at, number) if after[at].reads.iter().any(|(read, _)| read == number) => {
                tally.read[usize::from(!after[at].leads)] += 1;
            }
            Op::Stand(ids) | Op::Propose(_, ids) if matches!(op, Op::Stand(_)) => {
                tally.refused += u64::from(ids.iter().all(|id| !after[id].leads));
            }
            Op::Lapse(id) => tally.refused += u64::from(!after[id].leads),
            _ => {}
        }
    }

    fn compare(&mut self, leader: Option<u64>) -> Result<(), String> {
        let (ours, theirs) = (self.ours.views(), self.theirs.views());
        for (id, our) in &ours {
            if self.spare.contains(id) {
                continue;
            }
            let their = &theirs[id];
            let near = leader.is_some_and(|leader| leader == *id || self.ours.linked(leader, *id));
            if near {
                self.fresh.remove(id);
                self.unheard.remove(id);
            } else if ours.keys().any(|l| ours[l].leads && self.ours.one_way(*l, *id)) {
                self.unheard.insert(*id);
            }
            let differ =
                |what: &str| Err(format!("member {id}: {what}\nours   {our:?}\ntheirs {their:?}"));
            if our.leads != their.leads {
                return differ("who leads");
            } else if our.term != their.term {
                return differ("term");
            } else if our.log_beside(their) != their.log_beside(our) {
                return differ("log");
            } else if our.reads != their.reads {
                return differ("answered reads");
            } else if near && our.leader != their.leader {
                return differ("whom it follows");
            } else if self.fresh.contains(id) || self.unheard.contains(id) {
                // See `differences`: after a restart ours learns anew what is committed; from a leader who does not hear
                // it ours may learn more, and from candidates the other.
                let more = our.commit > their.commit;
                let both = our.applied.len().min(their.applied.len());
                if (more && !self.unheard.contains(id))
                    || our.applied[..both] != their.applied[..both]
                {
                    return differ("commit of one that was restarted or is not heard");
                }
            } else if our.commit != their.commit {
                return differ("commit");
            } else if our.applied != their.applied {
                return differ("applied commands");
            } else if (&our.voters, &our.learners, our.joint)
                != (&their.voters, &their.learners, their.joint)
            {
                return differ("configuration");
            }
        }
        Ok(())
    }
}

/// Links to cut: a part from the rest, both ways or one way, or single ones.
fn links(ids: &[u64], dice: &mut Dice) -> Vec<(u64, u64)> {
    let part: BTreeSet<u64> = ids.iter().copied().filter(|_| dice.chance(40)).collect();
    let single = dice.chance(25);
    let (out, back) = (dice.chance(85), dice.chance(85));
    let mut cut = Vec::new();
    for from in ids {
        for to in ids.iter().filter(|to| *to != from) {
            let (away, home) = (
                part.contains(from) && !part.contains(to),
                !part.contains(from) && part.contains(to),
            );
            let chosen = if single { dice.chance(20) } else { (away && out) || (home && back) };
            if chosen {
                cut.push((*from, *to));
            }
        }
    }
    cut
}
