//! Durable commitment: what a leader holds for committed is on the stable storage of a majority at that moment.
//!
//! Not one of the paper's five, but what they rest on: it catches an acknowledgement before a sync without waiting for
//! the crash that would make it matter.

use ::raft::{MemberId, Position};

use super::{Invariant, Step, carried};

/// Committed means synced by a majority.
#[derive(Debug, Default)]
pub struct DurableCommitment;

impl Invariant for DurableCommitment {
    fn name(&self) -> &'static str {
        "durable commitment"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let (Some(status), Some(before)) = (step.leads(), step.before) else { return Ok(false) };
        if status.commit == before.commit || step.members.iter().any(|m| m.disk.is_emptied()) {
            // What an emptied member promised before is made good by its not voting.
            return Ok(false);
        }
        let Some(term) = step.logs.term(step.moved, status.commit) else { return Ok(false) };
        let at = Position { index: status.commit, term };
        let holds = |id: MemberId| step.members[id.0 as usize - 1].disk.holds(at);
        // In the same step it may have moved on to the next configuration.
        if carried(&before.configuration, holds) || carried(&status.configuration, holds) {
            return Ok(true);
        }
        let holders: Vec<MemberId> =
            step.members.iter().map(|m| m.id).filter(|m| holds(*m)).collect();
        let (id, group) = (step.id(), &status.configuration);
        Err(format!("{id:?} committed {at:?}, which only {holders:?} of {group:?} hold on disk"))
    }
}
