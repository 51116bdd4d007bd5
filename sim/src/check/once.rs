//! No duplicate apply: a session's command is performed at one place of the log only, however often it was retried, and
//! a session's commands are performed in their order.

use std::collections::BTreeMap;

use ::raft::Index;

use super::{Invariant, Step};

/// Each command once.
#[derive(Debug, Default)]
pub struct AppliedOnce {
    /// By client and sequence.
    places: BTreeMap<(u32, u32), Index>,
}

impl Invariant for AppliedOnce {
    fn name(&self) -> &'static str {
        "no duplicate apply"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        for executed in &step.seen.executed {
            let name = (executed.client, executed.sequence);
            let first = *self.places.entry(name).or_insert(executed.index);
            if first != executed.index {
                return Err(format!("{executed:?}, which was performed at {first:?}"));
            }
            let session = (executed.client, 0)..name;
            if let Some((earlier, at)) = self.places.range(session).next_back()
                && *at >= executed.index
            {
                return Err(format!("{executed:?} before {earlier:?} at {at:?}"));
            }
        }
        Ok(!step.seen.executed.is_empty())
    }
}
