//! Telling the kernel how long a file is, unasked.
//!
//! The kernel drops the answer to a GETATTR if the inode was invalidated after the question was put (Linux,
//! fs/fuse/inode.c, `fuse_change_attributes`: the answer might be older than the invalidation). A read then
//! goes on with the size that the kernel knew before, however long ago that was, and finds an end of the file
//! that is none. No notification carries attributes; but one that stores bytes in the page cache lets
//! the file grow to their end first. It is sent here with bytes that cannot be copied: the size stays, no
//! page is touched, and the kernel says EFAULT.
//!
//! A file that became shorter needs no such care: the first READ beyond the new end is answered short,
//! which the kernel takes for the end.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;

use crate::types::Ino;

const CODE_STORE: i32 = 4;
const HEADER: usize = 40;
/// The most bytes that a message claims to store.
const MOST: u64 = 1 << 20;

/// The kernel learns that `ino` has at least `size` bytes. `page` (by its first byte, before `size`) is waited
/// for if a request holds it.
pub(crate) fn tell(device: &OwnedFd, ino: Ino, page: u64, size: u64) -> Result<(), Errno> {
    let claimed = size.saturating_sub(page);
    if claimed == 0 || claimed > MOST {
        return Err(Errno::INVAL);
    }
    let mut head = [0; HEADER];
    let length = HEADER as u32 + claimed as u32;
    head[..4].copy_from_slice(&length.to_ne_bytes());
    head[4..8].copy_from_slice(&CODE_STORE.to_ne_bytes());
    // A number of no request: 8 bytes of zeros.
    head[16..24].copy_from_slice(&ino.0.to_ne_bytes());
    head[24..32].copy_from_slice(&page.to_ne_bytes());
    head[32..36].copy_from_slice(&(claimed as u32).to_ne_bytes());
    match send(device, &head, claimed as usize) {
        Err(Errno::FAULT) => Ok(()),
        Ok(()) => Err(Errno::INVAL),
        Err(error) => Err(error),
    }
}

/// Sends `head` and `claimed` bytes that nobody can read.
#[expect(
    unsafe_code,
    reason = "memory that cannot be read has no safe name, and that is the point"
)]
fn send(device: &OwnedFd, head: &[u8; HEADER], claimed: usize) -> Result<(), Errno> {
    // The first page of the address space is never mapped.
    let nowhere = std::ptr::without_provenance_mut(1);
    let parts = [
        libc::iovec { iov_base: head.as_ptr().cast_mut().cast(), iov_len: HEADER },
        libc::iovec { iov_base: nowhere, iov_len: claimed },
    ];
    // SAFETY: the call only reads from the two ranges. The first is `head`; of the second the kernel finds out
    // itself that it cannot be read, and returns an error.
    let sent = unsafe { libc::writev(device.as_raw_fd(), parts.as_ptr(), 2) };
    if sent >= 0 {
        return Ok(());
    }
    Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO))
}
