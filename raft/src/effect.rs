//! What goes into a node and what comes out of it: the border between the pure machine and its driver.
//!
//! Why a file of its own: this is all that a driver (a real host, a simulator, a transcript) needs to know. It does
//! not say how the effects come about.

use bytes::Bytes;

use crate::ids::{Index, MemberId, Sequence, Term, Ticket};
use crate::message::{Checkpoint, Entry, Message};

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrived. Messages that are not for this member, or not from a voter, are ignored.
    Received(Message),
    /// Everything up to and with this [`Persist`] is on stable storage. One report may cover many.
    Persisted(Sequence),
    /// A command for the state machine; answered by [`Effect::Accepted`] or [`Effect::ProposalRefused`].
    Propose {
        /// Names the proposal in the answer.
        ticket: Ticket,
        /// Opaque to this room.
        command: Bytes,
    },
    /// A linearizable read is wanted; answered by [`Effect::ReadReady`] or [`Effect::ReadRefused`].
    Read {
        /// Names the read in the answer.
        ticket: Ticket,
    },
    /// The driver has a checkpoint of the state machine at `index` **on stable storage**.
    CheckpointTaken {
        /// The last entry applied to it.
        index: Index,
        /// The state machine's encoding, kept in memory to be sent to members that lag.
        data: Bytes,
    },
    /// The time of [`Node::deadline`](crate::Node::deadline) has come. Harmless when early.
    Wake,
}

/// Something to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Write this and, once it is on stable storage, report [`Event::Persisted`]. Messages that depend on it come
    /// out only after the report, so a driver may put several into one sync, and may send while it writes.
    Persist(Persist),
    /// Send this message; losing it is allowed.
    Send(Message),
    /// Apply these committed entries, in order, each once. They are consecutive from one effect to the next, and
    /// on stable storage here.
    Apply(Vec<Entry>),
    /// Replace the state machine by this checkpoint (already persisted by an earlier [`Persist`]).
    Restore(Checkpoint),
    /// Entries up to this index are no longer needed on disk.
    Trim(Index),
    /// The proposal is in the leader's log. It is done when an [`Effect::Apply`] brings the entry with this index
    /// *and* term; another term at the index means that it was lost; after a change of role the outcome is unknown
    /// until then.
    Accepted {
        /// As in the proposal.
        ticket: Ticket,
        /// The place that it got.
        index: Index,
        /// The term that it was proposed in.
        term: Term,
    },
    /// The proposal was not taken: this node does not lead. It will never happen.
    ProposalRefused {
        /// As in the proposal.
        ticket: Ticket,
        /// Whom to ask, if known.
        leader: Option<MemberId>,
    },
    /// The read may be answered from the state machine as it is after all [`Effect::Apply`] before this effect.
    ReadReady {
        /// As in the read.
        ticket: Ticket,
        /// The index that the state machine has reached or passed.
        index: Index,
    },
    /// The read cannot be answered here.
    ReadRefused {
        /// As in the read.
        ticket: Ticket,
        /// Whom to ask, if known.
        leader: Option<MemberId>,
    },
    /// The role or the known leader changed.
    Role {
        /// The current term.
        term: Term,
        /// What this node is now.
        role: Role,
    },
    /// The group asks for what cannot be: a committed entry would have to be undone. The node does nothing more.
    Halted(&'static str),
}

/// Something to be made durable. After a crash a *prefix* of the parts of unreported persists may be on disk, in the
/// order of the fields: `hard`, `checkpoint`, `truncate`, `entries`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// To be reported back.
    pub sequence: Sequence,
    /// Term and vote, if they changed.
    pub hard: Option<HardState>,
    /// A checkpoint from the leader, which takes the place of the **whole** log (with it goes every stored entry).
    pub checkpoint: Option<Checkpoint>,
    /// Drop stored entries from this index on before `entries` are added.
    pub truncate: Option<Index>,
    /// Entries to add, consecutive.
    pub entries: Vec<Entry>,
}

/// Term and vote (section 5.2): forgetting them would let a member vote twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The newest term seen.
    pub term: Term,
    /// Who got this member's vote in that term.
    pub vote: Option<MemberId>,
}

/// What a driver found on its disk at start. All empty for a new member. The driver restores the state machine from
/// `checkpoint` by itself; applying begins after it.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Term and vote.
    pub hard: HardState,
    /// The newest checkpoint, taken here or installed.
    pub checkpoint: Option<Checkpoint>,
    /// Consecutive entries. They may begin before the end of the checkpoint; a gap after it is refused.
    pub entries: Vec<Entry>,
}

/// What a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower {
        /// The leader of the term, if it has been heard.
        leader: Option<MemberId>,
    },
    /// Asks for pre-votes or votes.
    Candidate,
    /// Leads.
    Leader {
        /// Whether an entry of its own term is committed and applied: it knows everything that was acknowledged.
        ready: bool,
    },
}

/// A look at a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This member.
    pub id: MemberId,
    /// The current term.
    pub term: Term,
    /// What it is.
    pub role: Role,
    /// The leader of the term, if known; itself when it leads.
    pub leader: Option<MemberId>,
    /// The last index that is known to be committed.
    pub commit: Index,
    /// The last index given out to be applied.
    pub applied: Index,
    /// The last index in the log.
    pub last: Index,
    /// The last index on stable storage here.
    pub stable: Index,
    /// The last index that the newest checkpoint contains.
    pub checkpoint: Index,
    /// What a leader knows of the others; empty elsewhere.
    pub followers: Vec<FollowerStatus>,
}

/// What a leader knows of one follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerStatus {
    /// The follower.
    pub id: MemberId,
    /// The last index known to be on its stable storage.
    pub matched: Index,
    /// The next index to be sent.
    pub next: Index,
}
