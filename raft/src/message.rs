//! What members say to each other, and what the log is made of.
//!
//! Messages may be lost, repeated, delayed and reordered; the protocol needs nothing else of a network. How they are
//! turned into bytes is `codec`'s business, when they are sent is the roles'.

use std::sync::Arc;

use bytes::Bytes;

use crate::bug::{self, Bug};
use crate::configuration::Configuration;
use crate::ids::{Index, MemberId, Round, Serial, Term};

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
        if bug::on(Bug::ShortLogElected) {
            return true;
        }
        if bug::on(Bug::LongestLogElected) {
            return self.index >= other.index;
        }
        (self.term, self.index) >= (other.term, other.index)
    }
}

/// What an entry carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// The entry with which a leader begins its term; the state machine does not see it. The first leader of all begins
    /// with the configuration of the founders instead.
    Noop,
    /// A command of the state machine.
    Command(Bytes),
    /// The group from here on: in force at a member as soon as it stands in its log (section 6). The state machine does
    /// not see it; the driver notes it for its checkpoints.
    Configuration(Arc<Configuration>),
}

impl Payload {
    /// Bytes carried, for batching.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Noop => 0,
            Self::Command(bytes) => bytes.len(),
            Self::Configuration(configuration) => configuration.size(),
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
    /// What it counts for in every bound on bytes: its payload and a fixed part, so that empty commands are bounded too.
    #[must_use]
    pub fn size(&self) -> usize {
        self.payload.size() + 16
    }

    /// Where this entry stands.
    #[must_use]
    pub fn position(&self) -> Position {
        Position { index: self.index, term: self.term }
    }
}

/// Names the state machine as it was after the entry at `last`; it stands for all entries up to it. The bytes are the
/// driver's: this room sees them only in passing, a chunk at a time. Two checkpoints that are equal have equal bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last entry that it contains.
    pub last: Position,
    /// The newest configuration at or before `last`.
    pub configuration: Arc<Configuration>,
    /// Bytes of the encoding.
    pub size: u64,
    /// Of these bytes, by a function that all drivers of the group agree on; it tells two encodings of one state apart,
    /// and a damaged copy from a sound one.
    pub digest: u64,
}

/// A piece of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Of which one.
    pub checkpoint: Checkpoint,
    /// Where in its bytes the piece begins.
    pub offset: u64,
    /// The piece. Empty only for a checkpoint without any bytes.
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
        /// The leader itself asked the sender to take over: that the leader is heard is no reason to refuse (thesis,
        /// section 4.2.3).
        transfer: bool,
    },
    /// The answer to [`Body::Vote`].
    VoteReply {
        /// Whether the vote was given.
        granted: bool,
    },
    /// AppendEntries; without entries it is the heartbeat.
    Append(Append),
    /// The answer to [`Body::Append`], and to the last [`Body::Install`] of a checkpoint.
    AppendReply(AppendReply),
    /// InstallSnapshot, here called a checkpoint: one chunk of it.
    Install(Install),
    /// How much of a checkpoint has arrived.
    InstallReply(InstallReply),
    /// "Campaign now": the leader hands leadership on to one that has its whole log (thesis, section 3.10).
    TimeoutNow,
    /// A follower asks which index its readers must wait for (thesis, section 6.4).
    ReadIndex {
        /// Names the question; no two of one member are equal, not even across its restarts.
        serial: Serial,
        /// How the leader is to make sure that it still leads.
        mode: ReadMode,
    },
    /// The answer to [`Body::ReadIndex`].
    ReadIndexReply {
        /// As in the question.
        serial: Serial,
        /// Where the state machine must be; `None` if the leader could not find out.
        index: Option<Index>,
    },
    /// To a member that was emptied: a majority without it has committed an entry that was made after its return, so it
    /// may vote again.
    Rebuilt {
        /// That entry.
        upto: Index,
        /// The life that is meant, as its answers named it.
        life: Serial,
    },
}

/// How a leader makes sure that it still leads when it answers a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReadMode {
    /// By a round of answers from a majority (ReadIndex). Needs no clock.
    Quorum,
    /// By its lease, if it has one, and else by a round. Needs clocks that keep to [`Config::drift`](crate::Config).
    Lease,
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

/// The answer to an append or to a whole checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendReply {
    /// The round of the message that is answered.
    pub round: Round,
    /// Whether it fitted.
    pub outcome: Outcome,
    /// The sender was emptied, and takes no part in any majority until it is told that it may; this names its life.
    pub rebuilding: Option<Serial>,
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

/// InstallSnapshot, one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Install {
    /// A piece of what the follower is to start from. With no data it only asks how far the follower is.
    pub chunk: Chunk,
    /// As in [`Append::round`].
    pub round: Round,
}

/// How much of a checkpoint is on the follower's stable storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallReply {
    /// As in [`AppendReply::round`].
    pub round: Round,
    /// The last entry of the checkpoint that this is about.
    pub last: Position,
    /// Its digest.
    pub digest: u64,
    /// Bytes from its beginning.
    pub received: u64,
    /// The chunk that is answered did not follow the bytes before it: go on from `received`.
    pub again: bool,
}
