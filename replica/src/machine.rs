//! What a state machine must offer to be hosted. What it is a machine of is not known here.

use std::io::{self, Read, Write};

use bytes::Bytes;
use raft::Index;

/// A checkpoint cannot be read: another format version, or damage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

impl From<io::Error> for Damaged {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// A deterministic machine: the same commands in the same order give the same state and the same
/// replies on every node. No clock, no dice, no iteration in hash order.
pub trait StateMachine: Send + 'static {
    /// Applies a committed command. Failures of a command are replies. Indices grow, with gaps.
    fn apply(&mut self, index: Index, command: &[u8]) -> Bytes;

    /// The whole state, frozen. Commands wait while this is made, so it should share or copy
    /// memory, not encode; [`Image::write`] runs later, on another thread, while they go on.
    fn checkpoint(&self) -> Box<dyn Image>;

    /// Replaces the state by a checkpoint, read to its end.
    ///
    /// # Errors
    /// If the bytes are not a checkpoint; the host then stops, and the node must be rebuilt.
    fn restore(&mut self, checkpoint: &mut dyn Read) -> Result<(), Damaged>;
}

/// The frozen state of a machine, to be written as its checkpoint.
pub trait Image: Send {
    /// Writes the encoding of the state, which carries its version.
    ///
    /// # Errors
    /// Those of `out`.
    fn write(self: Box<Self>, out: &mut dyn Write) -> io::Result<()>;
}

/// For machines that are small enough to be encoded at once.
impl Image for Bytes {
    fn write(self: Box<Self>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self)
    }
}

/// For machines that are small enough to be encoded at once.
impl Image for Vec<u8> {
    fn write(self: Box<Self>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self)
    }
}

/// The whole of a checkpoint, for machines that are small enough to be decoded at once.
///
/// # Errors
/// If it cannot be read.
pub fn read_whole(checkpoint: &mut dyn Read) -> Result<Vec<u8>, Damaged> {
    let mut bytes = Vec::new();
    checkpoint.read_to_end(&mut bytes)?;
    Ok(bytes)
}
