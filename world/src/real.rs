//! The real world: the operating system through tokio and rustix.
//!
//! The bans on clocks, files and spawning that hold everywhere else are lifted in this module only.
#![expect(
    clippy::disallowed_methods,
    reason = "this module is where the banned calls are made on behalf of everyone else"
)]

pub(crate) mod clock;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod net;
pub(crate) mod process;
pub(crate) mod task;
