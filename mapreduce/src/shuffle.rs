//! From maps to reduces: records are collected in a buffer of bounded size, sorted by partition and key, spilled to
//! runs on the local disk, merged to one run with an index for each map, fetched by the reduces and merged again.
//! What the records mean is not known here.

pub(crate) mod buffer;
pub(crate) mod fields;
pub(crate) mod groups;
pub(crate) mod merge;
pub(crate) mod order;
pub(crate) mod run;
pub(crate) mod tally;
