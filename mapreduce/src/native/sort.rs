//! The sort: records in the order of a part of their bytes, the whole output in total order when the partitions are
//! ranges. Records are lines, or of fixed length.

use super::{
    grep::Same,
    raw::{RawJob, RawMapper, RawOutput, RawReducer, Record},
};
use crate::{error::Error, shuffle::groups::Values};

/// Arguments: bytes of the key, and whether records end with a newline of their own (`lines` or `fixed`).
pub(super) struct Sort;

struct Map {
    key: usize,
}

impl RawMapper for Map {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn RawOutput) -> Result<(), Error> {
        let (key, rest) = record.bytes.split_at(self.key.min(record.bytes.len()));
        out.emit(key, rest)
    }
}

/// Puts key and rest together again.
struct Whole;

impl RawReducer for Whole {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        let mut record = key.to_vec();
        while let Some(value) = values.next()? {
            record.truncate(key.len());
            record.extend_from_slice(value);
            out.emit(&record, b"")?;
        }
        Ok(())
    }
}

fn key(arguments: &[String]) -> Result<usize, Error> {
    let bytes = match arguments {
        [] => Some(usize::MAX),
        [bytes, ..] => bytes.parse().ok().filter(|bytes| *bytes > 0),
    };
    bytes.ok_or_else(|| Error::Spec("the length of the sort key is no number".to_owned()))
}

impl RawJob for Sort {
    fn mapper(&self, arguments: &[String]) -> Result<Box<dyn RawMapper>, Error> {
        Ok(Box::new(Map { key: key(arguments)? }))
    }

    fn reducer(&self, arguments: &[String]) -> Result<Box<dyn RawReducer>, Error> {
        match key(arguments)? {
            usize::MAX => Ok(Box::new(Same)),
            _ => Ok(Box::new(Whole)),
        }
    }

    fn sampled<'a>(&self, arguments: &[String], record: &'a [u8]) -> Option<&'a [u8]> {
        let length = key(arguments).ok()?;
        Some(&record[..length.min(record.len())])
    }

    fn line_end(&self, arguments: &[String]) -> &'static [u8] {
        match arguments {
            [_, kind, ..] if kind == "fixed" => b"",
            _ => b"\n",
        }
    }
}
