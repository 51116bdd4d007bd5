//! Log matching: if two logs contain an entry with the same index and term, then they are identical up to it.
//!
//! Proven by induction: an entry of a given index and term always has the same payload and stands after an entry of
//! the same term. So each entry is held against the first of its name ever seen, in any log.

use std::collections::BTreeMap;

use ::raft::{Index, Payload, Position, Term};

use super::{Invariant, Step};

/// Logs that agree on an entry agree up to it.
#[derive(Debug, Default)]
pub struct LogMatching {
    /// What stood before it, and what it carries.
    entries: BTreeMap<(Index, Term), (Term, Payload)>,
    /// By place: what was found right already.
    judged: BTreeMap<usize, Vec<Position>>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let Some(node) = &step.member().node else {
            self.judged.remove(&step.moved);
            return Ok(false);
        };
        let judged = self.judged.entry(step.moved).or_default();
        let begin = judged.first().map_or(0, |p| p.index.0);
        let mut before = node.base();
        let mut fresh = Vec::with_capacity(judged.len());
        for entry in node.entries() {
            let at = entry.position();
            if at.index != before.index.next() {
                return Err(format!("{:?} has {at:?} after {before:?}", step.id()));
            }
            let known = at.index.0.checked_sub(begin).and_then(|o| judged.get(o as usize));
            if known != Some(&at) {
                let what = (before.term, entry.payload.clone());
                let first = self.entries.entry((at.index, at.term)).or_insert(what.clone());
                if *first != what {
                    return Err(format!(
                        "{:?} has {at:?} as {what:?}, seen as {first:?}",
                        step.id()
                    ));
                }
            }
            fresh.push(at);
            before = at;
        }
        *judged = fresh;
        Ok(!judged.is_empty())
    }
}
