//! No lost acknowledged command: what a client was told to be done stays done, on every member.

use std::collections::BTreeMap;

use ::raft::{Index, Term};

use super::{Acknowledgement, Invariant, Step};
use crate::raft::Machine;

/// Acknowledged commands stay.
#[derive(Debug, Default)]
pub struct Acknowledged {
    told: BTreeMap<Index, Acknowledgement>,
    terms: BTreeMap<Index, Term>,
}

impl Invariant for Acknowledged {
    fn name(&self) -> &'static str {
        "no lost acknowledged command"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        for told in &step.seen.acknowledged {
            if let Some(other) = self.told.insert(told.index, *told) {
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
                && Machine::ticket(&entry.payload) != Some(told.ticket)
            {
                return Err(format!("{:?} applied {entry:?} in place of {told:?}", step.id()));
            }
        }
        Ok(!self.told.is_empty())
    }
}
