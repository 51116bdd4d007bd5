//! The `raft` room: Raft as a pure machine. Events go in, effects come out.
//!
//! It knows the protocol of *In Search of an Understandable Consensus Algorithm* (Ongaro and Ousterhout, 2014;
//! "section" below) and of Ongaro's thesis. It may not know I/O, async, a clock, chance other than its seed, or what a
//! command means: a [`Node`] is told the time, and told when the disk has what it asked to be written. Given the same
//! seed and events it does the same, so that a whole group can be simulated, and a failure replayed.
//!
//! # What is here
//! | part | after | file |
//! |---|---|---|
//! | election with randomized timeouts | section 5.2 | `candidate`, `follower` |
//! | pre-vote; no vote while a leader is heard | thesis 9.6, 4.2.3 | `candidate`, `follower` |
//! | a leader without its majority steps down | thesis 6.2 | `leader` |
//! | replication: probe, pipelined stream, window, back-up by terms | section 5.3; thesis 10.2.1 | `leader`, `progress`, `log` |
//! | commitment, only of the leader's own term; no-op at its start | sections 5.4.2, 8 | `leader` |
//! | linearizable reads by ReadIndex, one round for all that wait | thesis 6.4 | `read` |
//! | checkpoints, sent whole to followers that lag | section 7 | `checkpoint` |
//! | what waits for the disk | section 5.2, "persistent state" | `outbox`, `log` |
//! | messages as bytes | | [`codec`] |
//!
//! # What always holds
//! The names are those of the paper's figure 3; the room `sim` checks each after every step.
//! - *Election safety*: two members never lead in the same term. A vote is on disk before it is told.
//! - *Leader append-only*: a leader never changes or drops an entry of its own log.
//! - *Log matching*: logs that agree on index and term of an entry agree up to it.
//! - *Leader completeness*: what is committed is in the log of every later leader. An entry counts for a member only
//!   after that member's own sync, and an older term's entry never by counting alone.
//! - *State machine safety*: no two members apply different entries at one index.
//!
//! # What is left out
//! Membership is fixed: no learners, no joint consensus (section 6), no leader transfer (thesis 3.10). A checkpoint
//! travels in one message, not in chunks (figure 13). Reads by lease and reads at followers (thesis 6.4.1, 6.4) are not
//! there; a follower names its leader. Client sessions (section 8, thesis 6.3) are the host's.

mod candidate;
mod checkpoint;
pub mod codec;
mod config;
mod configuration;
mod dice;
mod effect;
mod follower;
mod ids;
mod incoming;
mod leader;
mod log;
mod message;
mod node;
mod outbox;
mod progress;
mod quorum;
mod read;
mod sending;
mod status;

pub use config::Config;
pub use configuration::Configuration;
pub use effect::{Effect, Event, HardState, Persist, Refusal, Stored};
pub use ids::{Index, MemberId, Round, Sequence, Serial, Term, Ticket};
pub use message::{
    Append, AppendReply, Body, Checkpoint, Chunk, Conflict, Entry, Install, InstallReply, Message,
    Outcome, Payload, Position, ReadMode,
};
pub use node::Node;
pub use status::{FollowerStatus, Role, Status};

/// What this room can refuse.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings make no sense.
    #[error("raft settings: {0}")]
    Config(&'static str),
    /// What the disk holds cannot come from this protocol; the member must be rebuilt from the others.
    #[error(
        "stored raft state: {0}; restore it from a copy, or leave this member stopped: an emptied one may not vote again"
    )]
    Stored(&'static str),
    /// Bytes that are not a message.
    #[error("malformed raft message: {0}")]
    Malformed(&'static str),
}
