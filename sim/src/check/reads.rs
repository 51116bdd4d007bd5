//! No stale linearizable read: a read sees everything that any client was told before the read was asked for, be it an
//! acknowledgement or the answer of an earlier read.
//!
//! The state of the machine is named by its index, so this is linearizability of a register, exactly.

use std::collections::BTreeMap;

use ::raft::{Index, Ticket};

use super::{Answer, Invariant, Step};

/// Reads see what was told before.
#[derive(Debug, Default)]
pub struct LinearizableReads {
    /// The newest state that any client knows of.
    told: Index,
    /// What each open read must see.
    open: BTreeMap<Ticket, Index>,
}

impl Invariant for LinearizableReads {
    fn name(&self) -> &'static str {
        "no stale linearizable read"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        for (ticket, _) in &step.seen.asked {
            self.open.insert(*ticket, self.told);
        }
        let mut told = self.told;
        for Answer { ticket, index, .. } in &step.seen.answered {
            let Some(least) = self.open.remove(ticket) else {
                return Err(format!("read {ticket:?} was answered but not asked, or twice"));
            };
            if *index < least {
                let id = step.id();
                return Err(format!(
                    "{id:?} answered {ticket:?} from {index:?}; {least:?} was told"
                ));
            }
            told = told.max(*index);
        }
        let newest = step.seen.acknowledged.iter().map(|a| a.index).max();
        self.told = told.max(newest.unwrap_or(Index::ZERO));
        Ok(!step.seen.answered.is_empty())
    }
}
