//! Durable commitment: what a leader holds for committed is on the stable storage of a majority at that moment.
//!
//! Not one of the paper's five, but what they rest on: it catches an acknowledgement before a sync without waiting for
//! the crash that would make it matter.

use std::collections::BTreeMap;

use ::raft::{Index, Role};

use super::{Invariant, Step};

/// Committed means synced by a majority.
#[derive(Debug, Default)]
pub struct DurableCommitment {
    /// By place: life and commit index.
    known: BTreeMap<usize, (u64, Index)>,
}

impl Invariant for DurableCommitment {
    fn name(&self) -> &'static str {
        "durable commitment"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let member = step.member();
        let Some(node) = &member.node else { return Ok(false) };
        let status = node.status();
        let now = (member.life, status.commit);
        let before = self.known.insert(step.moved, now);
        if !matches!(status.role, Role::Leader { .. }) || before == Some(now) {
            return Ok(false);
        }
        let Some(entry) = node.entries().find(|e| e.index == status.commit) else {
            return Ok(false);
        };
        let at = entry.position();
        let holders = step.members.iter().filter(|m| m.disk.holds(at)).count();
        if holders * 2 > step.members.len() {
            Ok(true)
        } else {
            let (id, all) = (member.id, step.members.len());
            Err(format!("{id:?} committed {at:?}, which {holders} of {all} disks hold"))
        }
    }
}
