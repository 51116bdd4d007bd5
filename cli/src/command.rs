//! The commands, one file each.

pub(crate) mod dev;
pub(crate) mod fsck;
pub(crate) mod groups;
pub(crate) mod locks;
pub(crate) mod mount;
pub(crate) mod mr;
pub(crate) mod raft;
pub(crate) mod registry;
pub(crate) mod roles;
pub(crate) mod server;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod umount;
pub(crate) mod watchdog;
