//! The translation between fuser's words and ours, request by request. It decides nothing: what it
//! cannot translate it refuses.

use std::{ffi::OsStr, io, os::unix::ffi::OsStrExt, path::Path, sync::Arc, time::SystemTime};

use bytes::Bytes;
use fuser::{
    FileHandle, FopenFlags, INodeNo, KernelConfig, LockOwner, ReplyAttr, ReplyCreate, ReplyData,
    ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyLock, ReplyOpen, ReplyStatfs,
    ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};

use crate::{
    Interrupted, Result,
    answer::Runner,
    directory::Raw,
    system::FileSystem,
    types::{Ino, Kind, NewNode, RenameFlags, SetAttributes},
    words::{
        allocate_in, caller, errno, flags_in, how_in, kind_in, lock_in, new_node, opened_out,
        reply_attr, reply_data, reply_empty, reply_entry, reply_found, reply_lock, reply_made,
        reply_space, reply_xattr, time_in, whence_in, xattr_mode_in,
    },
};

/// Lines asked for at once: what fits in the kernel's usual 32 KiB.
const LINES: usize = 1024;
const LINES_WITH_ATTRIBUTES: usize = 192;

pub(crate) struct Adapter<F> {
    pub(crate) system: Arc<F>,
    pub(crate) runner: Runner,
    pub(crate) raw: Arc<Raw>,
}

impl<F: FileSystem> Adapter<F> {
    fn make(&self, parent: INodeNo, name: &OsStr, new: NewNode, reply: ReplyEntry) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.runner.run(
            async move { system.make(Ino(parent.0), &name, new).await },
            move |answer| {
                reply_entry(reply, answer);
            },
        );
    }
}

impl<F: FileSystem> Adapter<F> {
    /// Runs an operation that answers only whether it was done.
    fn done(&self, work: impl Future<Output = Result<()>> + Send + 'static, reply: ReplyEmpty) {
        self.runner.run(work, move |answer| reply_empty(reply, answer));
    }
}

impl<F: FileSystem> fuser::Filesystem for Adapter<F> {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> io::Result<()> {
        crate::init::negotiate(config);
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.runner.run(async move { system.lookup(Ino(parent.0), &name).await }, move |answer| {
            reply_found(reply, answer);
        });
    }

    fn forget(&self, _request: &Request, ino: INodeNo, count: u64) {
        self.system.forget(Ino(ino.0), count);
    }

    fn getattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: Option<FileHandle>,
        reply: ReplyAttr,
    ) {
        let system = self.system.clone();
        self.runner.run(async move { system.getattr(Ino(ino.0)).await }, move |answer| {
            reply_attr(reply, answer);
        });
    }

    fn setattr(
        &self,
        request: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let (system, caller) = (self.system.clone(), caller(request));
        let set = SetAttributes {
            mode: mode.map(|mode| (mode & 0o7777) as u16),
            uid,
            gid,
            size,
            atime: atime.map(time_in),
            mtime: mtime.map(time_in),
        };
        self.runner.run(
            async move { system.setattr(Ino(ino.0), caller, set).await },
            move |answer| {
                reply_attr(reply, answer);
            },
        );
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        let system = self.system.clone();
        self.runner.run(
            async move { system.readlink(Ino(ino.0)).await },
            move |answer| match answer {
                Ok(target) => reply.data(&target),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn mknod(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        let Some(kind) = kind_in(mode) else { return reply.error(fuser::Errno::EINVAL) };
        let new = new_node(request, kind, mode, umask, rdev);
        self.make(parent, name, new, reply);
    }

    fn mkdir(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        reply: ReplyEntry,
    ) {
        let new = new_node(request, Kind::Directory, mode, umask, 0);
        self.make(parent, name, new, reply);
    }

    fn unlink(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.done(async move { system.unlink(Ino(parent.0), &name).await }, reply);
    }

    fn rmdir(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.done(async move { system.rmdir(Ino(parent.0), &name).await }, reply);
    }

    fn symlink(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        target: &Path,
        reply: ReplyEntry,
    ) {
        let (system, name, caller) =
            (self.system.clone(), name.as_bytes().to_vec(), caller(request));
        let target = target.as_os_str().as_bytes().to_vec();
        self.runner.run(
            async move { system.symlink(Ino(parent.0), &name, &target, caller).await },
            move |answer| reply_entry(reply, answer),
        );
    }

    fn rename(
        &self,
        _request: &Request,
        parent: INodeNo,
        name: &OsStr,
        new_parent: INodeNo,
        new_name: &OsStr,
        flags: fuser::RenameFlags,
        reply: ReplyEmpty,
    ) {
        if flags.contains(fuser::RenameFlags::RENAME_WHITEOUT) {
            return reply.error(fuser::Errno::EINVAL);
        }
        let flags = RenameFlags {
            no_replace: flags.contains(fuser::RenameFlags::RENAME_NOREPLACE),
            exchange: flags.contains(fuser::RenameFlags::RENAME_EXCHANGE),
        };
        let system = self.system.clone();
        let (name, new_name) = (name.as_bytes().to_vec(), new_name.as_bytes().to_vec());
        self.done(
            async move {
                system.rename((Ino(parent.0), &name), (Ino(new_parent.0), &new_name), flags).await
            },
            reply,
        );
    }

    fn link(
        &self,
        _request: &Request,
        ino: INodeNo,
        parent: INodeNo,
        name: &OsStr,
        reply: ReplyEntry,
    ) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.runner.run(
            async move { system.link(Ino(ino.0), Ino(parent.0), &name).await },
            move |answer| {
                reply_entry(reply, answer);
            },
        );
    }

    fn open(&self, _request: &Request, ino: INodeNo, flags: fuser::OpenFlags, reply: ReplyOpen) {
        let (system, flags) = (self.system.clone(), flags_in(flags.0));
        self.runner.run(async move { system.open(Ino(ino.0), flags).await }, move |answer| {
            match answer {
                Ok(opened) => reply.opened(FileHandle(opened.handle), opened_out(opened)),
                Err(error) => reply.error(errno(error)),
            }
        });
    }

    fn create(
        &self,
        request: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let (system, name, flags) =
            (self.system.clone(), name.as_bytes().to_vec(), flags_in(flags));
        let new = new_node(request, Kind::File, mode, umask, 0);
        let made = async move { system.create(Ino(parent.0), &name, new, flags).await };
        self.runner.run(made, move |answer| reply_made(reply, answer));
    }

    fn release(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        flags: fuser::OpenFlags,
        owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let (system, flags) = (self.system.clone(), flags_in(flags.0));
        let release = async move {
            let owner = owner.map(|owner| owner.0);
            // What cannot be told now ends with the session.
            let _ = system.unlock(Ino(ino.0), owner, Some(handle.0)).await;
            system.release(Ino(ino.0), handle.0, flags).await
        };
        self.done(release, reply);
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let system = self.system.clone();
        self.runner.run(
            async move { system.read(Ino(ino.0), handle.0, offset, size).await },
            move |answer| reply_data(reply, answer),
        );
    }

    fn write(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        flags: fuser::OpenFlags,
        _owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        // The event loop's buffer is used again for the next request.
        let (system, bytes) = (self.system.clone(), Bytes::copy_from_slice(data));
        let length = data.len() as u32;
        let how = how_in(write_flags, flags.0);
        self.runner.run(
            async move { system.write(Ino(ino.0), handle.0, offset, bytes, how).await },
            move |answer| match answer {
                Ok(_) => reply.written(length),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn flush(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let system = self.system.clone();
        let flush = async move {
            let unlocked = system.unlock(Ino(ino.0), Some(owner.0), None).await;
            system.flush(Ino(ino.0), handle.0).await.and(unlocked)
        };
        self.done(flush, reply);
    }

    fn getlk(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        owner: LockOwner,
        first: u64,
        last: u64,
        kind: i32,
        process: u32,
        reply: ReplyLock,
    ) {
        let Some(lock) = lock_in(owner, process, (first, last), kind) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let system = self.system.clone();
        self.runner.run(async move { system.getlk(Ino(ino.0), lock).await }, move |answer| {
            reply_lock(reply, answer, lock);
        });
    }

    fn setlk(
        &self,
        request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        owner: LockOwner,
        first: u64,
        last: u64,
        kind: i32,
        process: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let Some(lock) = lock_in(owner, process, (first, last), kind) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let system = self.system.clone();
        let wait = sleep.then(|| Interrupted::new(&self.runner.world, request.pid()));
        let set = async move { system.setlk(Ino(ino.0), handle.0, lock, wait).await };
        self.runner.run_long(set, move |answer| reply_empty(reply, answer));
    }

    fn fsync(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        datasync: bool,
        reply: ReplyEmpty,
    ) {
        let system = self.system.clone();
        self.done(async move { system.fsync(Ino(ino.0), datasync).await }, reply);
    }

    fn opendir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _flags: fuser::OpenFlags,
        reply: ReplyOpen,
    ) {
        let system = self.system.clone();
        self.runner.run(
            async move { system.opendir(Ino(ino.0)).await },
            move |answer| match answer {
                Ok(opened) => {
                    let mut flags = opened_out(opened);
                    flags.set(FopenFlags::FOPEN_CACHE_DIR, opened.keep_cache);
                    reply.opened(FileHandle(opened.handle), flags);
                }
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectory,
    ) {
        let system = self.system.clone();
        self.runner.run(
            async move { system.readdir(Ino(ino.0), offset, LINES, false).await },
            move |answer| crate::directory::reply(reply, answer),
        );
    }

    fn readdirplus(
        &self,
        request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        reply: ReplyDirectoryPlus,
    ) {
        let (system, raw, unique) = (self.system.clone(), self.raw.clone(), request.unique().0);
        let listed = self.system.clone();
        self.runner.run(
            async move { listed.readdir(Ino(ino.0), offset, LINES_WITH_ATTRIBUTES, true).await },
            move |answer| {
                let forget = |ino| system.forget(ino, 1);
                crate::directory::reply_plus(reply, answer, &raw, unique, forget);
            },
        );
    }

    fn releasedir(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        _flags: fuser::OpenFlags,
        reply: ReplyEmpty,
    ) {
        let system = self.system.clone();
        self.done(async move { system.releasedir(Ino(ino.0), handle.0).await }, reply);
    }

    fn fsyncdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        _datasync: bool,
        reply: ReplyEmpty,
    ) {
        let system = self.system.clone();
        self.done(async move { system.fsyncdir(Ino(ino.0)).await }, reply);
    }

    fn statfs(&self, _request: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        let system = self.system.clone();
        self.runner.run(async move { system.space().await }, move |answer| {
            reply_space(reply, answer);
        });
    }

    fn getxattr(
        &self,
        _request: &Request,
        ino: INodeNo,
        name: &OsStr,
        size: u32,
        reply: ReplyXattr,
    ) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.runner.run(async move { system.getxattr(Ino(ino.0), &name).await }, move |answer| {
            reply_xattr(reply, answer.as_deref(), size);
        });
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        let system = self.system.clone();
        let listed = async move {
            let names = system.listxattr(Ino(ino.0)).await?;
            Ok(names
                .into_iter()
                .flat_map(|mut name| {
                    name.push(0);
                    name
                })
                .collect::<Vec<u8>>())
        };
        self.runner.run(listed, move |answer| reply_xattr(reply, answer.as_deref(), size));
    }

    fn setxattr(
        &self,
        request: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = xattr_mode_in(flags) else { return reply.error(fuser::Errno::EINVAL) };
        let (system, caller) = (self.system.clone(), caller(request));
        let (name, value) = (name.as_bytes().to_vec(), value.to_vec());
        self.done(
            async move { system.setxattr(Ino(ino.0), &name, &value, mode, caller).await },
            reply,
        );
    }

    fn removexattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let (system, name) = (self.system.clone(), name.as_bytes().to_vec());
        self.done(async move { system.removexattr(Ino(ino.0), &name).await }, reply);
    }

    fn lseek(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: fuser::ReplyLseek,
    ) {
        let (Ok(offset), Some(whence)) = (u64::try_from(offset), whence_in(whence)) else {
            return reply.error(fuser::Errno::EINVAL);
        };
        let system = self.system.clone();
        self.runner.run(
            async move { system.seek(Ino(ino.0), offset, whence).await },
            move |answer| match answer {
                Ok(found) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
                Err(error) => reply.error(errno(error)),
            },
        );
    }

    // The kernel asks for each of these once, remembers the ENOSYS, and answers by itself from then on.

    fn access(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _mask: fuser::AccessFlags,
        reply: ReplyEmpty,
    ) {
        reply.error(fuser::Errno::ENOSYS);
    }

    fn fallocate(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(what) = allocate_in(mode) else { return reply.error(fuser::Errno::EOPNOTSUPP) };
        let system = self.system.clone();
        self.done(async move { system.allocate(Ino(ino.0), offset, length, what).await }, reply);
    }

    fn ioctl(
        &self,
        _request: &Request,
        _ino: INodeNo,
        _handle: FileHandle,
        _flags: fuser::IoctlFlags,
        _command: u32,
        _data: &[u8],
        _size: u32,
        reply: fuser::ReplyIoctl,
    ) {
        reply.error(fuser::Errno::ENOTTY);
    }
}
