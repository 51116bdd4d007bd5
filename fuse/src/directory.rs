//! Answers to directory listings.
//!
//! Lines of a listing with attributes may lack them (nobody waits for a lock to list a directory).
//! The kernel has a form for that, a line with node 0, which the crate cannot write; such an answer
//! is written past the crate. What the lines mean is not known here.

use std::{
    io::IoSlice,
    os::{fd::OwnedFd, unix::ffi::OsStrExt},
    time::Duration,
};

use fuser::{Generation, INodeNo, ReplyDirectory, ReplyDirectoryPlus};
use parking_lot::Mutex;

use crate::{
    Result,
    types::{Attributes, DirEntry, Entry, Ino},
    words::{attributes_out, errno, kind_out},
};

/// The device, for answers past the crate; there from when the session is.
#[derive(Default)]
pub(crate) struct Raw(Mutex<Option<OwnedFd>>);

impl Raw {
    pub(crate) fn set(&self, device: Option<OwnedFd>) {
        *self.0.lock() = device;
    }

    fn send(&self, unique: u64, payload: &[u8]) -> bool {
        let device = self.0.lock();
        let Some(device) = device.as_ref() else { return false };
        let mut head = [0; 16];
        head[..4].copy_from_slice(&((16 + payload.len()) as u32).to_ne_bytes());
        head[8..].copy_from_slice(&unique.to_ne_bytes());
        rustix::io::writev(device, &[IoSlice::new(&head), IoSlice::new(payload)]).is_ok()
    }
}

pub(crate) fn reply(mut reply: ReplyDirectory, answer: Result<Vec<DirEntry>>) {
    let lines = match answer {
        Ok(lines) => lines,
        Err(error) => return reply.error(errno(error)),
    };
    for line in &lines {
        let name = std::ffi::OsStr::from_bytes(&line.name);
        if reply.add(INodeNo(line.ino.0), line.cookie, kind_out(line.kind), name) {
            break;
        }
    }
    reply.ok();
}

fn is_dots(name: &[u8]) -> bool {
    name == b"." || name == b".."
}

/// Lines that do not fit are given back with `forget`: each carried a look-up that the kernel never saw.
pub(crate) fn reply_plus(
    mut reply: ReplyDirectoryPlus,
    answer: Result<Vec<DirEntry>>,
    raw: &Raw,
    unique: u64,
    forget: impl Fn(Ino),
) {
    let lines = match answer {
        Ok(lines) => lines,
        Err(error) => return reply.error(errno(error)),
    };
    if lines.iter().any(|line| line.entry.is_none() && !is_dots(&line.name)) {
        return reply_without(reply, &lines, raw, unique, forget);
    }
    let mut full = false;
    for line in &lines {
        // The kernel does not look at the attributes of `.` and `..`.
        let entry = line.entry.unwrap_or_else(|| blank(line));
        let name = std::ffi::OsStr::from_bytes(&line.name);
        let valid = entry.name_for.min(entry.attributes_for);
        full = full
            || reply.add(
                INodeNo(line.ino.0),
                line.cookie,
                name,
                &valid,
                &attributes_out(&entry.attributes),
                Generation(entry.attributes.generation),
            );
        if full && !is_dots(&line.name) {
            forget(line.ino);
        }
    }
    reply.ok();
}

/// What stands for the attributes of a line that needs none.
fn blank(line: &DirEntry) -> Entry {
    let (atime, mtime, ctime) = Default::default();
    let attributes = Attributes {
        ino: line.ino,
        generation: 0,
        kind: line.kind,
        mode: 0,
        links: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime,
        mtime,
        ctime,
    };
    Entry { attributes, name_for: Duration::ZERO, attributes_for: Duration::ZERO }
}

/// The smallest buffer that the kernel lists with; the crate does not tell the real one.
const SAFE: usize = 4096;

fn reply_without(
    reply: ReplyDirectoryPlus,
    lines: &[DirEntry],
    raw: &Raw,
    unique: u64,
    forget: impl Fn(Ino),
) {
    let (payload, taken) = pack(lines);
    for line in &lines[taken..] {
        if line.entry.is_some() && !is_dots(&line.name) {
            forget(line.ino);
        }
    }
    if !raw.send(unique, &payload) {
        return reply.error(fuser::Errno::EIO);
    }
    // The crate answers EIO for a reply that is dropped; the kernel no longer knows the request and ignores it.
    drop(reply);
}

/// As many lines as fit, and how many these are. Once one does not fit none may follow, however short: the
/// kernel goes on after the last one it got.
fn pack(lines: &[DirEntry]) -> (Vec<u8>, usize) {
    let mut payload = Vec::with_capacity(SAFE);
    for (taken, line) in lines.iter().enumerate() {
        if payload.len() + (152 + line.name.len()).next_multiple_of(8) > SAFE {
            return (payload, taken);
        }
        encode(line, &mut payload);
    }
    (payload, lines.len())
}

/// `struct fuse_direntplus`: entry_out (128 bytes), dirent (24 bytes), name, padded to 8.
fn encode(line: &DirEntry, payload: &mut Vec<u8>) {
    match &line.entry {
        None => payload.extend_from_slice(&[0; 128]),
        Some(entry) => {
            let of = &entry.attributes;
            let valid = entry.name_for.min(entry.attributes_for);
            payload.extend_from_slice(&of.ino.0.to_ne_bytes());
            payload.extend_from_slice(&of.generation.to_ne_bytes());
            payload.extend_from_slice(&valid.as_secs().to_ne_bytes());
            payload.extend_from_slice(&valid.as_secs().to_ne_bytes());
            payload.extend_from_slice(&valid.subsec_nanos().to_ne_bytes());
            payload.extend_from_slice(&valid.subsec_nanos().to_ne_bytes());
            encode_attributes(of, payload);
        }
    }
    payload.extend_from_slice(&line.ino.0.to_ne_bytes());
    payload.extend_from_slice(&line.cookie.to_ne_bytes());
    payload.extend_from_slice(&(line.name.len() as u32).to_ne_bytes());
    payload.extend_from_slice(&(mode(line.kind, 0) >> 12).to_ne_bytes());
    payload.extend_from_slice(&line.name);
    payload.resize(payload.len().next_multiple_of(8), 0);
}

/// `struct fuse_attr`: 88 bytes.
fn encode_attributes(of: &Attributes, payload: &mut Vec<u8>) {
    for number in [of.ino.0, of.size, of.blocks] {
        payload.extend_from_slice(&number.to_ne_bytes());
    }
    for time in [of.atime, of.mtime, of.ctime] {
        payload.extend_from_slice(&time.seconds.to_ne_bytes());
    }
    let rest = [
        of.atime.nanos,
        of.mtime.nanos,
        of.ctime.nanos,
        mode(of.kind, of.mode),
        of.links,
        of.uid,
        of.gid,
        of.rdev,
        128 << 10,
        0,
    ];
    for number in rest {
        payload.extend_from_slice(&number.to_ne_bytes());
    }
}

fn mode(kind: crate::Kind, permissions: u16) -> u32 {
    use crate::Kind;
    let kind = match kind {
        Kind::File => 0o100_000,
        Kind::Directory => 0o040_000,
        Kind::Symlink => 0o120_000,
        Kind::Pipe => 0o010_000,
        Kind::Socket => 0o140_000,
        Kind::CharDevice => 0o020_000,
        Kind::BlockDevice => 0o060_000,
    };
    kind | u32::from(permissions)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use world::Wall;

    use super::{SAFE, encode, pack};
    use crate::{Attributes, DirEntry, Entry, Ino, Kind};

    #[test]
    fn a_name_that_does_not_fit_is_not_skipped_for_a_shorter_one_behind_it() {
        let line = |length: usize, cookie| DirEntry {
            ino: Ino(9),
            kind: Kind::File,
            name: vec![b'n'; length],
            cookie,
            entry: None,
        };
        // Room for one of 8 bytes is left when the long one comes.
        let mut lines: Vec<DirEntry> = (0..24).map(|cookie| line(8, cookie)).collect();
        lines.extend([line(255, 24), line(8, 25)]);
        let (payload, taken) = pack(&lines);
        assert_eq!((payload.len(), taken), (24 * 160, 24));
        assert!(payload.len() + 160 <= SAFE, "the short one would have fitted");
        assert_eq!(pack(&lines[24..]).1, 2);
    }

    #[test]
    fn a_line_has_the_size_that_the_kernel_steps_over_with_and_without_attributes() {
        let wall = Wall { seconds: 1, nanos: 2 };
        let attributes = Attributes {
            ino: Ino(9),
            generation: 3,
            kind: Kind::File,
            mode: 0o644,
            links: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            size: 5,
            blocks: 8,
            atime: wall,
            mtime: wall,
            ctime: wall,
        };
        let valid = Duration::from_secs(2);
        let entry = Entry { attributes, name_for: valid, attributes_for: valid };
        for entry in [None, Some(entry)] {
            let line = DirEntry {
                ino: Ino(9),
                kind: Kind::File,
                name: b"abc".to_vec(),
                cookie: 77,
                entry,
            };
            let mut payload = Vec::new();
            encode(&line, &mut payload);
            assert_eq!(payload.len(), 160);
            assert_eq!(payload[..8], (if entry.is_some() { 9_u64 } else { 0 }).to_ne_bytes());
            assert_eq!(payload[128..136], 9_u64.to_ne_bytes());
            assert_eq!(payload[148..152], 8_u32.to_ne_bytes());
            assert_eq!(&payload[152..155], b"abc");
        }
    }
}
