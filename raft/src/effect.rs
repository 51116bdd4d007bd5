//! What goes into a node and what comes out of it: the border between the pure machine and its driver.
//!
//! Why a file of its own: this is all that a driver (a real host, a simulator, a transcript) needs to know. It does
//! not say how the effects come about. What a node shows of itself is in `status`.

use bytes::Bytes;

use crate::configuration::Configuration;
use crate::ids::{Index, MemberId, Sequence, Term, Ticket};
use crate::message::{Checkpoint, Chunk, Entry, Message, ReadMode};
use crate::status::Role;

/// Something that happened outside.
#[derive(Clone, Debug)]
pub enum Event {
    /// A message arrived. Messages that are not for this member are ignored. The driver lets in only members of the
    /// same cluster, and knows the sender.
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
    /// A linearizable read is wanted, at whatever member; answered by [`Effect::ReadReady`] or [`Effect::ReadRefused`].
    Read {
        /// Names the read in the answer.
        ticket: Ticket,
        /// How the leader makes sure that it still leads.
        mode: ReadMode,
    },
    /// The group is to be these voters and learners: learners first are brought up to date, then the group goes through
    /// a joint configuration (section 6). Answered, at the end, by [`Effect::Changed`] or [`Effect::ChangeRefused`].
    Change {
        /// Names the change in the answer.
        ticket: Ticket,
        /// The whole new group; `outgoing` must be empty. Lists need not be sorted.
        target: Configuration,
    },
    /// Another member is to lead (thesis, section 3.10). Answered by [`Effect::Transferred`] or
    /// [`Effect::TransferRefused`].
    Transfer {
        /// Names the transfer in the answer.
        ticket: Ticket,
        /// A voter.
        to: MemberId,
    },
    /// The driver has this checkpoint of the state machine, which it made itself, **on stable storage**. It must be able
    /// to read it until it has reported a newer one, and should as long as reads of it come, so that a long transfer need
    /// not begin anew; else it answers with [`Event::ChunkGone`].
    CheckpointTaken(Checkpoint),
    /// The answer to [`Effect::ReadChunk`].
    ChunkRead {
        /// As asked.
        to: MemberId,
        /// What was read. Never longer than was asked for.
        chunk: Chunk,
    },
    /// The answer to [`Effect::ReadChunk`] for a checkpoint that is no more, or cannot be read now.
    ChunkGone {
        /// As asked.
        to: MemberId,
        /// As asked.
        checkpoint: Checkpoint,
    },
    /// All chunks of this checkpoint were written, and its bytes do not have its digest: reported **before** the
    /// [`Event::Persisted`] that covers its last chunk. It is then fetched anew.
    CheckpointDamaged(Checkpoint),
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
    /// Read a piece of a checkpoint that a member needs; answered by [`Event::ChunkRead`] or [`Event::ChunkGone`]. At
    /// most [`Config::chunk_window`](crate::Config::chunk_window) are open for a member. Not answering is allowed: it
    /// is asked again.
    ReadChunk {
        /// The member.
        to: MemberId,
        /// One that the driver reported or was told to restore.
        checkpoint: Checkpoint,
        /// Where to begin.
        offset: u64,
        /// Bytes to read; never beyond the end.
        limit: u64,
    },
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
    /// The proposal was not taken. It will never happen.
    ProposalRefused {
        /// As in the proposal.
        ticket: Ticket,
        /// Whom to ask, if known.
        leader: Option<MemberId>,
        /// Why.
        why: Refusal,
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
    /// The change is done: this is the group, committed.
    Changed {
        /// As in the change.
        ticket: Ticket,
        /// Where it stands in the log.
        index: Index,
    },
    /// The change was not begun, was given up, or (see the reason) has an outcome that is unknown here.
    ChangeRefused {
        /// As in the change.
        ticket: Ticket,
        /// Whom to ask, if known.
        leader: Option<MemberId>,
        /// Why.
        why: Refusal,
    },
    /// This node told the other to take over and leads no more. Who leads is told by [`Effect::Role`].
    Transferred {
        /// As in the transfer.
        ticket: Ticket,
    },
    /// The transfer was not begun or was given up.
    TransferRefused {
        /// As in the transfer.
        ticket: Ticket,
        /// Whom to ask, if known.
        leader: Option<MemberId>,
        /// Why.
        why: Refusal,
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

/// Why something was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// This node does not lead.
    NotLeader,
    /// It stopped leading while this was under way. A change may yet be finished by the next leader, or be undone.
    Deposed,
    /// Too many bytes wait to be committed, or to become part of a checkpoint. Try again later.
    Busy,
    /// Leadership is being handed on. Try again at the next leader.
    Transferring,
    /// The leader has not committed an entry of its own term yet. Try again soon.
    NotReady,
    /// Another change of the group is not done yet.
    Changing,
    /// It makes no sense; says why.
    Invalid(&'static str),
    /// This new voter did not catch up; it was taken out again.
    Behind(MemberId),
    /// The other member did not take over within an election timeout.
    GaveUp,
}

/// Something to be made durable. After a crash a *prefix* of the parts of unreported persists may be on disk, in the
/// order of the fields: `hard`, `chunks`, `checkpoint`, `truncate`, `entries`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Persist {
    /// To be reported back.
    pub sequence: Sequence,
    /// Term and vote, if they changed.
    pub hard: Option<HardState>,
    /// Pieces of a checkpoint from the leader, to be kept beside the one in use. A piece at offset 0 begins a new one,
    /// and what was collected before can go; any other follows what was collected of its checkpoint.
    pub chunks: Vec<Chunk>,
    /// The collected checkpoint, whole and sound, takes the place of the one in use and of the **whole** log (with it
    /// goes every stored entry).
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
    /// The member was emptied, or found a hole in its log: it receives, but neither votes nor counts, until it was told
    /// that it may. A driver sets it when it starts a voter from less than it had stored, and it comes back in
    /// [`Persist::hard`] when it ends.
    pub rebuilding: bool,
}

/// What a driver found on its disk at start. All empty for a new member. The driver restores the state machine from
/// `checkpoint` by itself; applying begins after it.
#[derive(Clone, Debug, Default)]
pub struct Stored {
    /// Term and vote.
    pub hard: HardState,
    /// The newest checkpoint, taken here or installed.
    pub checkpoint: Option<Checkpoint>,
    /// A checkpoint of which only the first bytes were collected, and how many; `None` is always allowed.
    pub partial: Option<(Checkpoint, u64)>,
    /// Consecutive entries. They may begin before the end of the checkpoint; a gap after it is refused.
    pub entries: Vec<Entry>,
}
