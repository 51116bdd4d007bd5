//! The watchdog of a mount: another process that ends the kernel's connection when the mount's daemon
//! has stopped beating. A daemon that is frozen cannot answer, and cannot tell the kernel what to forget once
//! its lease has ended; without the watchdog whoever uses the mount would wait for as long as the frost lasts.
//!
//! The daemon holds the other end of a pipe. Each beat names the moment until which silence is no sign of
//! anything, by the clock that all processes of the machine share. The end of the pipe is the end of
//! the daemon, and with that the kernel ends the connection by itself. Not known here: leases, and
//! who starts the process.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    time::Duration,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, openat},
    mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsmount, fsopen},
    time::{ClockId, clock_gettime},
};

use crate::Error;

/// A beat: nanoseconds of [`clock`], little-endian. Short enough for a pipe to take it whole or not at all.
const BEAT: usize = 8;

/// The clock by which beats are understood: the machine's, so both sides read the same.
#[must_use]
pub fn clock() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// The daemon's side.
pub struct Pulse(File);

impl Pulse {
    /// Beats go into `pipe`, which must not be shared with anybody.
    ///
    /// # Errors
    /// If it cannot be kept from blocking.
    pub fn new(pipe: OwnedFd) -> io::Result<Self> {
        let flags = fcntl_getfl(&pipe)?;
        fcntl_setfl(&pipe, flags | OFlags::NONBLOCK)?;
        Ok(Self(pipe.into()))
    }

    /// The daemon lives; silence until `until`, by [`clock`], is no sign that it does not.
    ///
    /// # Errors
    /// If nobody reads any more. A watchdog that is only slow has beats enough to read: that is no error.
    pub fn beat(&self, until: Duration) -> io::Result<()> {
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        match (&self.0).write_all(&until.to_le_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }
}

/// How a watch ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watched {
    /// The daemon has ended, or gave the watch up; nothing was done.
    Ended,
    /// The daemon fell silent; its connection was aborted.
    Aborted,
}

/// Watches over the mount with the kernel's connection `connection`: reads beats from `pipe` until that
/// ends, or until silence has lasted for too long; then everyone who waits for the mount, and everyone who will
/// use it, gets an error. Blocks.
///
/// # Errors
/// If the connection cannot be taken hold of, or not be aborted.
pub fn watch(pipe: impl AsFd, connection: u32) -> Result<Watched, Error> {
    let held = hold(connection).map_err(|error| {
        Error::io(format!("taking hold of FUSE connection {connection} (mount fusectl)"), error)
    })?;
    let pipe = pipe
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| Error::io("duplicating the watchdog's pipe", error))?;
    watch_with(pipe.into(), held)
}

/// The file by which a connection is aborted, opened while the connection is the daemon's own: the number may
/// later be another mount's, but what is written to this file can reach no other connection.
fn hold(connection: u32) -> io::Result<File> {
    let name = format!("{connection}/abort");
    match OpenOptions::new().write(true).open(Path::new("/sys/fs/fuse/connections").join(&name)) {
        // Nobody has mounted fusectl; root can have one for itself, which nobody else sees.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let control = fsopen("fusectl", FsOpenFlags::FSOPEN_CLOEXEC)?;
            fsconfig_create(&control)?;
            let none = MountAttrFlags::empty();
            let mount = fsmount(&control, FsMountFlags::FSMOUNT_CLOEXEC, none)?;
            Ok(openat(&mount, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?.into())
        }
        opened => opened,
    }
}

fn watch_with(mut pipe: File, mut held: File) -> Result<Watched, Error> {
    let cannot = |error| Error::io("hearing a mount's daemon", error);
    // The first beat comes with the start.
    let mut until = clock() + Duration::from_secs(60);
    loop {
        let Some(left) = until.checked_sub(clock()) else {
            held.write_all(b"1").map_err(|error| Error::io("aborting a connection", error))?;
            return Ok(Watched::Aborted);
        };
        let wait = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(cannot(error.into())),
        }
        // Beats are whole in the pipe, so whole ones come out of it.
        let mut beats = [0; 64 * BEAT];
        let length = pipe.read(&mut beats).map_err(cannot)?;
        if length == 0 {
            return Ok(Watched::Ended);
        }
        let (whole, _) = beats[..length].as_chunks::<BEAT>();
        // What was said last counts: a daemon may also say that it has less time than it thought.
        if let Some(last) = whole.last() {
            until = Duration::from_nanos(u64::from_le_bytes(*last));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read as _, time::Duration};

    use super::{Pulse, Watched, clock, watch_with};

    /// A pulse, the pipe that it beats into, and a file in place of the kernel's.
    fn parts() -> (Pulse, File, File, tempfile::NamedTempFile) {
        let (reader, writer) = std::io::pipe().unwrap();
        let held = tempfile::NamedTempFile::new().unwrap();
        let pulse = Pulse::new(writer.into()).unwrap();
        let reader = std::os::fd::OwnedFd::from(reader).into();
        (pulse, reader, held.reopen().unwrap(), held)
    }

    fn written(mut file: tempfile::NamedTempFile) -> String {
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn a_daemon_that_stops_beating_is_cut_off_not_before_the_moment_that_it_named_last() {
        let (pulse, reader, held, file) = parts();
        pulse.beat(clock() + Duration::from_millis(5)).unwrap();
        let named = clock() + Duration::from_millis(60);
        pulse.beat(named).unwrap();
        assert_eq!(watch_with(reader, held).unwrap(), Watched::Aborted);
        assert!(clock() >= named);
        assert_eq!(written(file), "1");
        assert!(pulse.beat(named).is_err(), "nobody hears it any more");
    }

    #[test]
    fn the_end_of_a_daemon_aborts_nothing() {
        let (pulse, reader, held, file) = parts();
        pulse.beat(clock() + Duration::from_secs(60)).unwrap();
        drop(pulse);
        assert_eq!(watch_with(reader, held).unwrap(), Watched::Ended);
        assert_eq!(written(file), "");
    }

    #[test]
    fn a_watchdog_that_is_slow_to_read_holds_up_no_beat() {
        let (pulse, reader, held, file) = parts();
        // More than any pipe holds.
        for _ in 0..1 << 18 {
            pulse.beat(clock() + Duration::from_secs(60)).unwrap();
        }
        drop(pulse);
        assert_eq!(watch_with(reader, held).unwrap(), Watched::Ended);
        assert_eq!(written(file), "");
    }
}
