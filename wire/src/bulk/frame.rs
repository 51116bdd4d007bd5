//! The frame format, pure: header and hello to bytes and back. Nothing is allocated before the
//! lengths in the bytes were bounded. Who sends frames when is not known here.
//!
//! ```text
//!  0 magic u16 | 2 frame version u16 | 4 CRC32C of the header without this field u32
//!  8 request id u64
//! 16 kind u16 | 18 type u8 | 19 flags u8 (zero) | 20 deadline in ms, 0 = none, u32
//! 24 head length u32 | 28 body length u32
//! 32 CRC32C of the head u32 | 36 CRC32C of the body u32
//! 40..64 zero
//! 64 head, then body
//! ```
//! All little-endian.

use bytes::Bytes;

use crate::{
    error::Error,
    identity::{ClusterId, Identity, NodeId, PROTOCOL, Role},
};

/// The most bytes that head and body of one frame may have together.
pub const FRAME_LIMIT: u32 = 64 << 20;

pub(crate) const HEADER: usize = 64;
const MAGIC: u16 = 0x4c50;
const VERSION: u16 = 1;

/// A request or a reply: what it is, small metadata, and a payload that is never copied.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Message {
    /// What it is; the numbers belong to the service.
    pub kind: u16,
    /// Small metadata, by convention a protobuf message.
    pub head: Bytes,
    /// The payload.
    pub body: Bytes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// First frame of the connecting side: who it is.
    Hello = 1,
    /// The answer: who serves, and how many bytes it takes in flight.
    Welcome = 2,
    /// The other answer: a sentence why not.
    Refuse = 3,
    Request = 4,
    Reply = 5,
    /// The request was not begun: its deadline had passed.
    Late = 6,
    Ping = 7,
    Pong = 8,
}

impl Type {
    fn from_number(number: u8) -> Option<Self> {
        const ALL: [Type; 8] = [
            Type::Hello,
            Type::Welcome,
            Type::Refuse,
            Type::Request,
            Type::Reply,
            Type::Late,
            Type::Ping,
            Type::Pong,
        ];
        ALL.into_iter().find(|known| *known as u8 == number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) frame: Type,
    pub(crate) id: u64,
    pub(crate) kind: u16,
    pub(crate) deadline_ms: u32,
    pub(crate) head_length: u32,
    pub(crate) body_length: u32,
    head_crc: u32,
    body_crc: u32,
}

pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

impl Header {
    /// The header of a frame that carries `message`, whose size is within the limit.
    pub(crate) fn of(
        frame: Type,
        id: u64,
        deadline_ms: u32,
        message: &Message,
    ) -> Result<Self, Error> {
        let size = message.head.len() as u64 + message.body.len() as u64;
        if size > u64::from(FRAME_LIMIT) {
            return Err(Error::TooLarge { size, limit: u64::from(FRAME_LIMIT) });
        }
        Ok(Self {
            frame,
            id,
            kind: message.kind,
            deadline_ms,
            head_length: message.head.len() as u32,
            body_length: message.body.len() as u32,
            head_crc: crc32c(&message.head),
            body_crc: crc32c(&message.body),
        })
    }

    /// The same frame under another request id.
    pub(crate) fn with_id(self, id: u64) -> Self {
        Self { id, ..self }
    }

    pub(crate) fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[2..4].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.id.to_le_bytes());
        bytes[16..18].copy_from_slice(&self.kind.to_le_bytes());
        bytes[18] = self.frame as u8;
        bytes[20..24].copy_from_slice(&self.deadline_ms.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.head_length.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.body_length.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.head_crc.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header. `limit` bounds head and body together.
    ///
    /// # Errors
    /// Whatever is not exactly what [`Header::encode`] writes, and lengths beyond `limit`.
    pub(crate) fn decode(bytes: &[u8; HEADER], limit: u32) -> Result<Self, Error> {
        if u16_at(bytes, 0) != MAGIC {
            return Err(Error::Damaged("it does not begin with the magic number"));
        }
        if u16_at(bytes, 2) != VERSION {
            return Err(Error::Damaged("unknown frame version"));
        }
        let mut plain = *bytes;
        plain[4..8].fill(0);
        if crc32c(&plain) != u32_at(bytes, 4) {
            return Err(Error::Damaged("the header fails its checksum"));
        }
        let frame = Type::from_number(bytes[18]).ok_or(Error::Damaged("unknown frame type"))?;
        if bytes[19] != 0 || bytes[40..].iter().any(|byte| *byte != 0) {
            return Err(Error::Damaged("unknown flags"));
        }
        let header = Self {
            frame,
            id: u64_at(bytes, 8),
            kind: u16_at(bytes, 16),
            deadline_ms: u32_at(bytes, 20),
            head_length: u32_at(bytes, 24),
            body_length: u32_at(bytes, 28),
            head_crc: u32_at(bytes, 32),
            body_crc: u32_at(bytes, 36),
        };
        let size = u64::from(header.head_length) + u64::from(header.body_length);
        if size > u64::from(limit) {
            return Err(Error::TooLarge { size, limit: u64::from(limit) });
        }
        Ok(header)
    }

    /// Checks what arrived behind the header.
    pub(crate) fn check(&self, message: &Message) -> Result<(), Error> {
        if crc32c(&message.head) != self.head_crc {
            return Err(Error::Damaged("the head fails its checksum"));
        }
        if crc32c(&message.body) != self.body_crc {
            return Err(Error::Damaged("the body fails its checksum"));
        }
        Ok(())
    }
}

/// The head of a Hello or Welcome frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) protocol: u16,
    pub(crate) identity: Identity,
    /// How many bytes of requests the server takes in flight; 0 from the connecting side.
    pub(crate) window: u32,
}

const HELLO: usize = 31;

impl Hello {
    pub(crate) fn new(identity: Identity, window: u32) -> Self {
        Self { protocol: PROTOCOL, identity, window }
    }

    pub(crate) fn encode(&self) -> Message {
        let mut head = Vec::with_capacity(HELLO);
        head.extend_from_slice(&self.protocol.to_le_bytes());
        head.extend_from_slice(&self.identity.cluster.0.to_le_bytes());
        head.extend_from_slice(&self.identity.node.0.to_le_bytes());
        head.push(self.identity.role.number());
        head.extend_from_slice(&self.window.to_le_bytes());
        Message::new(0, head, Bytes::new())
    }

    pub(crate) fn decode(head: &[u8]) -> Result<Self, Error> {
        if head.len() != HELLO {
            return Err(Error::Damaged("a hello has 31 bytes"));
        }
        let cluster = u128::from(u64_at(head, 2)) | u128::from(u64_at(head, 10)) << 64;
        let role = Role::from_number(head[26]).ok_or(Error::Damaged("unknown role in a hello"))?;
        let node = NodeId(u64_at(head, 18));
        Ok(Self {
            protocol: u16_at(head, 0),
            identity: Identity { cluster: ClusterId(cluster), node, role },
            window: u32_at(head, 27),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop_assert_eq, proptest};

    use super::*;

    #[test]
    fn a_hello_is_read_back() {
        let identity =
            Identity { cluster: ClusterId(3 << 100), node: NodeId(9), role: Role::Mount };
        let hello = Hello::new(identity, 77);
        assert_eq!(Hello::decode(&hello.encode().head), Ok(hello));
        assert!(Hello::decode(&hello.encode().head[1..]).is_err());
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused_before_anything_is_allocated() {
        let message = Message::new(1, vec![1; 10], vec![2; 100]);
        let header = Header::of(Type::Request, 1, 0, &message).unwrap();
        let refused = Header::decode(&header.encode(), 109);
        assert_eq!(refused, Err(Error::TooLarge { size: 110, limit: 109 }));
        assert!(Header::decode(&header.encode(), 110).is_ok());
    }

    #[test]
    fn a_flipped_bit_anywhere_in_the_header_is_noticed() {
        let message = Message::new(1, vec![1; 10], vec![2; 100]);
        let bytes = Header::of(Type::Request, 1, 5, &message).unwrap().encode();
        for bit in 0..HEADER * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&flipped, FRAME_LIMIT).is_err(), "bit {bit}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_bytes_make_the_decoders_panic(bytes in any::<[u8; HEADER]>(), fix in any::<bool>()) {
            let mut bytes = bytes;
            if fix {
                // Past magic, version and checksum, so that the fields behind them are reached.
                bytes[0..2].copy_from_slice(&MAGIC.to_le_bytes());
                bytes[2..4].copy_from_slice(&VERSION.to_le_bytes());
                bytes[4..8].fill(0);
                let crc = crc32c(&bytes);
                bytes[4..8].copy_from_slice(&crc.to_le_bytes());
            }
            if let Ok(header) = Header::decode(&bytes, FRAME_LIMIT) {
                prop_assert_eq!(header.encode(), bytes);
            }
            let _ = Hello::decode(&bytes[..HELLO]);
        }

        #[test]
        fn a_header_is_read_back(
            id in any::<u64>(),
            kind in any::<u16>(),
            ms in any::<u32>(),
            head in proptest::collection::vec(any::<u8>(), 0..50),
            body in proptest::collection::vec(any::<u8>(), 0..500),
        ) {
            let message = Message::new(kind, head, body);
            let header = Header::of(Type::Reply, id, ms, &message).unwrap();
            prop_assert_eq!(Header::decode(&header.encode(), FRAME_LIMIT), Ok(header));
            prop_assert_eq!(header.check(&message), Ok(()));
        }
    }
}
