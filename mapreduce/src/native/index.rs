//! The inverted index: for each word the files that it is in, sorted, separated by blanks.

use super::{
    raw::{RawCombine, RawJob, RawMapper, RawOutput, RawReducer, Record},
    wordcount::words,
};
use crate::{error::Error, shuffle::groups::Values};

pub(super) struct Index;

struct Map;

impl RawMapper for Map {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn RawOutput) -> Result<(), Error> {
        let name = record.path.rsplit('/').next().unwrap_or(record.path).as_bytes();
        words(record.bytes, |word| out.emit(word, name))
    }
}

/// The different values of a key, sorted.
fn distinct(values: &mut Values<'_>) -> Result<Vec<Vec<u8>>, Error> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut sorted = 0;
    while let Some(value) = values.next()? {
        // Most repetitions follow each other.
        if names.last().is_some_and(|last| last == value) {
            continue;
        }
        names.push(value.to_vec());
        if names.len() > 2 * sorted + 1024 {
            names.sort_unstable();
            names.dedup();
            sorted = names.len();
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

struct Combine;

impl RawReducer for Combine {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        distinct(values)?.iter().try_for_each(|name| out.emit(key, name))
    }
}

struct Reduce;

impl RawReducer for Reduce {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        out.emit(key, &distinct(values)?.join(&b' '))
    }
}

impl RawJob for Index {
    fn mapper(&self, _: &[String]) -> Result<Box<dyn RawMapper>, Error> {
        Ok(Box::new(Map))
    }

    fn reducer(&self, _: &[String]) -> Result<Box<dyn RawReducer>, Error> {
        Ok(Box::new(Reduce))
    }

    fn combine(&self, _: &[String]) -> Result<RawCombine, Error> {
        Ok(RawCombine::With(Box::new(Combine)))
    }
}
