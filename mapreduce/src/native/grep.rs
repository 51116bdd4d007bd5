//! Distributed grep: the lines that contain a string, in the order of the input where there are no reduces. The
//! pattern is plain bytes, as of `grep -F`.

use memchr::memmem::Finder;

use crate::{
    api::{Each, Emitter, Job, Lines, Mapper, Raw, Record},
    error::Error,
};

#[derive(Clone)]
struct Map {
    finder: Finder<'static>,
    matches: u64,
}

impl Mapper for Map {
    type Input = Lines;
    type Key = Raw;
    type Value = ();

    fn map(
        &mut self,
        record: &Record<'_, Lines>,
        out: &mut Emitter<'_, Raw, ()>,
    ) -> Result<(), Error> {
        if self.finder.find(record.data).is_some() {
            self.matches += 1;
            out.emit(record.data, ())?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<'_, Raw, ()>) -> Result<(), Error> {
        out.count("grep", "matches", self.matches);
        Ok(())
    }
}

pub(super) fn job(arguments: &[String]) -> Result<Job, Error> {
    let [pattern] = arguments else {
        return Err(Error::Spec("grep takes one pattern".to_owned()));
    };
    let finder = Finder::new(pattern.as_bytes()).into_owned();
    Ok(Job::of(Map { finder, matches: 0 }, Each::default()).into())
}
