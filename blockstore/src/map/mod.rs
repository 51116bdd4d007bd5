//! The volume map: which servers keep which groups of chunks, who may act on them, and which
//! sessions are fenced. A replicated state machine, the leader's service around it, and its wire.
//!
//! It is never on the data path and knows no block.

mod api;
mod care;
mod codec;
mod finder;
mod log;
pub(crate) mod machine;
mod service;

mod wire;

#[cfg(test)]
mod tests;

pub use self::wire::{MapRpc, MapWire};
pub use api::{Change, Chart, MapError, MapService, ServerInfo, ServerState};
pub use finder::MapClient;
pub use machine::{MAIN, Map};
pub use service::{MapConfig, MapServer};
