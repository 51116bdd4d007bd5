//! What a simulated group replicates: any [`StateMachine`]; here is the one of Raft's own schedules, with keys and values,
//! client sessions, and a digest of its history.
//!
//! Sessions make a retried command happen once (section 8; thesis, 6.3): the machine remembers each client's last
//! sequence and what it answered. Two machines with the same index and digest applied the same. It knows nothing of
//! terms, nor of what is right: the checks judge it by what they see themselves.

use std::collections::BTreeMap;

use ::raft::{Entry, Index, Payload};
use bytes::{BufMut, Bytes, BytesMut};

use super::command::{Command, Reader, Reply, Request, Step, Value, put_value};

/// A replicated state machine, as a member drives it.
pub trait StateMachine {
    /// The last entry applied.
    fn index(&self) -> Index;

    /// Of everything applied so far: equal at the same index on all members.
    fn digest(&self) -> u64;

    /// Applies the next entry; what a session gets for it, if it is a session's.
    fn apply(&mut self, entry: &Entry) -> Option<Applied>;

    /// Its encoding.
    fn checkpoint(&self) -> Bytes;

    /// Becomes what was encoded, or as new if nothing was. False, and unchanged, if the bytes are not whole.
    fn restore(&mut self, from: Option<&[u8]>) -> bool;

    /// What is at a key; nothing if the machine has no keys.
    fn get(&self, _: u8) -> Option<Value> {
        None
    }
}

/// Keys, sessions, and the digest of what was applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The last entry applied.
    pub index: Index,
    /// Of everything applied so far.
    pub digest: u64,
    values: BTreeMap<u8, Value>,
    /// By client: its last sequence, and the answer.
    sessions: BTreeMap<u32, (u32, Reply)>,
}

/// What applying a command did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Whose it was.
    pub client: u32,
    /// Its place in the session.
    pub sequence: u32,
    /// Whether it happened now, not at an earlier try.
    pub fresh: bool,
    /// The answer.
    pub reply: Reply,
}

impl StateMachine for Machine {
    fn index(&self) -> Index {
        self.index
    }

    fn digest(&self) -> u64 {
        self.digest
    }

    fn apply(&mut self, entry: &Entry) -> Option<Applied> {
        self.index = entry.index;
        let bytes: &[u8] = match &entry.payload {
            Payload::Command(bytes) => bytes,
            _ => &[0xff],
        };
        for byte in bytes {
            self.digest = (self.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        self.digest = self.digest.rotate_left(23);
        let Step { client, sequence, key, request } = Command::of(&entry.payload)?.step?;
        if let Some((last, reply)) = self.sessions.get(&client)
            && sequence <= *last
        {
            let reply = if sequence == *last { reply.clone() } else { Reply::Stale };
            return Some(Applied { client, sequence, fresh: false, reply });
        }
        let reply = self.perform(key, request);
        self.sessions.insert(client, (sequence, reply.clone()));
        Some(Applied { client, sequence, fresh: true, reply })
    }

    fn checkpoint(&self) -> Bytes {
        self.encode()
    }

    fn restore(&mut self, from: Option<&[u8]>) -> bool {
        let machine = from.map_or_else(|| Some(Self::default()), Self::decode);
        let whole = machine.is_some();
        *self = machine.unwrap_or_else(|| std::mem::take(self));
        whole
    }

    fn get(&self, key: u8) -> Option<Value> {
        self.at(key)
    }
}

impl Machine {
    fn perform(&mut self, key: u8, request: Request) -> Reply {
        match request {
            Request::Get => Reply::Value(self.at(key)),
            Request::Put(number) => {
                self.values.insert(key, vec![number]);
                Reply::Done
            }
            Request::Cas(old, number) => {
                let right = self.at(key) == old;
                if right {
                    self.values.insert(key, vec![number]);
                }
                Reply::Swapped(right)
            }
            Request::Append(number) => {
                self.values.entry(key).or_default().push(number);
                Reply::Done
            }
            Request::Delete => {
                self.values.remove(&key);
                Reply::Done
            }
        }
    }

    /// What is at a key.
    #[must_use]
    pub fn at(&self, key: u8) -> Option<Value> {
        self.values.get(&key).cloned()
    }

    /// Its encoding.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(256);
        out.put_u64_le(self.index.0);
        out.put_u64_le(self.digest);
        out.put_u32_le(self.values.len() as u32);
        for (key, value) in &self.values {
            out.put_u8(*key);
            put_value(&mut out, Some(value));
        }
        for (client, (sequence, reply)) in &self.sessions {
            out.put_u32_le(*client);
            out.put_u32_le(*sequence);
            match reply {
                Reply::Value(value) => {
                    out.put_u8(0);
                    put_value(&mut out, value.as_ref());
                }
                Reply::Done => out.put_u8(1),
                Reply::Swapped(false) => out.put_u8(2),
                Reply::Swapped(true) => out.put_u8(3),
                Reply::Stale => out.put_u8(4),
            }
        }
        out.freeze()
    }

    /// The machine that was encoded; `None` if the bytes are not whole.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Reader(bytes);
        let mut machine =
            Self { index: Index(from.u64()?), digest: from.u64()?, ..Self::default() };
        for _ in 0..from.u32()? {
            machine.values.insert(from.u8()?, from.value()??);
        }
        while !from.0.is_empty() {
            let (client, sequence) = (from.u32()?, from.u32()?);
            let reply = match from.u8()? {
                0 => Reply::Value(from.value()?),
                1 => Reply::Done,
                2 => Reply::Swapped(false),
                3 => Reply::Swapped(true),
                4 => Reply::Stale,
                _ => return None,
            };
            machine.sessions.insert(client, (sequence, reply));
        }
        Some(machine)
    }
}

#[cfg(test)]
mod tests {
    use ::raft::{Term, Ticket};

    use super::*;

    fn entry(index: u64, sequence: u32, request: Request) -> Entry {
        let step = Some(Step { client: 1, sequence, key: 0, request });
        let command = Command { ticket: Ticket(index), step };
        Entry { index: Index(index), term: Term(1), payload: Payload::Command(command.encode()) }
    }

    #[test]
    fn a_retried_command_happens_once_and_gets_the_first_answer() {
        let mut machine = Machine::default();
        let first = machine.apply(&entry(1, 1, Request::Cas(None, 5))).unwrap();
        machine.apply(&entry(2, 2, Request::Append(6)));
        let again = machine.apply(&entry(3, 2, Request::Append(6))).unwrap();
        let old = machine.apply(&entry(4, 1, Request::Cas(None, 5))).unwrap();
        assert!(first.fresh && first.reply == Reply::Swapped(true));
        assert!(!again.fresh && again.reply == Reply::Done);
        assert!(!old.fresh && old.reply == Reply::Stale);
        assert_eq!(machine.at(0), Some(vec![5, 6]));
        assert_eq!(Machine::decode(&machine.encode()), Some(machine.clone()));
        let whole = machine.encode();
        assert_ne!(Machine::decode(&whole[..whole.len() - 3]), Some(machine));
    }
}
