//! The `fuse` room.
