//! The positions in every member's log, followed step by step, so that no check has to read a whole log again.
//!
//! What changed is found from the log's end; now and then the whole is compared, since a change in the middle alone would
//! be missed. It judges nothing else.

use std::collections::VecDeque;

use ::raft::{Index, Node, Position, Term};

/// Steps between two comparisons of a whole log.
const WHOLE: u64 = 61;

/// What a step changed in a log.
#[derive(Clone, Copy, Debug, Default)]
pub struct Delta {
    /// The log is the same as before up to here.
    pub kept: Index,
    /// So many entries follow that were not there.
    pub added: usize,
}

#[derive(Debug, Default)]
struct Log {
    life: u64,
    base: Position,
    entries: VecDeque<Position>,
}

/// The logs, by place.
#[derive(Debug)]
pub struct Logs(Vec<Log>);

impl Logs {
    pub(crate) fn new(members: usize) -> Self {
        Self((0..members).map(|_| Log::default()).collect())
    }

    /// Where a member's log begins: the position before its first entry.
    #[must_use]
    pub fn base(&self, place: usize) -> Position {
        self.0[place].base
    }

    /// The term of an entry in a member's log, or of the position before its first.
    #[must_use]
    pub fn term(&self, place: usize, index: Index) -> Option<Term> {
        let log = &self.0[place];
        if index == log.base.index {
            return Some(log.base.term);
        }
        let offset = index.0.checked_sub(log.base.index.0 + 1)?;
        log.entries.get(offset as usize).map(|p| p.term)
    }

    /// Follows the member at `place`.
    pub(crate) fn look(
        &mut self,
        place: usize,
        life: u64,
        node: Option<&Node>,
        step: u64,
    ) -> Result<Delta, String> {
        let log = &mut self.0[place];
        let Some(node) = node else {
            *log = Log::default();
            return Ok(Delta::default());
        };
        let base = node.base();
        if log.life != life || log.base.index > base.index {
            *log = Log { life, base, entries: VecDeque::new() };
        }
        while log.entries.pop_front_if(|p| p.index <= base.index).is_some() {}
        log.base = base;
        let mut fresh = Vec::new();
        for entry in node.entries().rev() {
            let at = entry.position();
            while log.entries.pop_back_if(|p| p.index > at.index).is_some() {}
            if log.entries.back() == Some(&at) {
                break;
            }
            fresh.push(at);
        }
        if let Some(first) = fresh.last() {
            while log.entries.pop_back_if(|p| p.index >= first.index).is_some() {}
        } else if node.entries().next().is_none() {
            log.entries.clear();
        }
        let kept = log.entries.back().map_or(base.index, |p| p.index);
        for at in fresh.iter().rev() {
            let before = log.entries.back().map_or(base.index, |p| p.index);
            if at.index != before.next() {
                return Err(format!("{:?} has {at:?} after {before:?}", node.status().id));
            }
            log.entries.push_back(*at);
        }
        if step.is_multiple_of(WHOLE)
            && !node.entries().map(|e| e.position()).eq(log.entries.iter().copied())
        {
            return Err(format!("the log of {:?} changed in its middle", node.status().id));
        }
        Ok(Delta { kept, added: fresh.len() })
    }
}
