//! What a clerk asks, what the service tells it, and what goes through the replicated log. How
//! these look as bytes is in `convert`; what they do to the locks is in `table`.

use std::{fmt, time::Duration};

use crate::advisory::{Claim, ClaimRow, Claimed, Patience};
use crate::group::{LockGroup, MoveId};
use crate::locks::Held;
use crate::name::{Grant, Mode, Name, SessionId, Span};
use crate::registry::{Changed, Op};

mod groups;

pub use groups::{
    Assignment, Estate, GroupCommand, GroupReply, GroupRow, LoadRow, News, Part, View,
};

/// Names a question of a clerk, so that the answer can be matched to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket(pub u64);

/// Numbers the batches of one session; each is applied once, in order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Seq(pub u64);

/// A request for a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acquire {
    /// Names the request.
    pub ticket: Ticket,
    /// What must be given, whole.
    pub need: Span,
    /// What may be given around it as far as it is free; covers `need`.
    pub wish: Span,
    /// How.
    pub mode: Mode,
    /// Whether to wait for other holders.
    pub wait: bool,
}

/// One thing that a clerk asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// A lock.
    Acquire(Acquire),
    /// Those of many names that are free.
    Hint {
        /// Names the request.
        ticket: Ticket,
        /// The names.
        names: Vec<Name>,
        /// How.
        mode: Mode,
    },
    /// No longer wait. If it was granted meanwhile, that stays.
    Cancel(Ticket),
    /// Takes back what the session holds in the span, if it still holds it in that mode under that
    /// number: a newer grant of the same names may be on its way to the clerk, and stays.
    Release(Held),
    /// What the session holds exclusively in the span under that number becomes shared.
    Downgrade(Held),
    /// From now on the session can recover dead ones.
    Able,
    /// A number that the session has seen, here or at another shard: later grants go past it.
    Seen(Grant),
    /// The session has been told by this move that the group is served here, and of nothing later. What
    /// it asks of a group that was ever moved counts only so: it might not have heard yet what it has.
    At(LockGroup, MoveId),
    /// An advisory lock. A ticket that is still open may be asked about again: what was done stays.
    Claim {
        /// Names the request.
        ticket: Ticket,
        /// What.
        claim: Claim,
        /// What to do if others are in the way.
        patience: Patience,
    },
}

/// What the service tells a session, in the order of the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The first event of each stream.
    Snapshot {
        /// The last batch of the session that was applied.
        seq: Seq,
        /// The highest number of an exclusive grant that the session was given.
        newest: Grant,
        /// Which groups it tells of; `None`: there is but one shard, and it tells of all.
        view: Option<View>,
        /// All that it holds of them.
        held: Vec<Held>,
        /// The tickets that wait.
        waiting: Vec<Ticket>,
    },
    /// A group is served at this shard from here on.
    Adopted {
        /// Which.
        group: LockGroup,
        /// By which move.
        by: MoveId,
        /// All that the session holds of it.
        held: Vec<Held>,
        /// The tickets that wait for names of it.
        waiting: Vec<Ticket>,
    },
    /// There are so many shards now.
    Shards(u32),
    /// The answer to an acquire (its need is now held whole) or to a hint (perhaps nothing).
    Granted {
        /// What was asked.
        ticket: Ticket,
        /// What came to what the session held.
        held: Vec<Held>,
    },
    /// The answer to an acquire that does not wait, when the need is not free; or to a cancel, when
    /// the acquire still waited.
    Refused(Ticket),
    /// The answer to an acquire of a session that holds, or waits for, as much as one may.
    Full(Ticket),
    /// Somebody waits for the span.
    Revoke {
        /// The names.
        span: Span,
        /// What may stay.
        keep: Option<Mode>,
    },
    /// This session is to recover a dead one.
    Recover {
        /// The dead one.
        dead: SessionId,
        /// All that it held.
        held: Vec<Held>,
    },
    /// The answer to a claim.
    Claimed(Ticket, Claimed),
    /// Somebody asks for fresh numbers: renew now.
    Report,
    /// The session is over.
    Ended,
}

/// What kind of client a session belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A mounted file system.
    Mount,
    /// A MapReduce worker.
    Worker,
    /// A command that comes and goes.
    Tool,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mount => "mount",
            Self::Worker => "worker",
            Self::Tool => "tool",
        })
    }
}

/// Who opens a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    /// Stays the same over restarts of the same client (a mount point, a data directory).
    pub owner: String,
    /// The machine.
    pub host: String,
    /// What it is.
    pub kind: Kind,
    /// Whether it can recover dead sessions now. A clerk says so by [`Ask::Able`] when a recoverer
    /// was attached, not before: whoever is chosen and cannot yet would hold up what others wait for.
    pub able: bool,
    /// A random number: an opening that is asked for twice with it happens once.
    pub nonce: u64,
}

impl Client {
    /// The most bytes of `owner` and of `host`.
    pub const MAX_TEXT: usize = 4096;
}

/// An entry of the replicated log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// A new session.
    Open {
        /// Whose.
        client: Client,
        /// The client proves by other means that its older sessions are dead: they end at once.
        replace: bool,
    },
    /// Asks of one session, applied in order.
    Batch {
        /// Whose.
        session: SessionId,
        /// Each number is applied once.
        seq: Seq,
        /// What.
        asks: Vec<Ask>,
    },
    /// The session's lease ran out.
    Expire(SessionId),
    /// The dead session's business is done: its locks pass on.
    Recovered {
        /// The dead one.
        dead: SessionId,
        /// Who did it.
        by: SessionId,
        /// The newest number of a grant at any shard when the dead one was dead there.
        seen: Grant,
    },
    /// The session gave everything up and goes. Refused while it recovers another, which nobody else
    /// may take over: from then on it is given no more of them.
    Close(SessionId),
    /// Changes of the registry, in order.
    Tree {
        /// Whose.
        session: SessionId,
        /// Each number is applied once.
        seq: Seq,
        /// What.
        ops: Vec<Op>,
    },
    /// Something about shards and lock groups.
    Group(GroupCommand),
}

/// What a command answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reply {
    /// The new session.
    Opened(SessionId),
    /// Done, now or before.
    Done,
    /// There is no such live session.
    Expired,
    /// Not this session's to say.
    Refused,
    /// The command could not be read.
    Malformed,
    /// What became of changes of the registry.
    Tree(Changed),
    /// The whole batch was refused: a group of it is not served here. See the move with this number.
    Moved {
        /// Which group.
        group: LockGroup,
        /// The move that takes it, or took it, away.
        by: MoveId,
    },
    /// This shard has not been told of the session yet: ask again.
    Unmet,
    /// To what is about groups.
    Group(GroupReply),
}

/// What a clerk says when it renews its lease.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Renewal {
    /// Numbers for `plumeria status` (a JSON object, or empty).
    pub report: String,
    /// Revocations that it knows of and has not answered yet. A holder that is in somebody's way
    /// and says that it knows of none is told again, and then fenced.
    pub flushing: u32,
}

/// A session that was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Opened {
    /// Its id.
    pub session: SessionId,
    /// How long each renewal is good for.
    pub lease: Duration,
}

/// A session as `plumeria sessions` and `status` show it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionRow {
    /// Its id.
    pub session: SessionId,
    /// Whose.
    pub client: Client,
    /// Whether it lives; else it awaits its recovery.
    pub live: bool,
    /// Who recovers it.
    pub recoverer: Option<SessionId>,
    /// Time to the end of its lease by the leader's clock.
    pub lease_left: Duration,
    /// The numbers of its last renewal (a JSON object, or empty).
    pub report: String,
    /// Spans that it holds.
    pub spans: u64,
    /// Names that it holds.
    pub names: u64,
    /// Acquires of it that wait.
    pub waiting: u64,
    /// Revocations that it has not answered yet, by its last renewal.
    pub flushing: u32,
}

/// Who holds a span.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// The session.
    pub session: SessionId,
    /// How.
    pub mode: Mode,
    /// The number of the grant.
    pub grant: Grant,
}

/// A held span as `plumeria locks` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LockRow {
    /// The names.
    pub span: Span,
    /// Who holds them.
    pub owners: Vec<Owner>,
    /// For how long, if somebody holds them exclusively, as far back as the leader knows.
    pub held: Option<Duration>,
}

/// A waiting acquire as `plumeria locks` shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WaiterRow {
    /// Who waits.
    pub session: SessionId,
    /// For what.
    pub need: Span,
    /// How.
    pub mode: Mode,
    /// For whom.
    pub on: Vec<SessionId>,
    /// For how long, as far back as the leader knows.
    pub waited: Duration,
}

/// The locks as `plumeria locks` shows them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LockRows {
    /// What is held.
    pub locks: Vec<LockRow>,
    /// Who waits, in order.
    pub waiters: Vec<WaiterRow>,
    /// Advisory locks.
    pub claims: Vec<ClaimRow>,
    /// Whether there was more than is shown.
    pub cut: bool,
}
