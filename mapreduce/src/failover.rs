//! The coordinator of a job is replaced when it is lost. What happens to it is journalled in the file system
//! ([`journal`]); standbys, which are workers, replay the journal while it grows ([`standby`]); who leads is decided by
//! an election (`Ballots`). It is the primary and backup of VM-FT (Scales et al., 2010) for a pure machine: the same
//! events give the same state, and nothing is done before the event that caused it is durable.
//!
//! What a job does is not known here; the machine that is replayed is `job::machine`.

pub(crate) mod ballots;
pub(crate) mod chain;
pub(crate) mod journal;
pub(crate) mod standby;
