//! Native jobs as the tasks run them: keys and values are bytes. The typed interface for people is built on it.

use crate::{error::Error, shuffle::groups::Values, spec::Shuffle};

/// One record of the input.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The file it is from.
    pub path: &'a str,
    /// Where it begins there, in bytes (of the decompressed file).
    pub offset: u64,
    /// The record, without its end of line.
    pub bytes: &'a [u8],
}

/// Where mappers, combiners and reducers put what they make.
pub trait RawOutput {
    /// Gives a record on.
    ///
    /// # Errors
    /// If it cannot be kept, or the job is over: to be passed on.
    fn emit(&mut self, key: &[u8], value: &[u8]) -> Result<(), Error>;

    /// Adds to a counter of the job.
    fn count(&mut self, group: &str, name: &str, amount: u64);
}

/// The map function, with what it keeps between records of one task.
pub trait RawMapper: Send {
    /// Takes a record.
    ///
    /// # Errors
    /// If it cannot be mapped; the attempt then fails.
    fn map(&mut self, record: &Record<'_>, out: &mut dyn RawOutput) -> Result<(), Error>;

    /// The split is at its end.
    ///
    /// # Errors
    /// As for [`RawMapper::map`].
    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error> {
        let _ = out;
        Ok(())
    }
}

/// The reduce function.
pub trait RawReducer: Send {
    /// Takes all values of a key.
    ///
    /// # Errors
    /// If they cannot be reduced; the attempt then fails.
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error>;
}

/// How the output of maps is combined before it goes to the reduces.
pub enum RawCombine {
    /// Not at all.
    No,
    /// Values are numbers (eight bytes, big endian) and are added up.
    Sum,
    /// By a reducer that emits nothing but the key that it was given.
    With(Box<dyn RawReducer>),
}

/// A native job.
pub trait RawJob: Send + Sync {
    /// What its mappers are made from, for one task.
    ///
    /// # Errors
    /// If the arguments of the job make no sense.
    fn mapper(&self, arguments: &[String]) -> Result<Box<dyn RawMapper>, Error>;

    /// Likewise its reducers. What they emit becomes a line of output: key, tab, value, each as it is; no
    /// tab if the value is empty.
    ///
    /// # Errors
    /// If the arguments of the job make no sense.
    fn reducer(&self, arguments: &[String]) -> Result<Box<dyn RawReducer>, Error>;

    /// Likewise its combiner.
    ///
    /// # Errors
    /// If the arguments of the job make no sense.
    fn combine(&self, arguments: &[String]) -> Result<RawCombine, Error> {
        let _ = arguments;
        Ok(RawCombine::No)
    }

    /// How its records are ordered and spread, unless the job was submitted with something else.
    fn shuffle(&self) -> Shuffle {
        Shuffle::default()
    }

    /// The key that the mapper will make of a record, if the partitions are to be ranges of keys, so that the parts
    /// of the output are in total order.
    fn sampled<'a>(&self, arguments: &[String], record: &'a [u8]) -> Option<&'a [u8]> {
        let _ = (arguments, record);
        None
    }

    /// Ends a record of the output; empty: records follow each other.
    fn line_end(&self, arguments: &[String]) -> &'static [u8] {
        let _ = arguments;
        b"\n"
    }
}

/// A number as native jobs write it into values.
#[must_use]
pub fn number(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

/// The reducer behind [`RawCombine::Sum`].
pub(crate) struct Summing;

impl RawReducer for Summing {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        let mut sum = 0_u64;
        while let Some(value) = values.next()? {
            let more = number(value).ok_or(Error::Damaged("a number of other than eight bytes"))?;
            sum = sum.saturating_add(more);
        }
        out.emit(key, &sum.to_be_bytes())
    }
}
