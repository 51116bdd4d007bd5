//! The lock table: a pure, replicated state machine. Commands in, a reply and events out; no
//! clock, no task, no socket. It knows sessions, who holds which span under which grant number,
//! who waits, and which dead sessions await recovery. It does not know when a lease ends (a
//! command says so) nor what a lock protects.
//!
//! Events are not part of the replicated state: they are made only for sessions that listen at
//! this replica, and a stream always begins with a snapshot.

mod advisory;
mod check;
mod checkpoint;
mod chunks;
mod directory;
mod groups;
mod list;
mod locks;
mod pieces;
mod queue;
mod sessions;
mod shares;
mod slots;

#[cfg(test)]
mod advisory_tests;
#[cfg(test)]
mod proptests;
#[cfg(test)]
mod scale_tests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

pub use check::Broken;
pub use checkpoint::Damaged;
pub use locks::Mark;

use crate::{
    bug::{Bug, seeded},
    group::{LockGroup, MoveId, Shard},
    locks::Held,
    message::{Ask, Client, Command, Event, Reply, Seq, Ticket},
    name::{Grant, SessionId, Span},
    registry::{Changed, Op, Tree},
};
use advisory::Advisory;
use directory::Directory;
use pieces::Pieces;
use queue::Queue;
use slots::Slots;

/// The locks and the waiters of one shard; at home also the sessions, the registry and the assignment
/// of lock groups.
#[derive(Default)]
pub struct Table {
    next_session: u64,
    newest: Grant,
    sessions: BTreeMap<SessionId, Session>,
    pieces: Pieces,
    queue: Queue,
    tree: Tree,
    advisory: Advisory,
    slots: Slots,
    directory: Directory,
    /// Who is listening at this replica; not replicated.
    listeners: BTreeSet<SessionId>,
    /// Moves when there may be something that other shards have to be told; not replicated.
    stirred: u64,
    outbox: Vec<(SessionId, Event)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Session {
    client: Client,
    seq: Seq,
    /// The last batch was refused, for this group.
    refused: Option<(LockGroup, MoveId)>,
    newest: Grant,
    state: State,
    /// The last batch of changes of the registry, and what it answered.
    tree_seq: Seq,
    tree_last: Option<Changed>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Live,
    /// The lease ran out; the locks stay until the recoverer is done.
    Dead {
        recoverer: Option<SessionId>,
    },
    /// It came to its end; not all shards know that yet.
    Over,
}

impl Table {
    /// The most spans that one session may hold; beyond it, asks are answered [`Event::Full`]. It
    /// bounds what a snapshot of a session takes, too.
    pub const MOST_SPANS: u64 = 1 << 20;
    /// The most acquires of one session that may wait.
    pub const MOST_WAITS: usize = 1 << 14;

    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies a command.
    pub fn handle(&mut self, command: Command) -> Reply {
        if !matches!(command, Command::Batch { .. } | Command::Tree { .. }) {
            self.stirred += 1;
        }
        match command {
            Command::Open { .. } if self.shard() != Shard::HOME => Reply::Refused,
            Command::Open { client, replace } => self.open(client, replace),
            Command::Batch { session, seq, asks } => self.batch(session, seq, asks),
            Command::Expire(session) => self.expire(session),
            Command::Recovered { dead, by, seen } => self.recovered(dead, by, seen),
            Command::Close(session) => self.close(session),
            Command::Tree { session, seq, ops } => self.change(session, seq, &ops),
            Command::Group(command) => Reply::Group(self.group(command)),
        }
    }

    /// Another number whenever sessions, or the assignment of groups, may have changed.
    #[must_use]
    pub fn stirred(&self) -> u64 {
        self.stirred
    }

    /// The registry.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(crate) fn tree_mut(&mut self) -> &mut Tree {
        &mut self.tree
    }

    /// Begins to make events for `session` at this replica: what it holds and waits for, and then
    /// what it is asked to do. A session that does not live is told just that it ended.
    pub fn listen(&mut self, session: SessionId) -> Vec<Event> {
        let Some(row) = self.live(session) else { return vec![Event::Ended] };
        let snapshot = Event::Snapshot {
            // One that was refused did nothing.
            seq: Seq(row.seq.0 - u64::from(row.refused.is_some())),
            newest: row.newest,
            view: self.view(),
            held: self
                .pieces
                .held_by(session)
                .into_iter()
                .filter(|held| self.slots.serves(held.span))
                .collect(),
            waiting: self
                .queue
                .of(session)
                .filter(|(_, waiter)| self.slots.serves(waiter.ask.need))
                .map(|(_, waiter)| waiter.ask.ticket)
                .chain(self.advisory.of(session).map(|(_, wait)| wait.ticket))
                .collect::<Vec<Ticket>>(),
        };
        self.listeners.insert(session);
        let mut events = vec![snapshot];
        events.extend(self.revokes_of(session));
        events.extend(self.recoveries_of(session));
        events
    }

    /// Ends what [`Table::listen`] began.
    pub fn deafen(&mut self, session: SessionId) {
        self.listeners.remove(&session);
        self.outbox.retain(|(to, _)| *to != session);
    }

    /// Takes the events made since the last call.
    pub fn drain(&mut self) -> Vec<(SessionId, Event)> {
        std::mem::take(&mut self.outbox)
    }

    /// The sessions that live.
    pub fn living(&self) -> impl Iterator<Item = SessionId> {
        self.sessions
            .iter()
            .filter(|(_, session)| session.state == State::Live)
            .map(|(&session, _)| session)
    }

    /// The sessions that have not come to their end, dead ones too, and whether each lives.
    pub fn states(&self) -> impl Iterator<Item = (SessionId, bool)> {
        let known = self.sessions.iter().filter(|(_, row)| row.state != State::Over);
        known.map(|(&session, row)| (session, row.state == State::Live))
    }

    /// Whether `session` lives.
    #[must_use]
    pub fn lives(&self, session: SessionId) -> bool {
        self.live(session).is_some()
    }

    /// All that `session` holds.
    #[must_use]
    pub fn held_by(&self, session: SessionId) -> Vec<Held> {
        self.pieces.held_by(session)
    }

    fn live(&self, session: SessionId) -> Option<&Session> {
        self.sessions.get(&session).filter(|row| row.state == State::Live)
    }

    fn tell(&mut self, session: SessionId, event: impl FnOnce() -> Event) {
        if self.listeners.contains(&session) {
            self.outbox.push((session, event()));
        }
    }

    fn change(&mut self, session: SessionId, seq: Seq, ops: &[Op]) -> Reply {
        let Some(row) = self.live(session) else { return Reply::Expired };
        if seq <= row.tree_seq && !seeded(Bug::ChangeTwice) {
            // The answer to an older one has been given up by whoever asked.
            let again = row.tree_last.clone().filter(|_| seq == row.tree_seq);
            return again.map_or(Reply::Refused, Reply::Tree);
        }
        let results = ops.iter().map(|op| self.tree.change(session, op)).collect();
        let changed = Changed { revision: self.tree.revision(), results };
        if let Some(row) = self.sessions.get_mut(&session) {
            row.tree_seq = seq;
            row.tree_last = Some(changed.clone());
        }
        Reply::Tree(changed)
    }

    fn batch(&mut self, session: SessionId, seq: Seq, asks: Vec<Ask>) -> Reply {
        let missing = self.slots.missing_for(&asks);
        let unmet = self.is_unmet(session);
        let Some(row) = self.sessions.get_mut(&session).filter(|row| row.state == State::Live)
        else {
            return if unmet { Reply::Unmet } else { Reply::Expired };
        };
        if seq <= row.seq && !seeded(Bug::BatchTwice) {
            let again = row.refused.filter(|_| seq == row.seq);
            return again.map_or(Reply::Done, |(group, by)| Reply::Moved { group, by });
        }
        row.seq = seq;
        // As a whole or not at all, and for good: what was refused is asked elsewhere.
        row.refused = missing;
        if let Some((group, by)) = missing {
            return Reply::Moved { group, by };
        }
        let mut freed: Vec<Span> = Vec::new();
        for ask in asks {
            self.ask(session, ask, &mut freed);
        }
        self.settle(&freed);
        Reply::Done
    }
}

impl replica::StateMachine for Table {
    fn apply(&mut self, _: replica::Index, command: &[u8]) -> Bytes {
        let reply = match Command::decode(command) {
            Ok(command) => self.handle(command),
            Err(odd) => {
                tracing::error!(%odd, "an entry of the log of the lock group was skipped");
                Reply::Malformed
            }
        };
        reply.encode().into()
    }

    fn checkpoint(&self) -> Box<dyn replica::Image> {
        Box::new(self.freeze())
    }

    fn restore(&mut self, checkpoint: &mut dyn std::io::Read) -> Result<(), replica::Damaged> {
        let checkpoint = &replica::read_whole(checkpoint)?;
        // Nobody listens to a follower, and only a follower is restored.
        *self = Self::load(checkpoint).map_err(|damaged| replica::Damaged(damaged.to_string()))?;
        Ok(())
    }
}
