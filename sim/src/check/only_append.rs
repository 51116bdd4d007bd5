//! Leader append-only: a leader never overwrites or deletes entries of its log; it only appends.

use super::{Invariant, Step};

/// A leader only appends.
#[derive(Debug, Default)]
pub struct LeaderAppendOnly;

impl Invariant for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader append-only"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let (Some(status), Some(before)) = (step.leads(), step.led()) else { return Ok(false) };
        if step.delta.kept < before.last {
            return Err(format!(
                "{:?} leads {:?}, had a log up to {:?} and kept it only up to {:?}",
                status.id, status.term, before.last, step.delta.kept
            ));
        }
        Ok(true)
    }
}
