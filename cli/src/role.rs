//! The roles, wired from the rooms: what `plumeria dev` runs in one process and the role commands
//! run alone. A client reaches a service by a function call if it is in this process, by wire if
//! not; it cannot tell which.

mod access;
mod block;
mod coordinator;
mod embedded;
mod file_system;
mod known;
mod mounted;
mod rows;
mod watchdog;
mod worker;

pub(crate) use access::{Access, Remote, change, coordinators, servers, sessions};
pub(crate) use block::BlockServer;
pub(crate) use coordinator::{Coordinator, groups};
pub(crate) use embedded::Embedded;
pub(crate) use file_system::{FileSystem, Tie, disk};
pub(crate) use known::{Known, registered};
pub(crate) use mounted::{Mounted, daemon_of};
pub(crate) use rows::{CoordinatorRow, ServerRow, SessionRow};
pub(crate) use worker::Worker;
