//! Never two disjoint majorities: whoever elects a leader, and whoever holds what was committed, have somebody in common
//! (section 6; thesis, 4.1 and 4.3).
//!
//! Judged from three sides. A leader has the stored votes of a majority of the configuration that it is in, and no vote
//! is ever changed within a term. Those voters include one that holds the newest committed entry. And when a leader
//! changes the configuration, the one before is committed, and no majority of the one can avoid all majorities of the
//! other: that is tried out for every set of members.

use std::collections::{BTreeMap, BTreeSet};

use ::raft::{Configuration, MemberId, Position, Status, Term};

use super::{Invariant, Step, carried};

/// Majorities meet.
#[derive(Debug, Default)]
pub struct Majorities {
    /// Every stored vote ever seen.
    votes: BTreeMap<Term, BTreeMap<MemberId, MemberId>>,
    leaders: BTreeMap<Term, MemberId>,
    /// Members whose disk was emptied at some time.
    emptied: BTreeSet<MemberId>,
    /// The newest entry that a leader committed, and the term in which it led.
    committed: (Position, Term),
}

/// A set of members whose complement could decide too, if there is one.
fn apart(old: &Configuration, new: &Configuration) -> Option<Vec<MemberId>> {
    let mut members = old.members();
    members.extend(new.members());
    members.sort_unstable();
    members.dedup();
    (0..1_u32 << members.len()).find_map(|set| {
        let inside = |id: MemberId| {
            members.iter().position(|m| *m == id).is_some_and(|bit| set & (1 << bit) != 0)
        };
        let both = carried(old, inside) && carried(new, |id| !inside(id));
        both.then(|| members.iter().copied().filter(|m| inside(*m)).collect())
    })
}

impl Majorities {
    fn note_votes(&mut self, step: &Step<'_>) -> Result<(), String> {
        let member = step.member();
        if member.disk.is_emptied() {
            self.emptied.insert(member.id);
        }
        for (term, vote) in member.disk.votes().iter().rev().take(2) {
            let first = *self.votes.entry(*term).or_default().entry(member.id).or_insert(*vote);
            // One that forgot its vote counts as having voted for whom the others elected.
            let filled = self.emptied.contains(&member.id) && self.leaders.get(term) == Some(vote);
            if first != *vote && !filled {
                return Err(format!(
                    "{:?} voted for {first:?} and {vote:?} in {term:?}",
                    member.id
                ));
            }
        }
        Ok(())
    }

    fn judge_election(&self, step: &Step<'_>, status: &Status) -> Result<(), String> {
        let nobody = BTreeMap::new();
        let votes = self.votes.get(&status.term).unwrap_or(&nobody);
        let voted = |id: MemberId| votes.get(&id) == Some(&status.id);
        let before = step.before.is_some_and(|b| carried(&b.configuration, voted));
        if !before && !carried(&status.configuration, voted) {
            let (id, term, group) = (status.id, status.term, &status.configuration);
            return Err(format!("{id:?} leads {term:?} of {group:?}, elected by {votes:?}"));
        }
        let (committed, within) = self.committed;
        let holds = |id: MemberId| step.members[id.0 as usize - 1].disk.holds(committed);
        // Late votes can make a leader of a term that is over. What an emptied member held is made good by its not
        // voting.
        let over = within == Term::ZERO || within >= status.term;
        let emptied = step.members.iter().any(|m| m.disk.is_emptied());
        if over || emptied || votes.keys().any(|id| voted(*id) && holds(*id)) {
            return Ok(());
        }
        Err(format!(
            "{:?} leads {:?}, elected by {votes:?}, none of whom holds {committed:?}, committed in {within:?}",
            status.id, status.term
        ))
    }
}

impl Invariant for Majorities {
    fn name(&self) -> &'static str {
        "never two disjoint majorities"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        self.note_votes(step)?;
        let Some(status) = step.leads() else { return Ok(false) };
        let mut judged = false;
        match step.led() {
            None => {
                self.judge_election(step, status)?;
                self.leaders.insert(status.term, status.id);
                judged = true;
            }
            Some(before) if before.configured != status.configured => {
                if status.commit < before.configured {
                    return Err(format!(
                        "{:?} went on to {:?} while {:?} at {:?} is not committed",
                        status.id, status.configuration, before.configuration, before.configured
                    ));
                }
                if let Some(set) = apart(&before.configuration, &status.configuration) {
                    return Err(format!(
                        "{:?} went from {:?} to {:?}: {set:?} can decide alone, and so can the others",
                        status.id, before.configuration, status.configuration
                    ));
                }
                judged = true;
            }
            Some(_) => {}
        }
        if status.commit > self.committed.0.index
            && step.before.is_some_and(|b| b.commit != status.commit)
            && let Some(term) = step.logs.term(step.moved, status.commit)
        {
            self.committed = (Position { index: status.commit, term }, status.term);
        }
        Ok(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(voters: &[u64], outgoing: &[u64]) -> Configuration {
        let ids = |ids: &[u64]| ids.iter().copied().map(MemberId).collect::<Vec<_>>();
        Configuration { outgoing: ids(outgoing), ..Configuration::of(ids(voters)) }
    }

    #[test]
    fn majorities_of_unlike_groups_can_be_apart_and_a_joint_one_stands_between() {
        let (old, new) = (of(&[1, 2, 3], &[]), of(&[3, 4, 5], &[]));
        assert!(apart(&old, &new).is_some());
        let joint = of(&[3, 4, 5], &[1, 2, 3]);
        assert_eq!(apart(&old, &joint), None);
        assert_eq!(apart(&joint, &new), None);
        assert_eq!(apart(&old, &of(&[1, 2, 3, 4], &[])), None, "one more member is safe");
        assert!(apart(&of(&[1], &[]), &of(&[1, 2, 3], &[])).is_some());
    }
}
