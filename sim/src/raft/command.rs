//! What the log of a simulated group carries: commands of a small key-value machine, and their encoding.
//!
//! Every proposal has a ticket of its own, also the retry of one; a retry is known by its client and sequence. It knows
//! nothing of what a command does.

use ::raft::{Payload, Ticket};
use bytes::{BufMut, Bytes, BytesMut};

/// A value: the numbers of the writes that made it. Every write has a number of its own, so that a value tells where it
/// came from.
pub type Value = Vec<u32>;

/// What a client asks of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Read through the log.
    Get,
    /// Put this in place of what is there.
    Put(u32),
    /// Put the number in place of what is there, if that is this.
    Cas(Option<Value>, u32),
    /// Add to what is there.
    Append(u32),
    /// Take away what is there.
    Delete,
}

/// What the machine answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What is there.
    Value(Option<Value>),
    /// It was done.
    Done,
    /// Whether the value was as expected, and the new one is in its place.
    Swapped(bool),
    /// The client went on to a later sequence before: this one was not done, and never will be.
    Stale,
}

/// One step of a client's session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Who asks.
    pub client: u32,
    /// Grows by one with each operation of a client; a retry has that of the first try.
    pub sequence: u32,
    /// What it is about.
    pub key: u8,
    /// What is asked.
    pub request: Request,
}

/// A command in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Names the proposal.
    pub ticket: Ticket,
    /// Part of a session; a command without one only marks its place.
    pub step: Option<Step>,
}

impl Command {
    /// As the log carries it.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(32);
        out.put_u64_le(self.ticket.0);
        if let Some(step) = &self.step {
            out.put_u32_le(step.client);
            out.put_u32_le(step.sequence);
            out.put_u8(step.key);
            let (kind, number) = match &step.request {
                Request::Get => (0, 0),
                Request::Put(number) => (1, *number),
                Request::Cas(_, number) => (2, *number),
                Request::Append(number) => (3, *number),
                Request::Delete => (4, 0),
            };
            out.put_u8(kind);
            out.put_u32_le(number);
            if let Request::Cas(old, _) = &step.request {
                put_value(&mut out, old.as_ref());
            }
        }
        out.freeze()
    }

    /// The command that an entry carries, if it is one.
    #[must_use]
    pub fn of(payload: &Payload) -> Option<Self> {
        let Payload::Command(bytes) = payload else { return None };
        let mut from = Reader(bytes);
        let ticket = Ticket(from.u64()?);
        if from.0.is_empty() {
            return Some(Self { ticket, step: None });
        }
        let (client, sequence, key) = (from.u32()?, from.u32()?, from.u8()?);
        let (kind, number) = (from.u8()?, from.u32()?);
        let request = match kind {
            0 => Request::Get,
            1 => Request::Put(number),
            2 => Request::Cas(from.value()?, number),
            3 => Request::Append(number),
            4 => Request::Delete,
            _ => return None,
        };
        Some(Self { ticket, step: Some(Step { client, sequence, key, request }) })
    }

    /// Only its ticket.
    #[must_use]
    pub fn ticket_of(payload: &Payload) -> Option<Ticket> {
        let Payload::Command(bytes) = payload else { return None };
        Reader(bytes).u64().map(Ticket)
    }
}

pub(super) fn put_value(out: &mut BytesMut, value: Option<&Value>) {
    match value {
        None => out.put_u16_le(u16::MAX),
        Some(value) => {
            out.put_u16_le(value.len() as u16);
            for number in value {
                out.put_u32_le(*number);
            }
        }
    }
}

/// Numbers out of bytes; `None` at their end.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_at_checked(N)?;
        self.0 = rest;
        head.try_into().ok()
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|b| b[0])
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    pub(super) fn value(&mut self) -> Option<Option<Value>> {
        match self.u16()? {
            u16::MAX => Some(None),
            length => (0..length).map(|_| self.u32()).collect::<Option<Value>>().map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_read_as_it_was_written() {
        let requests = [
            Request::Get,
            Request::Put(7),
            Request::Cas(Some(vec![1, 2]), 3),
            Request::Cas(None, 3),
            Request::Append(9),
            Request::Delete,
        ];
        let steps =
            requests.into_iter().map(|request| Step { client: 3, sequence: 5, key: 1, request });
        for step in steps.map(Some).chain([None]) {
            let command = Command { ticket: Ticket(77), step };
            let payload = Payload::Command(command.encode());
            assert_eq!(Command::ticket_of(&payload), Some(Ticket(77)));
            assert_eq!(Command::of(&payload), Some(command));
        }
    }
}
