//! What a state machine must offer to be hosted. What it is a machine of is not known here.

use bytes::Bytes;
use raft::Index;

/// A checkpoint cannot be read: another format version, or damage.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Damaged(pub String);

/// A deterministic machine: the same commands in the same order give the same state and the same
/// replies on every node. No clock, no dice, no iteration in hash order.
pub trait StateMachine: Send + 'static {
    /// Applies a committed command. Failures of a command are replies. Indices grow, with gaps.
    fn apply(&mut self, index: Index, command: &[u8]) -> Bytes;

    /// The whole state, in an encoding that carries its version.
    fn checkpoint(&self) -> Bytes;

    /// Replaces the state by a checkpoint.
    ///
    /// # Errors
    /// If the bytes are not a checkpoint; the host then stops, and the node must be rebuilt.
    fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Damaged>;
}
