//! The `fs` room.
