//! skeleton
use crate::Error;
use crate::message::{Entry, Message};
use bytes::{Bytes, BytesMut};

/// Turns a message into bytes.
#[must_use]
pub fn encode(_message: &Message) -> Bytes {
    Bytes::new()
}

/// Reads a message; commands are slices of `bytes`, not copies.
///
/// # Errors
/// [`Error::Malformed`] if the bytes are not exactly one message.
pub fn decode(_bytes: Bytes) -> Result<Message, Error> {
    Err(Error::Malformed("skeleton"))
}

/// Adds one entry, index included, to `out` (for logs on disk).
pub fn encode_entry(_entry: &Entry, _out: &mut BytesMut) {}

/// Takes one entry off the front of `bytes`.
///
/// # Errors
/// [`Error::Malformed`] if the bytes do not begin with an entry.
pub fn decode_entry(_bytes: &mut Bytes) -> Result<Entry, Error> {
    Err(Error::Malformed("skeleton"))
}
