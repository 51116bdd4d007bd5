//! FUSE requests to calls of the faulty disk, one after the other. Nothing is cached by the kernel, so that
//! every write and sync of a process arrives here when it is made.

use std::{
    ffi::OsStr,
    fs::Metadata,
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    time::{Duration, SystemTime},
};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use parking_lot::Mutex;

use super::{
    control::CONTROL,
    disk::{Disk, ROOT},
};

const CONTROL_INO: u64 = u64::MAX;
const NEVER: Duration = Duration::ZERO;
const KEEP_SIZE: i32 = 1;

pub(super) struct Adapter(Mutex<Disk>);

impl Adapter {
    pub(super) fn new(disk: Disk) -> Self {
        Self(Mutex::new(disk))
    }

    fn obey(&self, bytes: &[u8]) -> io::Result<()> {
        let text = std::str::from_utf8(bytes).map_err(|_| io::ErrorKind::InvalidInput)?;
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let command =
                line.parse().map_err(|()| io::Error::from(io::ErrorKind::InvalidInput))?;
            self.0.lock().obey(command)?;
        }
        Ok(())
    }

    fn control(&self) -> FileAttr {
        let size = self.0.lock().tell().len() as u64;
        FileAttr { size, ..blank(CONTROL_INO, FileType::RegularFile, 0o600) }
    }
}

fn blank(ino: u64, kind: FileType, perm: u16) -> FileAttr {
    let then = SystemTime::UNIX_EPOCH;
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: then,
        mtime: then,
        ctime: then,
        crtime: then,
        kind,
        perm,
        nlink: 1,
        uid: 0,
        gid: 0,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}

fn kind(metadata: &Metadata) -> FileType {
    let kind = metadata.file_type();
    if kind.is_dir() {
        FileType::Directory
    } else if kind.is_symlink() {
        FileType::Symlink
    } else if kind.is_socket() {
        FileType::Socket
    } else {
        FileType::RegularFile
    }
}

fn attributes(ino: u64, metadata: &Metadata) -> FileAttr {
    let or_then = |time: io::Result<SystemTime>| time.unwrap_or(SystemTime::UNIX_EPOCH);
    FileAttr {
        size: metadata.len(),
        blocks: metadata.blocks(),
        atime: or_then(metadata.accessed()),
        mtime: or_then(metadata.modified()),
        ctime: or_then(metadata.modified()),
        nlink: metadata.nlink() as u32,
        uid: metadata.uid(),
        gid: metadata.gid(),
        ..blank(ino, kind(metadata), (metadata.permissions().mode() & 0o7777) as u16)
    }
}

/// What a number of a failed call means to the kernel.
fn errno(error: &io::Error) -> Errno {
    Errno::from_i32(error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::DirectoryNotEmpty => 39,
        io::ErrorKind::AlreadyExists => 17,
        io::ErrorKind::InvalidInput => 22,
        io::ErrorKind::NotFound => 2,
        _ => 5,
    }))
}

fn entry(reply: ReplyEntry, answer: io::Result<(u64, Metadata)>) {
    match answer {
        Ok((ino, metadata)) => {
            reply.entry(&NEVER, &attributes(ino, &metadata), Generation(0));
        }
        Err(error) => reply.error(errno(&error)),
    }
}

fn empty(reply: ReplyEmpty, answer: io::Result<()>) {
    match answer {
        Ok(()) => reply.ok(),
        Err(error) => reply.error(errno(&error)),
    }
}

impl fuser::Filesystem for Adapter {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        if parent.0 == ROOT && name == CONTROL {
            return reply.entry(&NEVER, &self.control(), Generation(0));
        }
        entry(reply, self.0.lock().lookup(parent.0, name));
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        if ino.0 == CONTROL_INO {
            return reply.attr(&NEVER, &self.control());
        }
        let answer = self.0.lock().look(ino.0);
        match answer {
            Ok((ino, metadata)) => reply.attr(&NEVER, &attributes(ino, &metadata)),
            // The root stays, or the power could not be switched on again.
            Err(_) if ino.0 == ROOT => reply.attr(&NEVER, &blank(ROOT, FileType::Directory, 0o755)),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        _uid: Option<u32>,
        _gid: Option<u32>,
        size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        if ino.0 != CONTROL_INO {
            let mut disk = self.0.lock();
            let resized = size.map_or(Ok(()), |size| disk.set_length(ino.0, size));
            let moded = resized.and_then(|()| mode.map_or(Ok(()), |mode| disk.chmod(ino.0, mode)));
            if let Err(error) = moded {
                return reply.error(errno(&error));
            }
        }
        self.getattr(request, ino, handle, reply);
    }

    fn mkdir(&self, _: &Request, parent: INodeNo, name: &OsStr, _: u32, _: u32, reply: ReplyEntry) {
        entry(reply, self.0.lock().mkdir(parent.0, name));
    }

    fn unlink(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.0.lock().remove(parent.0, name, false));
    }

    fn rmdir(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(reply, self.0.lock().remove(parent.0, name, true));
    }

    fn rename(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(RenameFlags::RENAME_EXCHANGE) {
            return reply.error(Errno::EINVAL);
        }
        let replace = !flags.contains(RenameFlags::RENAME_NOREPLACE);
        let (from, to) = ((parent.0, name), (new_parent.0, new_name));
        empty(reply, self.0.lock().rename(from, to, replace));
    }

    fn open(&self, _: &Request, ino: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        if ino.0 == CONTROL_INO {
            return reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
        }
        match self.0.lock().open_file(ino.0) {
            Ok(handle) => reply.opened(FileHandle(handle), FopenFlags::FOPEN_DIRECT_IO),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn create(
        &self,
        _: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        _flags: i32,
        reply: ReplyCreate,
    ) {
        let mut disk = self.0.lock();
        let made = disk.create(parent.0, name).and_then(|(ino, _, handle)| {
            disk.chmod(ino, mode & !umask & 0o7777)?;
            disk.look(ino).map(|(ino, metadata)| (ino, metadata, handle))
        });
        match made {
            Ok((ino, metadata, handle)) => reply.created(
                &NEVER,
                &attributes(ino, &metadata),
                Generation(0),
                FileHandle(handle),
                FopenFlags::FOPEN_DIRECT_IO,
            ),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        if ino.0 == CONTROL_INO {
            let text = self.0.lock().tell();
            let from = text.len().min(offset as usize);
            return reply.data(&text.as_bytes()[from..]);
        }
        match self.0.lock().read(handle.0, offset, size as usize) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn write(
        &self,
        _: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let answer = if ino.0 == CONTROL_INO {
            self.obey(data)
        } else {
            self.0.lock().write(handle.0, offset, data)
        };
        match answer {
            Ok(()) => reply.written(data.len() as u32),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.0.lock().close(handle.0);
        reply.ok();
    }

    fn fsync(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.0.lock().sync(ino.0));
    }

    fn fsyncdir(&self, _: &Request, ino: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        empty(reply, self.0.lock().sync_directory(ino.0));
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let lines = match self.0.lock().list(ino.0) {
            Ok(lines) => lines,
            Err(error) => return reply.error(errno(&error)),
        };
        for (place, (name, metadata)) in lines.iter().enumerate().skip(offset as usize) {
            let ino = INodeNo(metadata.ino());
            if reply.add(ino, place as u64 + 1, kind(metadata), name) {
                break;
            }
        }
        reply.ok();
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        let answer = self.0.lock().backing().and_then(|dir| Ok(rustix::fs::fstatvfs(&dir)?));
        match answer {
            Ok(s) => reply.statfs(
                s.f_blocks,
                s.f_bfree,
                s.f_bavail,
                s.f_files,
                s.f_ffree,
                s.f_bsize as u32,
                255,
                s.f_frsize as u32,
            ),
            Err(error) => reply.error(errno(&error)),
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let mut disk = self.0.lock();
        let answer = match mode {
            // Space is not what this disk is faulty about.
            KEEP_SIZE => Ok(()),
            0 => disk.look(ino.0).and_then(|(_, metadata)| {
                let end = offset.saturating_add(length);
                if end > metadata.len() { disk.set_length(ino.0, end) } else { Ok(()) }
            }),
            _ => return reply.error(Errno::EOPNOTSUPP),
        };
        empty(reply, answer);
    }
}
