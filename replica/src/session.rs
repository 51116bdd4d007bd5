//! Client sessions: a command that is tried again takes effect once, and every try gets the reply
//! of the first (Raft, section 8; thesis, 6.3).
//!
//! The table is replicated state beside the machine: it changes only by entries of the log, is part
//! of every checkpoint, and is the same on all nodes. What the commands mean is not known here.
//!
//! A client enrols once and numbers its calls. Of each session the replies are kept that the client
//! may still ask for: those from its *floor* on, the lowest number that it awaits an answer for. A
//! call below the floor, or of a session that is gone, is refused and not applied. Sessions go, the
//! longest unused first, when there are too many, when their replies take too much room, or after an
//! hour unused; the hour is measured in log time, which leaders stamp on calls.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use raft::Index;

use crate::error::Error;

/// The most sessions of one group.
const SESSIONS: usize = 10_000;
/// The most bytes of replies kept for all sessions of a group.
const REPLY_BYTES: usize = 32 << 20;
/// A session unused for this long in log time is over, in milliseconds.
const IDLE: u64 = 3_600_000;
/// Calls of one session between its floor and its newest.
pub(crate) const WINDOW: u64 = 1024;
/// The room that a reply takes besides its bytes.
const OVERHEAD: usize = 64;

/// A client's session, named by the place in the log of the entry that enrolled it: ids grow and
/// are never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientId(pub u64);

/// A client's own number of a call. Numbers of one client grow from 1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CallNumber(pub u64);

/// Whose call a command is; the same for each try of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The session.
    pub client: ClientId,
    /// The call. Different commands have different numbers.
    pub number: CallNumber,
    /// The client's lowest call that it awaits an answer for: `number` or below. Replies to calls
    /// below it are forgotten. It may have grown from one try to the next.
    pub floor: CallNumber,
}

/// Milliseconds that leaders of the group have counted: grows along the log, stands still while
/// nobody calls, has nothing to do with any clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct LogTime(pub(crate) u64);

/// The sessions of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    by_client: BTreeMap<ClientId, Session>,
    /// By last use, oldest first.
    by_use: BTreeMap<Index, ClientId>,
    now: LogTime,
    bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Session {
    floor: CallNumber,
    used: Index,
    used_at: LogTime,
    replies: BTreeMap<CallNumber, Bytes>,
}

fn room(reply: &Bytes) -> usize {
    reply.len() + OVERHEAD
}

impl Sessions {
    /// The newest stamp seen.
    pub(crate) fn now(&self) -> LogTime {
        self.now
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_client.len()
    }

    /// Begins a session, by the entry at `index`.
    pub(crate) fn enrol(&mut self, index: Index, stamp: LogTime) -> ClientId {
        self.pass(stamp);
        let client = ClientId(index.0);
        let session = Session {
            floor: CallNumber(1),
            used: index,
            used_at: self.now,
            replies: BTreeMap::new(),
        };
        self.by_client.insert(client, session);
        self.by_use.insert(index, client);
        while self.by_client.len() > SESSIONS {
            self.drop_oldest();
        }
        client
    }

    /// Runs a call, by the entry at `index`, unless it has been run: then its reply is repeated.
    ///
    /// # Errors
    /// [`Error::Expired`] and [`Error::Spent`]; the command was then not applied by this entry.
    pub(crate) fn call(
        &mut self,
        index: Index,
        stamp: LogTime,
        caller: Caller,
        apply: impl FnOnce() -> Bytes,
    ) -> Result<Bytes, Error> {
        self.pass(stamp);
        let now = self.now;
        let Some(session) = self.by_client.get_mut(&caller.client) else {
            return Err(Error::Expired);
        };
        self.by_use.remove(&session.used);
        self.by_use.insert(index, caller.client);
        (session.used, session.used_at) = (index, now);
        if caller.floor > session.floor {
            session.floor = caller.floor;
            let kept = session.replies.split_off(&caller.floor);
            let gone = std::mem::replace(&mut session.replies, kept);
            self.bytes -= gone.values().map(room).sum::<usize>();
        }
        if let Some(reply) = session.replies.get(&caller.number) {
            return Ok(reply.clone());
        }
        let ahead = caller.number.0.saturating_sub(session.floor.0);
        if caller.number < session.floor || ahead >= WINDOW {
            return Err(Error::Spent);
        }
        let reply = apply();
        self.bytes += room(&reply);
        session.replies.insert(caller.number, reply.clone());
        while self.bytes > REPLY_BYTES {
            // The oldest that would make room; never the one that calls.
            let holds =
                |id: &&ClientId| **id != caller.client && !self.by_client[id].replies.is_empty();
            let Some(client) = self.by_use.values().find(holds).copied() else { break };
            self.drop_session(client);
        }
        Ok(reply)
    }

    /// Log time has come to `stamp`; ends the sessions that were unused for too long.
    fn pass(&mut self, stamp: LogTime) {
        self.now = self.now.max(stamp);
        while let Some((_, client)) = self.by_use.first_key_value() {
            let used_at = self.by_client[client].used_at;
            if self.now.0 - used_at.0 <= IDLE {
                return;
            }
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some((_, client)) = self.by_use.first_key_value() {
            self.drop_session(*client);
        }
    }

    fn drop_session(&mut self, client: ClientId) {
        if let Some(session) = self.by_client.remove(&client) {
            self.by_use.remove(&session.used);
            self.bytes -= session.replies.values().map(room).sum::<usize>();
        }
    }

    /// The table as bytes, oldest use first.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(64 * self.by_client.len() + self.bytes + 16);
        out.put_u64_le(self.now.0);
        out.put_u64_le(self.by_client.len() as u64);
        for (client, session) in &self.by_client {
            out.put_u64_le(client.0);
            out.put_u64_le(session.floor.0);
            out.put_u64_le(session.used.0);
            out.put_u64_le(session.used_at.0);
            out.put_u64_le(session.replies.len() as u64);
            for (number, reply) in &session.replies {
                out.put_u64_le(number.0);
                out.put_u64_le(reply.len() as u64);
                out.put_slice(reply);
            }
        }
        out.freeze()
    }

    /// Reads [`Sessions::encode`].
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub(crate) fn decode(mut bytes: Bytes) -> Result<Self, &'static str> {
        let mut sessions = Self { now: LogTime(word(&mut bytes)?), ..Self::default() };
        for _ in 0..word(&mut bytes)? {
            let client = ClientId(word(&mut bytes)?);
            let floor = CallNumber(word(&mut bytes)?);
            let used = Index(word(&mut bytes)?);
            let used_at = LogTime(word(&mut bytes)?);
            if used_at > sessions.now {
                return Err("a session was used in the future");
            }
            let mut replies = BTreeMap::new();
            for _ in 0..word(&mut bytes)? {
                let number = CallNumber(word(&mut bytes)?);
                let length = usize::try_from(word(&mut bytes)?).map_err(|_| CUT)?;
                if length > bytes.len() {
                    return Err(CUT);
                }
                let reply = Bytes::copy_from_slice(&bytes.split_to(length));
                sessions.bytes += room(&reply);
                replies.insert(number, reply);
            }
            let session = Session { floor, used, used_at, replies };
            if sessions.by_client.insert(client, session).is_some()
                || sessions.by_use.insert(used, client).is_some()
            {
                return Err("two sessions are one");
            }
        }
        if bytes.is_empty() { Ok(sessions) } else { Err("the sessions have a tail") }
    }
}

const CUT: &str = "the sessions are cut off";

fn word(bytes: &mut Bytes) -> Result<u64, &'static str> {
    if bytes.len() < 8 { Err(CUT) } else { Ok(bytes.get_u64_le()) }
}

#[cfg(test)]
mod tests;
