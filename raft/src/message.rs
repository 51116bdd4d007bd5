//! What members say to each other, and what the log is made of.
//!
//! Messages may be lost, repeated, delayed and reordered; the protocol needs nothing else of a network. How they are
//! turned into bytes is `codec`'s business, when they are sent is the roles'.

use bytes::Bytes;

use crate::ids::{Index, MemberId, Round, Term};

/// A place in the log together with the term of the entry there. Two logs that agree on a position agree on
/// everything before it (the log matching property).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The place.
    pub index: Index,
    /// The term of the entry there; zero at index zero.
    pub term: Term,
}

impl Position {
    /// Whether a log that ends here is at least as up to date as one that ends at `other` (section 5.4.1).
    #[must_use]
    pub fn covers(self, other: Self) -> bool {
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The entry with which every leader begins its term; the state machine does not see it.
    Noop,
    /// A command of the state machine.
    Command(Bytes),
}

impl Payload {
    /// Bytes carried, for batching.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Noop => 0,
            Self::Command(bytes) => bytes.len(),
        }
    }
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// What it carries.
    pub payload: Payload,
}

impl Entry {
    /// Where this entry stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }
}

/// The state machine as it was after the entry at `last`; stands for all entries up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry that it contains.
    pub last: Position,
    /// The state machine's own encoding.
    pub data: Bytes,
}

/// A message between two members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The sender.
    pub from: MemberId,
    /// The receiver.
    pub to: MemberId,
    /// The sender's term; for [`Body::PreVote`] and its granted reply the term that the sender would campaign in.
    pub term: Term,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// "Would you vote for me?" Changes nobody's term (thesis, section 9.6).
    PreVote {
        /// Where the sender's log ends.
        last: Position,
    },
    /// The answer to [`Body::PreVote`].
    PreVoteReply {
        /// Whether the sender would vote.
        granted: bool,
    },
    /// RequestVote.
    Vote {
        /// Where the sender's log ends.
        last: Position,
    },
    /// The answer to [`Body::Vote`].
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// AppendEntries; without entries it is the heartbeat.
    Append(Append),
    /// The answer to [`Body::Append`] and to [`Body::Install`].
    AppendReply(AppendReply),
    /// InstallSnapshot, here called a checkpoint.
    Install(Install),
}

/// AppendEntries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The position just before `entries`.
    pub prev: Position,
    /// Consecutive entries, the first at `prev.index + 1`.
    pub entries: Vec<Entry>,
    /// How far the leader has committed.
    pub commit: Index,
    /// The leader's newest quorum round; the reply echoes it.
    pub round: Round,
}

/// The answer to an append or to a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// The round of the message that is answered.
    pub round: Round,
    /// Whether it fitted.
    pub outcome: Outcome,
}

/// Whether an append fitted the follower's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The follower's log equals the leader's up to `matched`, on stable storage.
    Accepted {
        /// The last index known to be equal.
        matched: Index,
    },
    /// The follower has no such entry as `prev`.
    Rejected {
        /// The index of the `prev` that did not fit.
        prev: Index,
        /// Where to try next.
        conflict: Conflict,
    },
}

/// What the follower has in place of the entry that it was asked for (section 5.3, fast back-up).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The term of the entry in that place; `None` if the log ends before it.
    pub term: Option<Term>,
    /// The first index of that term in the follower's log, or the place after its last entry.
    pub first: Index,
}

/// InstallSnapshot, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// What the follower is to start from.
    pub checkpoint: Checkpoint,
    /// As in [`Append::round`].
    pub round: Round,
}
