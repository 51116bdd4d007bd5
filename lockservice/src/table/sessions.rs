//! The life of a session in the table: opened, expired, recovered, closed; and who recovers whom.
//!
//! A dead session keeps its locks until its recoverer says that it is done. If the recoverer dies
//! too, the dead session gets a new one only when that recoverer itself has been recovered: until
//! then it may still be writing.

use super::{Session, State, Table};
use crate::{
    bug::{Bug, seeded},
    message::{Client, Event, Reply},
    name::{Grant, SessionId, Span},
};

impl Table {
    pub(super) fn open(&mut self, client: Client, replace: bool) -> Reply {
        let again = self.sessions.iter().find(|(_, row)| {
            row.state == State::Live
                && row.client.nonce == client.nonce
                && row.client.owner == client.owner
        });
        if let Some((&session, _)) = again {
            return Reply::Opened(session);
        }
        self.next_session += 1;
        let session = SessionId(self.next_session);
        let older: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, row)| replace && row.client.owner == client.owner)
            .map(|(&older, _)| older)
            .collect();
        self.sessions.insert(session, Session::new(client, State::Live));
        for older in older {
            self.die(older);
        }
        self.assign();
        Reply::Opened(session)
    }

    pub(super) fn expire(&mut self, session: SessionId) -> Reply {
        if self.live(session).is_none() {
            return Reply::Expired;
        }
        self.die(session);
        if seeded(Bug::NotRecovered) {
            self.forget(session);
        }
        self.assign();
        Reply::Done
    }

    /// `seen` is past every number that the dead one was given, at whatever shard.
    pub(super) fn recovered(&mut self, dead: SessionId, by: SessionId, seen: Grant) -> Reply {
        match self.sessions.get(&dead).map(|row| row.state) {
            None | Some(State::Over) => Reply::Done,
            Some(State::Dead { recoverer: Some(recoverer) })
                if recoverer == by && self.live(by).is_some() =>
            {
                self.newest = self.newest.max(seen);
                self.forget(dead);
                Reply::Done
            }
            Some(_) => Reply::Refused,
        }
    }

    pub(super) fn close(&mut self, session: SessionId) -> Reply {
        if self.live(session).is_none() {
            return Reply::Expired;
        }
        if self.recovering(session).next().is_some() {
            // Nobody fences a session that closes, so what it replays it must replay to the end.
            if let Some(row) = self.sessions.get_mut(&session) {
                row.client.able = false;
            }
            return Reply::Refused;
        }
        self.unwait(session);
        self.forget(session);
        self.tell(session, || Event::Ended);
        Reply::Done
    }

    /// `session` can recover others from now on.
    pub(super) fn able(&mut self, session: SessionId) {
        if let Some(row) = self.sessions.get_mut(&session) {
            row.client.able = true;
        }
        self.assign();
    }

    /// The locks stay, the waiters go.
    pub(super) fn die(&mut self, session: SessionId) {
        let Some(row) = self.sessions.get_mut(&session) else { return };
        if row.state != State::Live {
            return;
        }
        row.state = State::Dead { recoverer: None };
        row.tree_last = None;
        self.tree.end(session);
        self.end_claims(session);
        self.tell(session, || Event::Ended);
        self.unwait(session);
    }

    /// What the session waits for it waits for no longer, nor does anybody for its sake.
    pub(super) fn unwait(&mut self, session: SessionId) {
        let places: Vec<u64> = self.queue.of(session).map(|(place, _)| place).collect();
        let gone = places.into_iter().filter_map(|place| self.queue.remove(place));
        let freed: Vec<Span> = gone.map(|waiter| waiter.ask.need).collect();
        self.settle(&freed);
    }

    /// The session is gone for good and its locks pass on.
    pub(super) fn forget(&mut self, session: SessionId) {
        if self.directory.shards > 1
            && let Some(row) = self.sessions.get_mut(&session)
        {
            // Its locks elsewhere pass on when the shards there have been told.
            row.state = State::Over;
            row.tree_last = None;
        } else {
            self.sessions.remove(&session);
        }
        self.tree.end(session);
        self.end_claims(session);
        let freed = self.pieces.take_all(session);
        self.assign();
        self.settle(&freed);
    }

    /// Gives each dead session that has nobody a recoverer: the able live session with the least
    /// to recover.
    fn assign(&mut self) {
        let orphans: Vec<SessionId> = self
            .sessions
            .iter()
            .filter(|(_, row)| match row.state {
                State::Live | State::Over => false,
                State::Dead { recoverer: None } => true,
                State::Dead { recoverer: Some(by) } => {
                    !self.is_known(by) || (seeded(Bug::RecoveryReassigned) && !self.lives(by))
                }
            })
            .map(|(&session, _)| session)
            .collect();
        for dead in orphans {
            let recoverer = self
                .sessions
                .iter()
                .filter(|(_, row)| row.state == State::Live && row.client.able)
                .map(|(&able, _)| able)
                .min_by_key(|able| (self.recovering(*able).count(), *able));
            if let Some(row) = self.sessions.get_mut(&dead) {
                row.state = State::Dead { recoverer };
            }
            if let Some(by) = recoverer {
                let held = self.pieces.held_by(dead);
                self.tell(by, || Event::Recover { dead, held });
            }
        }
    }

    /// The dead sessions that `by` is to recover.
    pub(super) fn recovering(&self, by: SessionId) -> impl Iterator<Item = SessionId> {
        self.sessions
            .iter()
            .filter(move |(_, row)| row.state == State::Dead { recoverer: Some(by) })
            .map(|(&dead, _)| dead)
    }

    pub(super) fn recoveries_of(&self, by: SessionId) -> Vec<Event> {
        self.recovering(by)
            .map(|dead| Event::Recover { dead, held: self.pieces.held_by(dead) })
            .collect()
    }
}
