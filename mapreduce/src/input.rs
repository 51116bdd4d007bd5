//! The input of a job: which files, cut into which splits, read how, and cut into which records.

pub(crate) mod near;
pub(crate) mod pattern;
pub(crate) mod plan;
pub(crate) mod read;
pub(crate) mod record;
