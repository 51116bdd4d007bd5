//! Leader append-only: a leader never overwrites or deletes entries of its log; it only appends.

use std::collections::BTreeMap;

use ::raft::{Position, Role, Term};

use super::{Invariant, Step};

/// A leader only appends.
#[derive(Debug, Default)]
pub struct LeaderAppendOnly {
    /// By place: in which life and term it led, and the log that it had.
    logs: BTreeMap<usize, (u64, Term, Vec<Position>)>,
}

impl Invariant for LeaderAppendOnly {
    fn name(&self) -> &'static str {
        "leader append-only"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let member = step.member();
        let Some(node) = &member.node else { return Ok(false) };
        let status = node.status();
        if !matches!(status.role, Role::Leader { .. }) {
            self.logs.remove(&step.moved);
            return Ok(false);
        }
        let base = node.base().index;
        let log: Vec<Position> = node.entries().map(|e| e.position()).collect();
        if let Some((life, term, before)) = self.logs.get(&step.moved)
            && (*life, *term) == (member.life, status.term)
        {
            let kept: Vec<Position> = before.iter().copied().filter(|p| p.index > base).collect();
            if log.get(..kept.len()) != Some(&kept[..]) {
                return Err(format!("{:?} led with {kept:?} and now has {log:?}", member.id));
            }
        }
        self.logs.insert(step.moved, (member.life, status.term, log));
        Ok(true)
    }
}
