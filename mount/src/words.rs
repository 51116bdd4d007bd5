//! The words of `fs` and those of `fuse`, one to one. Pure; nothing is decided here.

use fs::{Claim, Claimant, Claimed, Mode, Stretch};
use fuse::{Errno, FileLock, Ino, LockKind};

pub(crate) fn ino_in(ino: Ino) -> fs::InodeNo {
    fs::InodeNo(ino.0)
}

pub(crate) fn ino_out(ino: fs::InodeNo) -> Ino {
    Ino(ino.0)
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
pub(crate) fn error_out(error: fs::Error) -> Errno {
    let number = error.errno();
    if number == Errno::IO.raw_os_error() {
        // The caller sees a number; the operator needs the sentence.
        tracing::warn!(%error, "an operation failed");
    }
    Errno::from_raw_os_error(number)
}

/// An advisory lock as the lock service knows it. The number of the file is that of its inode.
pub(crate) fn claim_in(ino: Ino, lock: &FileLock) -> Result<Claim, Errno> {
    let stretch = Stretch::new(lock.first, lock.last).ok_or(Errno::INVAL)?;
    let mode = match lock.kind {
        LockKind::Read => Some(Mode::Shared),
        LockKind::Write => Some(Mode::Exclusive),
        LockKind::Unlock => None,
    };
    let (by, process) = (Claimant(lock.owner), lock.process);
    Ok(Claim { file: ino.0, by, process, stretch, mode })
}

pub(crate) fn lock_kind_out(mode: Mode) -> LockKind {
    match mode {
        Mode::Shared => LockKind::Read,
        Mode::Exclusive => LockKind::Write,
    }
}

/// What a process is told of its claim.
pub(crate) fn claimed_out(claimed: Claimed) -> Result<(), Errno> {
    match claimed {
        Claimed::Done => Ok(()),
        Claimed::Busy(_) => Err(Errno::AGAIN),
        Claimed::Deadlock => Err(Errno::DEADLK),
        Claimed::Cancelled => Err(Errno::INTR),
        Claimed::Full => Err(Errno::NOLCK),
    }
}

pub(crate) fn kind_out(kind: fs::Kind) -> fuse::Kind {
    match kind {
        fs::Kind::File => fuse::Kind::File,
        fs::Kind::Directory => fuse::Kind::Directory,
        fs::Kind::Symlink => fuse::Kind::Symlink,
        fs::Kind::Fifo => fuse::Kind::Pipe,
        fs::Kind::Socket => fuse::Kind::Socket,
        fs::Kind::CharDevice => fuse::Kind::CharDevice,
        fs::Kind::BlockDevice => fuse::Kind::BlockDevice,
    }
}

pub(crate) fn kind_in(kind: fuse::Kind) -> fs::Kind {
    match kind {
        fuse::Kind::File => fs::Kind::File,
        fuse::Kind::Directory => fs::Kind::Directory,
        fuse::Kind::Symlink => fs::Kind::Symlink,
        fuse::Kind::Pipe => fs::Kind::Fifo,
        fuse::Kind::Socket => fs::Kind::Socket,
        fuse::Kind::CharDevice => fs::Kind::CharDevice,
        fuse::Kind::BlockDevice => fs::Kind::BlockDevice,
    }
}

pub(crate) fn attributes_out(of: &fs::Attributes) -> fuse::Attributes {
    fuse::Attributes {
        ino: ino_out(of.ino),
        generation: of.generation,
        kind: kind_out(of.kind),
        mode: (of.mode & 0o7777) as u16,
        links: of.nlink,
        uid: of.uid,
        gid: of.gid,
        rdev: of.rdev,
        size: of.size,
        blocks: of.blocks,
        atime: of.atime,
        mtime: of.mtime,
        ctime: of.ctime,
    }
}

fn time_in(time: fuse::SetTime) -> fs::SetTime {
    match time {
        fuse::SetTime::Now => fs::SetTime::Now,
        fuse::SetTime::At(wall) => fs::SetTime::At(wall),
    }
}

pub(crate) fn set_in(set: fuse::SetAttributes, caller: fuse::Caller) -> fs::SetAttributes {
    fs::SetAttributes {
        // The kernel's word for it does not come through the crate; its rule is a capability that root has.
        strip: set.size.is_some() && caller.uid != 0,
        mode: set.mode.map(u32::from),
        uid: set.uid,
        gid: set.gid,
        size: set.size,
        atime: set.atime.map(time_in),
        mtime: set.mtime.map(time_in),
    }
}

pub(crate) fn caller_in(caller: fuse::Caller) -> fs::Caller {
    fs::Caller { uid: caller.uid, gid: caller.gid, umask: 0 }
}

/// Who makes something.
pub(crate) fn maker_in(new: &fuse::NewNode) -> fs::Caller {
    fs::Caller { umask: u32::from(new.umask), ..caller_in(new.caller) }
}

pub(crate) fn xattr_mode_in(mode: fuse::XattrMode) -> fs::XattrMode {
    match mode {
        fuse::XattrMode::Set => fs::XattrMode::Set,
        fuse::XattrMode::Create => fs::XattrMode::Create,
        fuse::XattrMode::Replace => fs::XattrMode::Replace,
    }
}

pub(crate) fn allocate_in(what: fuse::Allocate) -> fs::Allocate {
    match what {
        fuse::Allocate::Reserve { keep_size } => fs::Allocate::Reserve { keep_size },
        fuse::Allocate::Punch => fs::Allocate::Punch,
        fuse::Allocate::Zero { keep_size } => fs::Allocate::Zero { keep_size },
    }
}
