//! The inverted index: for each word the files that it is in, sorted, separated by blanks.

use super::{distinct::Distinct, wordcount::words};
use crate::{
    api::{Emitter, Job, Lines, Mapper, Raw, Record},
    error::Error,
};

#[derive(Clone)]
struct Map;

impl Mapper for Map {
    type Input = Lines;
    type Key = Raw;
    type Value = Raw;

    fn map(
        &mut self,
        record: &Record<'_, Lines>,
        out: &mut Emitter<'_, Raw, Raw>,
    ) -> Result<(), Error> {
        let name = record.path.rsplit('/').next().unwrap_or(record.path).as_bytes();
        words(record.data, |word| out.emit(word, name))
    }
}

pub(super) fn job(_: &[String]) -> Result<Job, Error> {
    Ok(Job::of(Map, Distinct::Listed).combine(Distinct::Once).into())
}
