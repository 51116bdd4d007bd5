//! State machine safety: no two members ever apply different entries at the same index; each applies in order, once;
//! and no command is applied at two places.

use std::collections::BTreeMap;

use ::raft::{Entry, Index, Term, Ticket};

use super::{Invariant, Step};
use crate::raft::Command;

/// State machines agree.
#[derive(Debug, Default)]
pub struct StateMachineSafety {
    applied: BTreeMap<Index, Entry>,
    /// What any machine was like at an index.
    digests: BTreeMap<Index, u64>,
    places: BTreeMap<Ticket, (Index, Term)>,
    /// By place: life and last index.
    reached: BTreeMap<usize, (u64, Index)>,
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let member = step.member();
        let reached = self.reached.entry(step.moved).or_insert((0, Index::ZERO));
        if reached.0 != member.life {
            *reached = (member.life, member.began);
        }
        for entry in &step.seen.applied {
            let restored = step.seen.restored.as_ref().map(|c| c.last.index.next());
            if entry.index != reached.1.next() && Some(entry.index) != restored {
                return Err(format!(
                    "{:?} applied {:?} after {:?}",
                    member.id, entry.index, reached.1
                ));
            }
            reached.1 = entry.index;
            let first = self.applied.entry(entry.index).or_insert_with(|| entry.clone());
            if first != entry {
                return Err(format!("{:?} applied {entry:?}; before it was {first:?}", member.id));
            }
            if let Some(ticket) = Command::ticket_of(&entry.payload) {
                let at = (entry.index, entry.term);
                let first = *self.places.entry(ticket).or_insert(at);
                if first != at {
                    return Err(format!("command {ticket:?} applied at {first:?} and {at:?}"));
                }
            }
        }
        if let Some(checkpoint) = &step.seen.restored {
            reached.1 = reached.1.max(checkpoint.last.index);
        }
        if member.node.is_none() || (step.seen.applied.is_empty() && step.seen.restored.is_none()) {
            return Ok(false);
        }
        let machine = &member.machine;
        let first = *self.digests.entry(machine.index()).or_insert_with(|| machine.digest());
        if first == machine.digest() {
            Ok(true)
        } else {
            Err(format!(
                "{:?} has another state at {:?} than seen before",
                member.id,
                machine.index()
            ))
        }
    }
}
