//! Leader completeness: an entry committed in some term is in the log of the leader of every later term.
//!
//! Committed is what a member believes to be; the term is the one in which it first did.

use std::collections::BTreeMap;

use ::raft::{Index, Node, Role, Term};

use super::{Invariant, Step};

/// Leaders have everything that was committed before.
#[derive(Debug, Default)]
pub struct LeaderCompleteness {
    /// The term of the entry, and the term in which it was first known to be committed.
    committed: BTreeMap<Index, (Term, Term)>,
    /// By place: life and commit index last seen.
    known: BTreeMap<usize, (u64, Index)>,
    /// By place: the life and term in which it was seen to lead.
    leads: BTreeMap<usize, (u64, Term)>,
}

impl LeaderCompleteness {
    /// Notes what this member newly holds for committed; the first index of what nobody knew before.
    fn note(&mut self, step: &Step<'_>, node: &Node) -> Result<Option<Index>, String> {
        let status = node.status();
        let life = step.member().life;
        let known = self.known.get(&step.moved).filter(|(l, _)| *l == life);
        let from = known.map_or(Index::ZERO, |(_, index)| *index);
        self.known.insert(step.moved, (life, status.commit));
        let mut new = None;
        if from == status.commit {
            return Ok(None);
        }
        for entry in node.entries().filter(|e| e.index > from && e.index <= status.commit) {
            match self.committed.get(&entry.index) {
                Some((term, _)) if *term == entry.term => {}
                Some((term, _)) => {
                    let (id, at) = (step.id(), entry.position());
                    return Err(format!("{id:?} committed {at:?}; committed before with {term:?}"));
                }
                None => {
                    self.committed.insert(entry.index, (entry.term, status.term));
                    new.get_or_insert(entry.index);
                }
            }
        }
        Ok(new)
    }

    fn judge(&self, node: &Node, from: Index) -> Result<(), String> {
        let status = node.status();
        let base = node.base();
        let mut entries = node.entries().skip_while(|e| e.index < from).peekable();
        for (index, (term, within)) in self.committed.range(from..) {
            if *within >= status.term || *index < base.index {
                continue;
            }
            let own = if *index == base.index {
                Some(base.term)
            } else {
                entries.next_if(|e| e.index == *index).map(|e| e.term)
            };
            if own != Some(*term) {
                return Err(format!(
                    "{:?} leads {:?} and has {own:?} at {index:?}, where {term:?} was committed in {within:?}",
                    status.id, status.term
                ));
            }
        }
        Ok(())
    }
}

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        let Some(node) = &step.member().node else { return Ok(false) };
        let new = self.note(step, node)?;
        let mut judged = false;
        for (place, member) in step.members.iter().enumerate() {
            let Some(node) = &member.node else { continue };
            let status = node.status();
            if !matches!(status.role, Role::Leader { .. }) {
                continue;
            }
            let seen = self.leads.insert(place, (member.life, status.term));
            if seen != Some((member.life, status.term)) {
                self.judge(node, Index::ZERO)?;
            } else if let Some(from) = new {
                self.judge(node, from)?;
            }
            judged = true;
        }
        Ok(judged)
    }
}
