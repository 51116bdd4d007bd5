//! The `mapreduce` room.
