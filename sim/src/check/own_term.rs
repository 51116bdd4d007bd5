//! Own-term commitment: a leader commits by counting only what it appended itself (section 5.4.2); older entries only along
//! with that.
//!
//! Figure 8 shows what happens otherwise, after a rare chain of crashes; this check needs no chain.

use std::collections::BTreeMap;

use ::raft::{Index, Role, Term};

use super::{Invariant, Step};

/// Only the leader's own entries are counted.
#[derive(Debug, Default)]
pub struct OwnTermCommitment {
    /// By place: the life and term in which it leads, and its commit index.
    leads: BTreeMap<usize, (u64, Term, Index)>,
}

impl Invariant for OwnTermCommitment {
    fn name(&self) -> &'static str {
        "own-term commitment"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let member = step.member();
        let leads = member.node.as_ref().filter(|n| matches!(n.status().role, Role::Leader { .. }));
        let Some(node) = leads else {
            self.leads.remove(&step.moved);
            return Ok(false);
        };
        let status = node.status();
        let now = (member.life, status.term, status.commit);
        let before = self.leads.insert(step.moved, now);
        if before.is_none_or(|b| (b.0, b.1) != (now.0, now.1) || b.2 == now.2) {
            return Ok(false);
        }
        match node.entries().find(|e| e.index == status.commit) {
            Some(entry) if entry.term != status.term => Err(format!(
                "{:?} leads {:?} and committed {:?} by counting",
                member.id,
                status.term,
                entry.position()
            )),
            _ => Ok(true),
        }
    }
}
