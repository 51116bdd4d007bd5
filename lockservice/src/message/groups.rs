//! What shards and coordinators say to each other about sessions and lock groups. Every command here can be
//! repeated, also late and by a leader that was deposed: it takes effect once or not at all.

use crate::{
    group::{LockGroup, MoveId, Shard},
    locks::Held,
    message::{Acquire, Owner},
    name::{Grant, Name, SessionId, Span},
};

/// What a shard serves, as the first event of a stream says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// How many shards there are; 0 if this shard does not know.
    pub shards: u32,
    /// The groups that are served here, each with the move that brought it.
    pub here: Vec<(LockGroup, MoveId)>,
}

/// A part of the state of a group on its way to another shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// The first name that it tells of.
    pub from: Name,
    /// The name behind the last; [`Name`] `u64::MAX` at the end.
    pub to: Name,
    /// Who holds what of the names between.
    pub pieces: Vec<(Span, Vec<Owner>)>,
    /// Who waits for a need that begins there: the place of each, and what it asked.
    pub waiters: Vec<(u64, SessionId, Acquire)>,
    /// The newest number of a grant where it comes from.
    pub newest: Grant,
}

impl Part {
    /// One that says nothing: it asks how far the gaining shard is.
    #[must_use]
    pub const fn nothing() -> Self {
        let (from, to) = (Name(0), Name(0));
        Self { from, to, pieces: Vec::new(), waiters: Vec::new(), newest: Grant(0) }
    }
}

/// What home tells another shard of sessions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct News {
    /// The newest session that the shard has met, as home believes.
    pub after: SessionId,
    /// The newest session that there is.
    pub until: SessionId,
    /// The sessions between them that have not come to their end, and whether each lives. Counts only
    /// if `after` is right: so a late message never brings back one that is long gone.
    pub fresh: Vec<(SessionId, bool)>,
    /// Sessions that died.
    pub died: Vec<SessionId>,
    /// Sessions that have come to their end, recovery included: their locks pass on.
    pub ended: Vec<SessionId>,
    /// The highest number of a grant that an ended one was given, or more.
    pub newest: Grant,
}

/// An entry of the log of a shard that is about groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupCommand {
    /// Home: there are so many shards. Fewer than before is refused; more begins to spread the groups.
    Shards(u32),
    /// Home: a group is to be moved.
    Move {
        /// Which.
        group: LockGroup,
        /// Where to.
        to: Shard,
    },
    /// Home: a move is done.
    Placed {
        /// Which group.
        group: LockGroup,
        /// By which move.
        by: MoveId,
    },
    /// Home: all shards know that these sessions have come to their end.
    Ended(Vec<SessionId>),
    /// Another shard: what became of sessions.
    News(News),
    /// The losing shard: the group is served no more.
    Freeze {
        /// Which.
        group: LockGroup,
        /// By which move.
        by: MoveId,
    },
    /// The gaining shard: a part of the group's state; with the last one it begins to serve it.
    Adopt {
        /// Which.
        group: LockGroup,
        /// By which move.
        by: MoveId,
        /// The part.
        part: Part,
    },
    /// The losing shard: what is left of the group is forgotten.
    Forget {
        /// Which.
        group: LockGroup,
        /// By which move.
        by: MoveId,
    },
}

/// What a shard answers about groups.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupReply {
    /// Done, now or before.
    Done,
    /// It cannot be; for a freeze: a lock spans several groups.
    Refused,
    /// The gaining shard needs the state from this name on.
    Needs(Name),
    /// The newest session that the shard has met is this one: tell it of the others first.
    Met(SessionId),
}

/// Where a group lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupRow {
    /// Which.
    pub group: LockGroup,
    /// At which shard.
    pub shard: Shard,
    /// The move that brought it there.
    pub by: MoveId,
    /// A move that is under way: where to, and its number.
    pub moving: Option<(Shard, MoveId)>,
}

/// The assignment of all groups, as home records it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assignment {
    /// How many shards there are.
    pub shards: u32,
    /// The number of the last move that began.
    pub newest: MoveId,
    /// Every group.
    pub groups: Vec<GroupRow>,
}

/// How much a shard has to do with a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoadRow {
    /// Which.
    pub group: LockGroup,
    /// Spans of it that are held.
    pub spans: u64,
    /// Who waits for it.
    pub waiters: u64,
    /// Requests for names of it since its leader came to lead.
    pub asked: u64,
}

/// What a dead session holds at a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Estate {
    /// All that it holds there of groups that are served there.
    pub held: Vec<Held>,
    /// Those groups.
    pub here: Vec<LockGroup>,
    /// The newest number of a grant there.
    pub newest: Grant,
}
