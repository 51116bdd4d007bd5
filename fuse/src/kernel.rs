//! The kernel's side of a mount, seen from outside of it: the mount table, the checks before
//! mounting, unmounting and aborting by path. No request is spoken here, so none of this can hang on a
//! file system that does not answer: a mount point is never looked into while something is mounted on it.

use std::{
    io,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, open, statat},
    io::Errno,
    mount::UnmountFlags,
};

use crate::Error;

/// A line of the mount table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where.
    pub path: PathBuf,
    /// The source string, for instance `plumeria`.
    pub source: String,
    /// The type, for instance `fuse.plumeria`.
    pub kind: String,
    /// The minor number of the device: for FUSE the number of the connection.
    pub connection: u32,
}

/// Everything that is mounted in this mount namespace, in the order of mounting.
///
/// # Errors
/// If the mount table cannot be read.
pub fn mounts() -> Result<Vec<Mounted>, Error> {
    // A file that the kernel makes up while it is read: it has no size and is no business of a simulated disk.
    let table = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|error| Error::io("reading /proc/self/mountinfo", error))?;
    Ok(table.lines().filter_map(line).collect())
}

/// What is mounted on `path`, if anything is. `path` may be relative; links in its parents are followed.
///
/// # Errors
/// If the mount table cannot be read.
pub fn mounted(path: &Path) -> Result<Option<Mounted>, Error> {
    let path = absolute(path);
    Ok(mounts()?.into_iter().rfind(|mounted| mounted.path == path))
}

/// Ends the kernel's connection of the FUSE mount on `path`: every request on it, also those that wait
/// for an answer, fails at once. If somebody still uses it, the dead mount stays until it is unmounted.
///
/// # Errors
/// [`Error::NotMounted`]; [`Error::Io`] if the connection may not be aborted.
pub fn abort(path: &Path) -> Result<(), Error> {
    let found = mounted(path)?.filter(|found| found.kind.starts_with("fuse"));
    let Some(found) = found else { return Err(Error::NotMounted(path.to_owned())) };
    let name = format!("/sys/fs/fuse/connections/{}/abort", found.connection);
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(&name)
        .and_then(|mut file| io::Write::write_all(&mut file, b"1"));
    match written {
        Ok(()) => Ok(()),
        // No fusectl is mounted here. A forced unmount aborts first, and may then find the mount in use.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            match rustix::mount::unmount(&found.path, UnmountFlags::FORCE) {
                Ok(()) | Err(Errno::BUSY | Errno::INVAL) => Ok(()),
                Err(error) => Err(Error::io(format!("aborting {}", found.path.display()), error)),
            }
        }
        Err(error) => Err(Error::io(format!("aborting through {name}"), error)),
    }
}

/// Unmounts what is mounted on `path`. With `detach` also when it is in use: it then disappears
/// from the tree now and ends when its last user is gone.
///
/// # Errors
/// [`Error::NotMounted`], [`Error::Busy`].
pub fn unmount(path: &Path, detach: bool) -> Result<(), Error> {
    let path = absolute(path);
    let flags = if detach { UnmountFlags::DETACH } else { UnmountFlags::empty() };
    match rustix::mount::unmount(&path, flags) {
        Ok(()) => Ok(()),
        Err(Errno::BUSY) => Err(Error::Busy(path)),
        Err(Errno::INVAL | Errno::NOENT) => Err(Error::NotMounted(path)),
        Err(Errno::PERM) => unmount_as_user(&path, detach),
        Err(error) => Err(Error::io(format!("unmounting {}", path.display()), error)),
    }
}

/// Only the set-user-id helper may unmount for an ordinary user.
fn unmount_as_user(path: &Path, detach: bool) -> Result<(), Error> {
    let mut helper = Command::new("fusermount3");
    helper.arg("-u");
    if detach {
        helper.arg("-z");
    }
    let output = helper
        .arg("--")
        .arg(path)
        .output()
        .map_err(|error| Error::io("running fusermount3 -u", error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.contains("busy") {
        return Err(Error::Busy(path.to_owned()));
    }
    Err(Error::io(format!("unmounting {}", path.display()), io::Error::other(said)))
}

/// Everything that would make mounting on `path` fail or be regretted, said before it is tried.
/// Returns the absolute path. `may_hide`: the directory may have something in it.
///
/// # Errors
/// One per cause: see [`Error`].
pub fn check(path: &Path, may_hide: bool) -> Result<PathBuf, Error> {
    match open("/dev/fuse", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(_) => {}
        Err(Errno::NOENT | Errno::NODEV | Errno::NXIO) => return Err(Error::NoFuse),
        Err(error) => return Err(Error::DeviceDenied(error.into())),
    }
    if let Some(found) = mounted(path)? {
        return Err(Error::AlreadyMounted { path: found.path, what: found.source });
    }
    let stat = match statat(CWD, path, AtFlags::empty()) {
        Ok(stat) => stat,
        Err(Errno::NOENT) => return Err(Error::Missing(path.to_owned())),
        Err(Errno::NOTCONN) => return Err(Error::Dead(path.to_owned())),
        Err(Errno::NOTDIR) => return Err(Error::NotDirectory(path.to_owned())),
        Err(error) => return Err(Error::io(format!("looking at {}", path.display()), error)),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Err(Error::NotDirectory(path.to_owned()));
    }
    if !may_hide {
        let mut entries = std::fs::read_dir(path)
            .map_err(|error| Error::io(format!("listing {}", path.display()), error))?;
        if entries.next().is_some() {
            return Err(Error::NotEmpty(path.to_owned()));
        }
    }
    path.canonicalize().map_err(|error| Error::io(format!("resolving {}", path.display()), error))
}

/// Whether the daemon behind the FUSE mount on `path` is gone. Asks it, so it waits for as long as the daemon does:
/// call it with a deadline.
pub(crate) fn is_dead(path: &Path) -> bool {
    let flags = AtFlags::STATX_FORCE_SYNC;
    matches!(
        rustix::fs::statx(CWD, path, flags, rustix::fs::StatxFlags::BASIC_STATS),
        Err(Errno::NOTCONN)
    )
}

/// The absolute path without asking what is mounted there: links are resolved in the parents only.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().and_then(|parent| parent.canonicalize().ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path,
    }
}

/// One line of mountinfo: `36 35 0:42 / /mnt rw,relatime shared:1 - fuse.plumeria plumeria rw,...`.
fn line(line: &str) -> Option<Mounted> {
    let (head, tail) = line.split_once(" - ")?;
    let mut head = head.split(' ');
    let device = head.nth(2)?;
    let path = head.nth(1)?;
    let mut tail = tail.split(' ');
    let kind = tail.next()?.to_owned();
    let source = tail.next()?.to_owned();
    let connection = device.split_once(':')?.1.parse().ok()?;
    Some(Mounted { path: unescape(path), source, kind, connection })
}

/// Blanks, tabs, newlines and backslashes are written as three octal digits.
fn unescape(text: &str) -> PathBuf {
    let bytes = text.as_bytes();
    let mut plain = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let octal = bytes
            .get(at + 1..at + 4)
            .filter(|_| bytes[at] == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                plain.push(byte);
                at += 4;
            }
            None => {
                plain.push(bytes[at]);
                at += 1;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(plain))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{check, line};
    use crate::Error;

    #[test]
    fn a_mount_line_with_an_escaped_blank_and_optional_fields_is_understood() {
        let found = line(
            "412 29 0:57 / /mnt/a\\040b rw,nosuid,relatime shared:7 master:1 - fuse.plumeria plumeria rw,user_id=0",
        )
        .unwrap();
        assert_eq!(found.path, Path::new("/mnt/a b"));
        assert_eq!(
            (found.connection, found.kind.as_str(), found.source.as_str()),
            (57, "fuse.plumeria", "plumeria")
        );
    }

    #[test]
    fn a_line_that_is_cut_short_is_passed_over() {
        assert_eq!(line("412 29 0:57 / /mnt"), None);
        assert_eq!(line(""), None);
    }

    #[test]
    fn each_bad_mount_point_gets_its_own_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::OpenOptions::new().create(true).write(true).truncate(true).open(&file).unwrap();
        if matches!(check(dir.path(), true), Err(Error::NoFuse | Error::DeviceDenied(_))) {
            return; // this machine has no FUSE to mount with, which is the sentence it gets
        }
        assert!(matches!(check(&dir.path().join("none"), false), Err(Error::Missing(_))));
        assert!(matches!(check(&file, false), Err(Error::NotDirectory(_))));
        assert!(matches!(check(dir.path(), false), Err(Error::NotEmpty(_))));
        assert!(check(dir.path(), true).is_ok());
        assert!(matches!(check(Path::new("/proc"), false), Err(Error::AlreadyMounted { .. })));
    }
}
