//! A faulty disk for real processes: a FUSE layer that passes files through to a backing directory and
//! knows, at every moment, what a power cut would leave of them.
//!
//! What is promised is what POSIX promises and no more: the content and length of a file are durable by
//! `fsync` or `fdatasync` of it, a name by `fsync` of its directory (which, as in a journal, takes all
//! older changes of names along). A *cut* undoes everything else in the backing directory; a *torn* cut
//! lets a random choice of the unsynced sectors survive, in no order. While the power is off every
//! request fails with `EIO`, also after it is on again for files that were open.
//!
//! It is commanded through the file [`CONTROL`] in the root of the mount: see [`Command`]. Who runs on it,
//! and what they were promised, is not known here.

mod adapter;
mod control;
mod disk;
mod names;
mod unsynced;

pub use control::{CONTROL, Command, Kind, Moment};
pub use disk::Disk;

use std::{io, path::Path};

/// Mounts the faulty disk over `backing` on `mountpoint`; returns when it is unmounted.
///
/// # Errors
/// Whatever opening the directory or mounting ran into.
pub fn serve(backing: &Path, mountpoint: &Path) -> io::Result<()> {
    let disk = Disk::open(backing)?;
    let mut config = fuser::Config::default();
    config.mount_options = vec![
        fuser::MountOption::FSName("faulty".to_owned()),
        fuser::MountOption::DefaultPermissions,
    ];
    fuser::mount(adapter::Adapter::new(disk), mountpoint, &config)
}
