//! What is agreed with the kernel when a mount begins. Why each ability is wanted is said beside it.

use fuser::{InitFlags, KernelConfig};

/// The largest read and write; the kernel's own limit unless a sysctl raises it.
const MAX_WRITE: u32 = 1 << 20;
/// Requests that the kernel may have under way without anybody waiting (read-ahead, releases).
const MAX_BACKGROUND: u16 = 64;

pub(crate) fn negotiate(config: &mut KernelConfig) {
    let wanted = [
        InitFlags::FUSE_PARALLEL_DIROPS,
        InitFlags::FUSE_DO_READDIRPLUS,
        InitFlags::FUSE_READDIRPLUS_AUTO,
        // Cached reads look at the attributes first, so their validity ends with the lease too.
        InitFlags::FUSE_AUTO_INVAL_DATA,
        InitFlags::FUSE_CACHE_SYMLINKS,
        InitFlags::FUSE_ASYNC_DIO,
        // Locks of processes are locks of the whole cluster.
        InitFlags::FUSE_POSIX_LOCKS,
        InitFlags::FUSE_FLOCK_LOCKS,
        // The kernel checks access lists; what is made inherits them here, and so the umask comes here.
        InitFlags::FUSE_POSIX_ACL,
        InitFlags::FUSE_DONT_MASK,
        // Else it would ask for an extended attribute before each write.
        InitFlags::FUSE_HANDLE_KILLPRIV_V2,
    ];
    for flag in wanted {
        if config.add_capabilities(flag).is_err() {
            tracing::info!(?flag, "this kernel lacks a FUSE ability; going on without");
        }
    }
    let _ = config.set_max_write(MAX_WRITE);
    let _ = config.set_max_background(MAX_BACKGROUND);
    if let Err(most) = config.set_max_readahead(MAX_WRITE) {
        let _ = config.set_max_readahead(most);
    }
}
