//! The sort: records in the order of a part of their bytes, the whole output in total order. Records are lines, or of
//! fixed length.

use crate::{
    api::{Each, Emitter, Job, Lines, Mapper, OutputFormat, Raw, Record},
    error::Error,
};

#[derive(Clone)]
struct Map {
    /// Bytes of the key; the rest of the record is the value.
    key: usize,
}

impl Mapper for Map {
    type Input = Lines;
    type Key = Raw;
    type Value = Raw;

    fn map(
        &mut self,
        record: &Record<'_, Lines>,
        out: &mut Emitter<'_, Raw, Raw>,
    ) -> Result<(), Error> {
        let (key, rest) = record.data.split_at(self.key.min(record.data.len()));
        out.emit(key, rest)
    }
}

/// Arguments: bytes of the key, and whether records end with a newline of their own (`lines` or `fixed`).
pub(super) fn job(arguments: &[String]) -> Result<Job, Error> {
    let key = match arguments {
        [] => Some(usize::MAX),
        [bytes, ..] => bytes.parse().ok().filter(|bytes| *bytes > 0),
    };
    let key =
        key.ok_or_else(|| Error::Spec("the length of the sort key is no number".to_owned()))?;
    let is_fixed = arguments.get(1).is_some_and(|kind| kind == "fixed");
    // Key and rest are put together again as they were.
    let end: &[u8] = if is_fixed { b"" } else { b"\n" };
    let format = OutputFormat { end, ..OutputFormat::RECORDS };
    Ok(Job::of(Map { key }, Each::default()).total_order().output(format).into())
}
