//! The interface that native jobs are written against: typed keys and values ([`Datum`], [`Key`]), functions
//! ([`Mapper`], [`Reducer`], [`Combiner`], [`Partitioner`]), input and output formats, and a [`Job`] made of them.
//!
//! A function gets its keys and values as it declared them, and what it emits is checked by the compiler. Below this
//! interface everything is bytes ([`crate::native`]); which job runs where is not known here.

mod datum;
mod format;
mod functions;
mod job;

pub use datum::{Datum, Delimited, Key, Raw, Text};
pub use format::{Fixed, InputFormat, KeyValueLines, Lines, OutputFormat, TextLines, WholeFile};
pub use functions::{
    Combiner, Emitter, Mapper, NextValue, Partitioner, Record, Reducer, Scratch, Values,
};
pub(crate) use job::Combine;
pub use job::{Definition, Each, Job, Make, Programs, Total};
