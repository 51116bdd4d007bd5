//! Durable promises: a vote that was told, and an entry that was acknowledged, are on stable storage when the message
//! leaves (section 5.2, "persistent state"), and an acknowledged entry stays for as long as the leader may count it.
//!
//! A member that crashes right then must stand by what it said.

use std::collections::BTreeMap;

use ::raft::{Index, Term};

use super::{Invariant, Step};

/// What is told is synced, and stays.
#[derive(Debug, Default)]
pub struct DurablePromises {
    /// By place: up to where it acknowledged the log of the leader of that term.
    acknowledged: BTreeMap<usize, (Term, Index)>,
}

impl Invariant for DurablePromises {
    fn name(&self) -> &'static str {
        "durable promises"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        if let Some(broken) = step.seen.promised.iter().find(|p| !p.kept) {
            return Err(format!("{:?} promised {} that its disk lacks", step.id(), broken.what));
        }
        let Some(status) = step.status() else { return Ok(false) };
        let (term, upto) = self.acknowledged.entry(step.moved).or_default();
        if status.rebuilding || status.term > *term {
            // It was emptied and says so, or follows another leader, whose log it takes.
            (*term, *upto) = (status.term, Index::ZERO);
        }
        // It may have told an older leader something before, in the same step.
        let told = step.seen.promised.iter().filter_map(|p| p.acknowledged);
        let told = told.filter(|(told, _)| told == term).map(|(_, index)| index).max();
        *upto = (*upto).max(told.unwrap_or_default());
        if status.last < *upto {
            let (id, last) = (step.id(), status.last);
            return Err(format!("{id:?} acknowledged {upto:?} in {term:?} and has {last:?} left"));
        }
        Ok(*upto > Index::ZERO || !step.seen.promised.is_empty())
    }
}
