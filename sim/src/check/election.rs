//! Election safety: at most one leader can be elected in a given term.

use std::collections::BTreeMap;

use ::raft::{MemberId, Term};

use super::{Invariant, Step};

/// At most one leader a term.
#[derive(Debug, Default)]
pub struct ElectionSafety {
    leaders: BTreeMap<Term, MemberId>,
}

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let Some(status) = step.leads() else { return Ok(false) };
        let first = *self.leaders.entry(status.term).or_insert(status.id);
        if first == status.id {
            Ok(true)
        } else {
            Err(format!("{first:?} and {:?} both lead in {:?}", status.id, status.term))
        }
    }
}
