//! The whole service: three coordinators in one process with logs on disk, clerks that reach them
//! by call or over sockets.
#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod groups;
mod harness;
mod locks;
mod registry;
