//! The `mount` room.
