//! The words of the crate that speaks to the kernel, and ours, one to one. Pure; what is done with them is not known here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, LockOwner, ReplyAttr,
    ReplyCreate, ReplyData, ReplyEmpty, ReplyEntry, ReplyLock, ReplyStatfs, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use rustix::io::Errno;
use world::Wall;

use crate::types::{
    Allocate, Attributes, Caller, Entry, FileLock, Found, Ino, Kind, LockKind, NewNode, OpenFlags,
    Opened, SetTime, Space, Whence, WriteHow, XattrMode,
};

pub(crate) fn errno(error: Errno) -> fuser::Errno {
    fuser::Errno::from_i32(error.raw_os_error())
}

pub(crate) fn kind_out(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Pipe => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// The kind in the upper bits of a mode.
pub(crate) fn kind_in(mode: u32) -> Option<Kind> {
    Some(match mode & 0o170_000 {
        0 | 0o100_000 => Kind::File,
        0o040_000 => Kind::Directory,
        0o120_000 => Kind::Symlink,
        0o010_000 => Kind::Pipe,
        0o140_000 => Kind::Socket,
        0o020_000 => Kind::CharDevice,
        0o060_000 => Kind::BlockDevice,
        _ => return None,
    })
}

pub(crate) fn time_out(wall: Wall) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(wall.nanos));
    let whole = Duration::from_secs(wall.seconds.unsigned_abs());
    let base = if wall.seconds >= 0 {
        UNIX_EPOCH.checked_add(whole)
    } else {
        UNIX_EPOCH.checked_sub(whole)
    };
    base.and_then(|base| base.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

pub(crate) fn time_in(time: TimeOrNow) -> SetTime {
    let time = match time {
        TimeOrNow::Now => return SetTime::Now,
        TimeOrNow::SpecificTime(time) => time,
    };
    SetTime::At(match time.duration_since(UNIX_EPOCH) {
        Ok(after) => Wall {
            seconds: i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
            nanos: after.subsec_nanos(),
        },
        Err(before) => {
            let before = before.duration();
            let seconds = -i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            match before.subsec_nanos() {
                0 => Wall { seconds, nanos: 0 },
                nanos => Wall { seconds: seconds - 1, nanos: 1_000_000_000 - nanos },
            }
        }
    })
}

pub(crate) fn attributes_out(from: &Attributes) -> FileAttr {
    FileAttr {
        ino: INodeNo(from.ino.0),
        size: from.size,
        blocks: from.blocks,
        atime: time_out(from.atime),
        mtime: time_out(from.mtime),
        ctime: time_out(from.ctime),
        crtime: UNIX_EPOCH,
        kind: kind_out(from.kind),
        perm: from.mode,
        nlink: from.links,
        uid: from.uid,
        gid: from.gid,
        rdev: from.rdev,
        // What `cp` and friends use as the size of their buffer.
        blksize: 128 << 10,
        flags: 0,
    }
}

pub(crate) fn flags_in(flags: i32) -> OpenFlags {
    let access = flags & 3;
    OpenFlags { read: access != 1, write: access != 0, direct: flags & 0o40_000 != 0 }
}

pub(crate) fn opened_out(opened: Opened) -> FopenFlags {
    let mut flags = FopenFlags::empty();
    flags.set(FopenFlags::FOPEN_KEEP_CACHE, opened.keep_cache);
    flags.set(FopenFlags::FOPEN_DIRECT_IO, opened.direct);
    flags.set(FopenFlags::FOPEN_NOFLUSH, opened.skip_flush);
    flags
}

pub(crate) fn caller(request: &Request) -> Caller {
    Caller { uid: request.uid(), gid: request.gid() }
}

pub(crate) fn new_node(request: &Request, kind: Kind, mode: u32, umask: u32, rdev: u32) -> NewNode {
    let (mode, umask) = ((mode & 0o7777) as u16, (umask & 0o777) as u16);
    NewNode { kind, mode, umask, rdev, caller: caller(request) }
}

/// The mode of fallocate(2); `None` for what is not supported (collapsing and inserting ranges).
pub(crate) fn allocate_in(mode: i32) -> Option<Allocate> {
    const KEEP_SIZE: i32 = 1;
    const PUNCH_HOLE: i32 = 2;
    const ZERO_RANGE: i32 = 16;
    let keep_size = mode & KEEP_SIZE != 0;
    match mode & !KEEP_SIZE {
        0 => Some(Allocate::Reserve { keep_size }),
        PUNCH_HOLE if keep_size => Some(Allocate::Punch),
        ZERO_RANGE => Some(Allocate::Zero { keep_size }),
        _ => None,
    }
}

pub(crate) fn whence_in(whence: i32) -> Option<Whence> {
    match whence {
        3 => Some(Whence::Data),
        4 => Some(Whence::Hole),
        _ => None,
    }
}

pub(crate) fn xattr_mode_in(flags: i32) -> Option<XattrMode> {
    match flags {
        0 => Some(XattrMode::Set),
        1 => Some(XattrMode::Create),
        2 => Some(XattrMode::Replace),
        _ => None,
    }
}

/// A lock as the kernel describes it; `None` if its kind is none that there is.
pub(crate) fn lock_in(
    owner: LockOwner,
    process: u32,
    (first, last): (u64, u64),
    kind: i32,
) -> Option<FileLock> {
    let kind = match kind {
        0 => LockKind::Read,
        1 => LockKind::Write,
        2 => LockKind::Unlock,
        _ => return None,
    };
    Some(FileLock { owner: owner.0, process, first, last, kind })
}

/// What is in the way of `asked`, or that nothing is.
pub(crate) fn reply_lock(
    reply: ReplyLock,
    answer: crate::Result<Option<FileLock>>,
    asked: FileLock,
) {
    match answer {
        Ok(found) => {
            let found = found.unwrap_or(FileLock { kind: LockKind::Unlock, ..asked });
            let kind = match found.kind {
                LockKind::Read => 0,
                LockKind::Write => 1,
                LockKind::Unlock => 2,
            };
            reply.locked(found.first, found.last, kind, found.process);
        }
        Err(error) => reply.error(errno(error)),
    }
}

/// How the bytes of a write are to be taken.
pub(crate) fn how_in(write: WriteFlags, open: i32) -> WriteHow {
    WriteHow {
        // What comes from a mapping goes where the mapping has it.
        append: open & 0o2000 != 0 && !write.contains(WriteFlags::FUSE_WRITE_CACHE),
        // O_DSYNC is a part of O_SYNC.
        sync: open & 0o10_000 != 0,
        strip: write.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
    }
}

/// A value, or only its size if the kernel asks for that.
pub(crate) fn reply_xattr(reply: ReplyXattr, answer: Result<&[u8], &Errno>, size: u32) {
    match answer {
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() <= size as usize => reply.data(value),
        Ok(_) => reply.error(fuser::Errno::ERANGE),
        Err(error) => reply.error(errno(*error)),
    }
}

pub(crate) fn reply_entry(reply: ReplyEntry, answer: crate::Result<Entry>) {
    match answer {
        Ok(entry) => reply.entry_with_ttls(
            &entry.attributes_for,
            &entry.name_for,
            &attributes_out(&entry.attributes),
            Generation(entry.attributes.generation),
        ),
        Err(error) => reply.error(errno(error)),
    }
}

pub(crate) fn reply_attr(reply: ReplyAttr, answer: crate::Result<(Attributes, Duration)>) {
    match answer {
        Ok((attributes, valid)) => reply.attr(&valid, &attributes_out(&attributes)),
        Err(error) => reply.error(errno(error)),
    }
}

pub(crate) fn reply_empty(reply: ReplyEmpty, answer: crate::Result<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(error)),
    }
}

pub(crate) fn reply_found(reply: ReplyEntry, answer: crate::Result<Found>) {
    match answer {
        Ok(Found::Entry(entry)) => reply_entry(reply, Ok(entry)),
        Ok(Found::Nothing(valid)) if !valid.is_zero() => {
            // An entry of inode 0 is an absence that the kernel may remember.
            reply.entry_with_ttls(&Duration::ZERO, &valid, &nothing(), Generation(0));
        }
        Ok(Found::Nothing(_)) => reply.error(fuser::Errno::ENOENT),
        Err(error) => reply.error(errno(error)),
    }
}

pub(crate) fn reply_made(reply: ReplyCreate, answer: crate::Result<(Entry, Opened)>) {
    match answer {
        Ok((entry, opened)) => reply.created(
            &entry.attributes_for.min(entry.name_for),
            &attributes_out(&entry.attributes),
            Generation(entry.attributes.generation),
            FileHandle(opened.handle),
            opened_out(opened),
        ),
        Err(error) => reply.error(errno(error)),
    }
}

pub(crate) fn reply_data(reply: ReplyData, answer: crate::Result<Vec<Bytes>>) {
    match answer {
        Ok(parts) => match parts.as_slice() {
            [] => reply.data(&[]),
            [one] => reply.data(one),
            // The crate takes one slice; a copy here costs less than a page fault per part.
            many => reply.data(&many.concat()),
        },
        Err(error) => reply.error(errno(error)),
    }
}

pub(crate) fn reply_space(reply: ReplyStatfs, answer: crate::Result<Space>) {
    match answer {
        Ok(space) => reply.statfs(
            space.blocks,
            space.free,
            space.free,
            space.inodes,
            space.free_inodes,
            space.block_size,
            255,
            space.block_size,
        ),
        Err(error) => reply.error(errno(error)),
    }
}

/// The attributes of an inode that is not there.
fn nothing() -> FileAttr {
    let never = Wall { seconds: 0, nanos: 0 };
    attributes_out(&Attributes {
        ino: Ino(0),
        generation: 0,
        kind: Kind::File,
        mode: 0,
        links: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: never,
        mtime: never,
        ctime: never,
    })
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use fuser::TimeOrNow;
    use world::Wall;

    use super::{allocate_in, flags_in, kind_in, time_in, time_out};
    use crate::types::{Allocate, Kind, OpenFlags, SetTime};

    #[test]
    fn times_before_1970_survive_the_way_in_and_out() {
        for wall in [
            Wall { seconds: -2, nanos: 250_000_000 },
            Wall { seconds: -1, nanos: 0 },
            Wall { seconds: 0, nanos: 1 },
            Wall { seconds: 1_700_000_000, nanos: 999_999_999 },
        ] {
            assert_eq!(time_in(TimeOrNow::SpecificTime(time_out(wall))), SetTime::At(wall));
        }
        assert_eq!(time_out(Wall { seconds: 5, nanos: 0 }), UNIX_EPOCH + Duration::from_secs(5));
    }

    #[test]
    fn a_hole_is_punched_only_where_the_size_stays() {
        assert_eq!(allocate_in(0), Some(Allocate::Reserve { keep_size: false }));
        assert_eq!(allocate_in(3), Some(Allocate::Punch));
        assert_eq!(allocate_in(2), None);
        assert_eq!(allocate_in(17), Some(Allocate::Zero { keep_size: true }));
        assert_eq!(allocate_in(8), None);
    }

    #[test]
    fn open_flags_and_modes_are_read_as_the_kernel_writes_them() {
        assert_eq!(flags_in(0), OpenFlags { read: true, write: false, direct: false });
        assert_eq!(flags_in(1), OpenFlags { read: false, write: true, direct: false });
        assert_eq!(flags_in(2 | 0o40_000), OpenFlags { read: true, write: true, direct: true });
        assert_eq!(kind_in(0o100_644), Some(Kind::File));
        assert_eq!(kind_in(0o010_600), Some(Kind::Pipe));
        assert_eq!(kind_in(0o170_000), None);
    }
}
