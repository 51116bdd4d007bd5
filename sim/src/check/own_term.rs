//! Own-term commitment: a leader commits by counting only what it appended itself (section 5.4.2); older entries only along
//! with that.
//!
//! Figure 8 shows what happens otherwise, after a rare chain of crashes; this check needs no chain.

use super::{Invariant, Step};

/// Only the leader's own entries are counted.
#[derive(Debug, Default)]
pub struct OwnTermCommitment;

impl Invariant for OwnTermCommitment {
    fn name(&self) -> &'static str {
        "own-term commitment"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let (Some(status), Some(before)) = (step.leads(), step.led()) else { return Ok(false) };
        if status.commit == before.commit {
            return Ok(false);
        }
        match step.logs.term(step.moved, status.commit) {
            Some(term) if term != status.term => Err(format!(
                "{:?} leads {:?} and committed {:?} of {term:?} by counting",
                status.id, status.term, status.commit
            )),
            _ => Ok(true),
        }
    }
}
