//! What `wire` promises, tested through its public interface, in one program: each that links the room takes
//! longer to build than all of its tests to run. What a module shows is told in its own first lines.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests drive the real machine, and may panic"
)]

mod bulk;
mod grpc;
