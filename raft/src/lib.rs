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
//! | pre-vote; no vote while a leader is heard | thesis 9.6, 4.2.3 | `candidate`, `follower`, `receive` |
//! | a leader without its majority steps down | thesis 6.2 | `leader` |
//! | replication: probe, pipelined stream, window, back-up by terms | section 5.3; thesis 10.2.1 | `leader`, `progress`, `log` |
//! | commitment, only of the leader's own term; no-op at its start | sections 5.4.2, 8 | `leader` |
//! | a bound on what is not committed, and on the log in memory | | `leader`, `checkpoint` |
//! | reads by a quorum round, one for all that wait | thesis 6.4 | `read` |
//! | reads by lease | thesis 6.4.1 | `lease`, `read` |
//! | reads at followers and learners | thesis 6.4 | `ask`, `read` |
//! | checkpoints in chunks, resumed where they broke | section 7, figure 13 | `checkpoint`, `sending`, `incoming` |
//! | change of the group by joint consensus; new voters catch up first; learners | section 6; thesis 4.2, 4.3 | `membership`, `configuration`, `quorum` |
//! | leadership handed on | thesis 3.10 | `transfer` |
//! | a member that was emptied comes back without a wrong vote | | `rebuild` |
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
//! - A read sees all that was acknowledged, to anyone, before it was asked for, at whatever member and in whatever mode; by
//!   lease only as long as clocks keep to [`Config::drift`].
//!
//! # What is the driver's
//! Client sessions (section 8, thesis 6.3); the bytes of checkpoints, of which this room holds at most the chunks of one
//! window; when to take a checkpoint; to say, with [`HardState::rebuilding`], that a disk holds less than was promised.
//! Network members are known to be of the same cluster; messages may otherwise say anything.

mod ask;
mod bug;
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
mod lease;
mod log;
mod membership;
mod message;
mod node;
mod outbox;
mod progress;
mod quorum;
mod read;
mod rebuild;
mod receive;
mod sending;
mod status;
mod transfer;

#[cfg(feature = "seeded-bugs")]
pub use bug::Bug;
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
