//! The invariants of consensus, each by its name, one a file.
//!
//! A check sees every step of a schedule: all members as they are after it, which of them moved, and what came out of
//! it. It remembers what it needs. It uses only what a member shows of itself, and no code of the room that it checks,
//! so that a mistake there is not made twice.

mod acknowledged;
mod durable;
mod election;
mod machine;
mod matching;
mod only_append;
mod own_term;
mod reads;
mod whole;

pub use acknowledged::Acknowledged;
pub use durable::DurableCommitment;
pub use election::ElectionSafety;
pub use machine::StateMachineSafety;
pub use matching::LogMatching;
pub use only_append::LeaderAppendOnly;
pub use own_term::OwnTermCommitment;
pub use reads::LinearizableReads;
pub use whole::LeaderCompleteness;

use ::raft::{Checkpoint, Entry, Index, MemberId, Term, Ticket};

use crate::raft::Member;

/// What came out of one step, seen from outside the member.
#[derive(Debug, Default)]
pub struct Seen {
    /// Entries applied, in order.
    pub applied: Vec<Entry>,
    /// A checkpoint taken over from a leader (before or after `applied`).
    pub restored: Option<Checkpoint>,
    /// Commands acknowledged to a client.
    pub acknowledged: Vec<Acknowledgement>,
    /// Reads asked for by a client.
    pub asked: Vec<Ticket>,
    /// Reads answered, each with the index of the state machine that answered.
    pub answered: Vec<(Ticket, Index)>,
}

/// A client was told that its command is done.
#[derive(Clone, Copy, Debug)]
pub struct Acknowledgement {
    /// Names the command.
    pub ticket: Ticket,
    /// Where it stands in the log.
    pub index: Index,
    /// The term of its entry.
    pub term: Term,
}

/// One step of a schedule.
pub struct Step<'a> {
    /// All members, by place; ids are place + 1.
    pub members: &'a [Member],
    /// The place of the one that moved.
    pub moved: usize,
    /// What came out.
    pub seen: &'a Seen,
}

impl<'a> Step<'a> {
    /// The member that moved.
    #[must_use]
    pub fn member(&self) -> &'a Member {
        &self.members[self.moved]
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> MemberId {
        self.member().id
    }
}

/// Something that must hold after every step.
pub trait Invariant {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Looks at a step; true if there was something to judge.
    ///
    /// # Errors
    /// Says what is wrong.
    fn check(&mut self, step: &Step<'_>) -> Result<bool, String>;
}

/// Every invariant of a `raft` group.
#[must_use]
pub fn all() -> Vec<Box<dyn Invariant>> {
    vec![
        Box::new(ElectionSafety::default()),
        Box::new(LeaderAppendOnly::default()),
        Box::new(LogMatching::default()),
        Box::new(LeaderCompleteness::default()),
        Box::new(StateMachineSafety::default()),
        Box::new(DurableCommitment::default()),
        Box::new(OwnTermCommitment::default()),
        Box::new(Acknowledged::default()),
        Box::new(LinearizableReads::default()),
    ]
}
