//! Leader completeness: an entry committed in some term is in the log of the leader of every later term.
//!
//! Committed is what a member believes to be; the term is the one in which it first did.

use std::collections::BTreeMap;

use ::raft::{Index, Role, Status, Term};

use super::{Invariant, Step};

/// Leaders have everything that was committed before.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    /// The term of the entry, and the term in which it was first known to be committed.
    committed: BTreeMap<Index, (Term, Term)>,
}

impl LeaderCompleteness {
    /// Notes what this member newly holds for committed; the first index of what nobody knew before.
    fn note(&mut self, step: &Step<'_>, status: &Status) -> Result<Option<Index>, String> {
        let base = step.logs.base(step.moved).index;
        let from = step.before.map_or(Index::ZERO, |b| b.commit).max(base);
        let mut new = None;
        for index in (from.0 + 1..=status.commit.0).map(Index) {
            let Some(own) = step.logs.term(step.moved, index) else { continue };
            let (term, _) = *self.committed.entry(index).or_insert_with(|| {
                new.get_or_insert(index);
                (own, status.term)
            });
            if term != own {
                let id = status.id;
                return Err(format!(
                    "{id:?} committed {own:?} at {index:?}; before it was {term:?}"
                ));
            }
        }
        Ok(new)
    }

    fn judge(&self, step: &Step<'_>, leader: &Status, from: Index) -> Result<(), String> {
        let place = leader.id.0 as usize - 1;
        let base = step.logs.base(place).index;
        for (index, (term, within)) in self.committed.range(from.max(base)..) {
            let own = step.logs.term(place, *index);
            if *within < leader.term && own != Some(*term) {
                return Err(format!(
                    "{:?} leads {:?} and has {own:?} at {index:?}, where {term:?} was committed in {within:?}",
                    leader.id, leader.term
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let Some(status) = step.status() else { return Ok(false) };
        let new = self.note(step, status)?;
        let mut judged = false;
        if let Some(leader) = step.leads().filter(|_| step.led().is_none()) {
            self.judge(step, leader, Index::ZERO)?;
            judged = true;
        }
        if let Some(from) = new {
            for leader in step.statuses.iter().flatten() {
                if matches!(leader.role, Role::Leader { .. }) {
                    self.judge(step, leader, from)?;
                    judged = true;
                }
            }
        }
        Ok(judged)
    }
}
