//! The replicated state machine of the simulation: it only remembers, in a digest, what it applied in which order.
//!
//! Two machines with the same index and digest applied the same. It knows nothing of terms.

use ::raft::{Entry, Index, Payload, Ticket};
use bytes::Bytes;

/// A state machine that is a digest of its history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// The last entry applied.
    pub index: Index,
    /// Of everything applied so far.
    pub digest: u64,
}

impl Machine {
    /// Applies the next entry.
    pub fn apply(&mut self, entry: &Entry) {
        self.index = entry.index;
        let word = Self::ticket(&entry.payload).map_or(u64::MAX, |ticket| ticket.0);
        self.digest = (self.digest ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }

    /// A command, named by its ticket.
    #[must_use]
    pub fn command(ticket: Ticket) -> Bytes {
        Bytes::copy_from_slice(&ticket.0.to_le_bytes())
    }

    /// Which command an entry carries, if any.
    #[must_use]
    pub fn ticket(payload: &Payload) -> Option<Ticket> {
        let Payload::Command(command) = payload else { return None };
        command.as_ref().try_into().ok().map(|bytes| Ticket(u64::from_le_bytes(bytes)))
    }

    /// Its encoding.
    #[must_use]
    pub fn checkpoint(&self) -> Bytes {
        [self.index.0.to_le_bytes(), self.digest.to_le_bytes()].concat().into()
    }

    /// The machine that was encoded.
    #[must_use]
    pub fn restore(bytes: &[u8]) -> Option<Self> {
        let (index, digest) = bytes.split_at_checked(8)?;
        Some(Self {
            index: Index(u64::from_le_bytes(index.try_into().ok()?)),
            digest: u64::from_le_bytes(digest.try_into().ok()?),
        })
    }
}
