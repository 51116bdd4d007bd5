//! The invariants of consensus, each by its name, one a file.
//!
//! A check sees every step of a schedule: all members as they are after it, which of them moved, what changed in its log,
//! and what came out of it. It remembers what it needs. It uses only what a member shows of itself, and no code of the
//! room that it checks, so that a mistake there is not made twice: what a majority is, is said here once more.

mod acknowledged;
mod durable;
mod election;
mod leases;
mod logs;
mod machine;
mod majorities;
mod matching;
mod once;
mod only_append;
mod own_term;
mod promises;
mod reads;
mod rounds;
mod whole;

pub use acknowledged::Acknowledged;
pub use durable::DurableCommitment;
pub use election::ElectionSafety;
pub use leases::SoleLease;
pub use logs::{Delta, Logs};
pub use machine::StateMachineSafety;
pub use majorities::Majorities;
pub use matching::LogMatching;
pub use once::AppliedOnce;
pub use only_append::LeaderAppendOnly;
pub use own_term::OwnTermCommitment;
pub use promises::DurablePromises;
pub use reads::LinearizableReads;
pub use rounds::ReadRounds;
pub use whole::LeaderCompleteness;

use std::time::Duration;

use ::raft::{
    Checkpoint, Configuration, Entry, Index, MemberId, ReadMode, Role, Status, Term, Ticket,
};

use crate::raft::{Member, Reply, Value};

/// What came out of one step, seen from outside the member.
#[derive(Debug, Default)]
pub struct Seen {
    /// A leader's message that was taken in this step.
    pub heard: Option<Heard>,
    /// Entries applied, in order.
    pub applied: Vec<Entry>,
    /// Sessions' commands that the state machine performed, not merely recognized as retries.
    pub executed: Vec<Executed>,
    /// A checkpoint taken over from a leader (before or after `applied`).
    pub restored: Option<Checkpoint>,
    /// Commands acknowledged to a client.
    pub acknowledged: Vec<Acknowledgement>,
    /// Reads asked for by a client.
    pub asked: Vec<(Ticket, ReadMode)>,
    /// Reads answered.
    pub answered: Vec<Answer>,
    /// Commands and reads that were refused, with whom to ask instead.
    pub refused: Vec<(Ticket, Option<MemberId>)>,
    /// What messages promised.
    pub promised: Vec<Promise>,
    /// Changes of the group that were reported done.
    pub changed: u64,
    /// Transfers of leadership that were reported done.
    pub transferred: u64,
}

/// A message by which somebody claims to lead.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    /// Who.
    pub from: MemberId,
    /// In which term.
    pub term: Term,
    /// In which step it was sent.
    pub sent: u64,
}

/// A session's command was performed.
#[derive(Clone, Copy, Debug)]
pub struct Executed {
    /// Whose.
    pub client: u32,
    /// Its place in the session.
    pub sequence: u32,
    /// Its place in the log.
    pub index: Index,
}

/// A client was told that its command is done.
#[derive(Clone, Debug)]
pub struct Acknowledgement {
    /// Names the command.
    pub ticket: Ticket,
    /// Where it stands in the log.
    pub index: Index,
    /// The term of its entry.
    pub term: Term,
    /// What a session was answered.
    pub reply: Option<Reply>,
}

/// A read was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Names the read.
    pub ticket: Ticket,
    /// Of the state machine that answered.
    pub index: Index,
    /// What was at its key, if it was about one.
    pub value: Option<Option<Value>>,
}

/// A message that left and must be true whatever happens to its sender.
#[derive(Clone, Copy, Debug)]
pub struct Promise {
    /// What it speaks of.
    pub what: &'static str,
    /// Whether the disk stands behind it.
    pub kept: bool,
    /// Up to where it acknowledges the log of the leader of this term.
    pub acknowledged: Option<(Term, Index)>,
}

/// One step of a schedule.
pub struct Step<'a> {
    /// Grows with the events of a schedule.
    pub number: u64,
    /// The schedule's clock.
    pub now: Duration,
    /// All members, by place; ids are place + 1.
    pub members: &'a [Member],
    /// What each shows of itself, if it is up.
    pub statuses: &'a [Option<Status>],
    /// What the one that moved showed before, if it was up.
    pub before: Option<&'a Status>,
    /// The logs of all.
    pub logs: &'a Logs,
    /// What changed in the log of the one that moved.
    pub delta: Delta,
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

    /// What it shows, if it is up.
    #[must_use]
    pub fn status(&self) -> Option<&'a Status> {
        self.statuses[self.moved].as_ref()
    }

    /// What it shows, if it leads.
    #[must_use]
    pub fn leads(&self) -> Option<&'a Status> {
        self.status().filter(|s| matches!(s.role, Role::Leader { .. }))
    }

    /// What it showed before, if it led then in the same term as now.
    #[must_use]
    pub fn led(&self) -> Option<&'a Status> {
        let term = self.status()?.term;
        self.before.filter(|s| matches!(s.role, Role::Leader { .. }) && s.term == term)
    }
}

/// Whether those who say yes are a majority of the voters, and of the outgoing voters if there are any.
#[must_use]
pub fn carried(configuration: &Configuration, yes: impl Fn(MemberId) -> bool) -> bool {
    let most = |voters: &[MemberId]| voters.iter().filter(|m| yes(**m)).count() * 2 > voters.len();
    most(&configuration.voters)
        && (configuration.outgoing.is_empty() || most(&configuration.outgoing))
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
        Box::new(LeaderAppendOnly),
        Box::new(LogMatching::default()),
        Box::new(LeaderCompleteness::default()),
        Box::new(StateMachineSafety::default()),
        Box::new(DurableCommitment),
        Box::new(DurablePromises::default()),
        Box::new(OwnTermCommitment),
        Box::new(Majorities::default()),
        Box::new(Acknowledged::default()),
        Box::new(AppliedOnce::default()),
        Box::new(LinearizableReads::default()),
        Box::new(ReadRounds::default()),
        Box::new(SoleLease),
    ]
}
