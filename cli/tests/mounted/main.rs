//! The program as its users drive it: real processes, real mounts, and bad input.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "tests drive real processes and real files"
)]

mod advisory;
mod bad_input;
mod cluster;
mod flags;
mod full_disk;
mod harness;
mod locks;
mod posix;
mod raft;
mod registry;
