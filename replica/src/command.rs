//! What the host puts into the log around a machine's command: whose call it is, and its own
//! commands. One byte of kind, then fixed fields, then the machine's bytes.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use wire::NodeId;

use crate::{
    members,
    session::{CallNumber, Caller, ClientId, LogTime},
};

const PLAIN: u8 = 1;
const ENROL: u8 = 2;
const CALL: u8 = 3;
const BOOK: u8 = 4;

/// An entry of the log, as the host reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// A command that is applied as often as it stands in the log.
    Plain(Bytes),
    /// Begins a client session.
    Enrol(LogTime),
    /// A command that is applied once.
    Call(LogTime, Caller, Bytes),
    /// Where the nodes of the group are reached.
    Book(BTreeMap<NodeId, String>),
}

impl Command {
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        match self {
            Self::Plain(command) => {
                out.reserve(1 + command.len());
                out.put_u8(PLAIN);
                out.put_slice(command);
            }
            Self::Enrol(stamp) => {
                out.put_u8(ENROL);
                out.put_u64_le(stamp.0);
            }
            Self::Call(stamp, caller, command) => {
                out.reserve(33 + command.len());
                out.put_u8(CALL);
                out.put_u64_le(stamp.0);
                out.put_u64_le(caller.client.0);
                out.put_u64_le(caller.number.0);
                out.put_u64_le(caller.floor.0);
                out.put_slice(command);
            }
            Self::Book(book) => {
                out.put_u8(BOOK);
                out.put_slice(&members::encode_book(book));
            }
        }
        out.freeze()
    }

    /// Reads [`Command::encode`]; `None` if it is nothing that this release writes.
    pub(crate) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes.is_empty() {
            return None;
        }
        match (bytes.get_u8(), bytes.len()) {
            (PLAIN, _) => Some(Self::Plain(bytes)),
            (ENROL, 8) => Some(Self::Enrol(LogTime(bytes.get_u64_le()))),
            (CALL, 32..) => {
                let stamp = LogTime(bytes.get_u64_le());
                let client = ClientId(bytes.get_u64_le());
                let number = CallNumber(bytes.get_u64_le());
                let floor = CallNumber(bytes.get_u64_le());
                Some(Self::Call(stamp, Caller { client, number, floor }, bytes))
            }
            (BOOK, _) => members::decode_book(bytes).map(Self::Book),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_and_others_are_refused() {
        let caller =
            Caller { client: ClientId(7), number: CallNumber(u64::MAX), floor: CallNumber(3) };
        let command = Bytes::from_static(b"command");
        for command in [
            Command::Plain(Bytes::new()),
            Command::Plain(command.clone()),
            Command::Enrol(LogTime(9)),
            Command::Call(LogTime(1), caller, Bytes::new()),
            Command::Call(LogTime(1), caller, command),
            Command::Book(BTreeMap::from([(NodeId(3), "127.0.0.1:1".to_owned())])),
        ] {
            assert_eq!(Command::decode(command.encode()), Some(command));
        }
        for odd in [&b""[..], b"\x00", b"\x04abc", b"\x02short", b"\x03also too short"] {
            assert_eq!(Command::decode(Bytes::from_static(odd)), None);
        }
    }
}
