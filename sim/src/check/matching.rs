//! Log matching: if two logs contain an entry with the same index and term, then they are identical up to it.
//!
//! Proven by induction: an entry of a given index and term always has the same payload and stands after an entry of
//! the same term. So each entry is held against the first of its name ever seen, in any log.

use std::collections::BTreeMap;

use ::raft::{Index, Payload, Term};

use super::{Invariant, Step};

/// Logs that agree on an entry agree up to it.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// What stood before it, and what it carries.
    entries: BTreeMap<(Index, Term), (Term, Payload)>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let Some(node) = &step.member().node else { return Ok(false) };
        for entry in node.entries().rev().take(step.delta.added) {
            let at = entry.position();
            let Some(before) = step.logs.term(step.moved, at.index.back()) else {
                return Err(format!("{:?} has nothing before {at:?}", step.id()));
            };
            let first = self
                .entries
                .entry((at.index, at.term))
                .or_insert_with(|| (before, entry.payload.clone()));
            if first.0 != before || first.1 != entry.payload {
                return Err(format!(
                    "{:?} has {at:?} as {:?} after {before:?}, seen as {first:?}",
                    step.id(),
                    entry.payload
                ));
            }
        }
        Ok(step.delta.added > 0)
    }
}
