//! The words of `fs` and those of `fuse`, one to one. Pure; nothing is decided here.

use fuse::{Errno, Ino};

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
