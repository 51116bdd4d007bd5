//! How often each thing that is found in the lines of the input occurs: lines `thing TAB number`. What is looked for is
//! not known here.

use std::marker::PhantomData;

use crate::{
    api::{Emitter, Job, Lines, Mapper, Raw, Record, Total},
    error::Error,
};

/// What is counted.
pub(super) trait Things: 'static {
    /// The group of its counters, and the counter of all things found.
    const FOUND: (&'static str, &'static str);
    /// The counter of lines without any, if that is told.
    const NONE: Option<&'static str>;

    /// Calls `take` with each thing in a line.
    fn find(line: &[u8], take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error>;
}

struct Map<T> {
    found: u64,
    without: u64,
    things: PhantomData<fn() -> T>,
}

impl<T> Clone for Map<T> {
    fn clone(&self) -> Self {
        Self { ..*self }
    }
}

impl<T: Things> Mapper for Map<T> {
    type Input = Lines;
    type Key = Raw;
    type Value = u64;

    fn map(
        &mut self,
        record: &Record<'_, Lines>,
        out: &mut Emitter<'_, Raw, u64>,
    ) -> Result<(), Error> {
        let before = self.found;
        T::find(record.data, |thing| {
            self.found += 1;
            out.emit(thing, 1)
        })?;
        self.without += u64::from(self.found == before);
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<'_, Raw, u64>) -> Result<(), Error> {
        let (group, found) = T::FOUND;
        out.count(group, found, self.found);
        if let Some(without) = T::NONE {
            out.count(group, without, self.without);
        }
        Ok(())
    }
}

/// The job that counts them; it takes no arguments.
pub(super) fn job<T: Things>(_: &[String]) -> Result<Job, Error> {
    let map = Map::<T> { found: 0, without: 0, things: PhantomData };
    Ok(Job::of(map, Total::default()).sum().into())
}
