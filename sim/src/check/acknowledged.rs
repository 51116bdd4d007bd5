//! No lost acknowledged command: what a client was told to be done stays done, on every member.

use std::collections::BTreeMap;

use ::raft::{Index, Term, Ticket};

use super::{Invariant, Step};
use crate::raft::Command;

/// Acknowledged commands stay.
#[derive(Debug, Default)]
pub struct Acknowledged {
    told: BTreeMap<Index, Ticket>,
    terms: BTreeMap<Index, Term>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "no lost acknowledged command"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        for told in &step.seen.acknowledged {
            if let Some(other) = self.told.insert(told.index, told.ticket) {
                return Err(format!("{told:?} and {other:?} were both acknowledged"));
            }
            // Another member may have applied this index before.
            if let Some(term) = self.terms.get(&told.index).filter(|term| **term != told.term) {
                return Err(format!("{told:?} was acknowledged; applied before with {term:?}"));
            }
        }
        for entry in &step.seen.applied {
            self.terms.insert(entry.index, entry.term);
            if let Some(told) = self.told.get(&entry.index)
                && Command::ticket_of(&entry.payload) != Some(*told)
            {
                return Err(format!("{:?} applied {entry:?} in place of {told:?}", step.id()));
            }
        }
        Ok(!step.seen.acknowledged.is_empty() || !step.seen.applied.is_empty())
    }
}
