//! Functions of native jobs as the tasks call them: keys and values are bytes. What types they stand for is known to
//! `api` alone.

use crate::{api::NextValue, error::Error};

/// One record of the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawRecord<'a> {
    /// The file it is from.
    pub(crate) path: &'a str,
    /// Where it begins there, in bytes (of the decompressed file).
    pub(crate) offset: u64,
    /// The record, without its end of line.
    pub(crate) bytes: &'a [u8],
}

/// Where mappers, combiners and reducers put what they make.
pub(crate) trait RawOutput {
    /// Gives a record on.
    fn emit(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error>;

    /// Adds to a counter of the job.
    fn count(&mut self, group: &str, name: &str, amount: u64);
}

/// A mapper.
pub(crate) trait RawMapper: Send {
    /// Takes a record.
    fn map(&mut self, record: &RawRecord<'_>, out: &mut dyn RawOutput) -> Result<(), Error>;

    /// The split is at its end.
    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error>;
}

/// A reducer or combiner.
pub(crate) trait RawReducer: Send {
    /// Takes all values of a key.
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut dyn NextValue,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error>;

    /// The records are at their end.
    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error>;
}

/// A `u64` as it lies in the values of jobs that add up.
pub(crate) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}
