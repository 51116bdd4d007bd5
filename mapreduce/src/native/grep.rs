//! Distributed grep: the lines that contain a string, in the order of the input where there are no reduces. The
//! pattern is plain bytes, as of `grep -F`.

use memchr::memmem::Finder;

use super::raw::{RawJob, RawMapper, RawOutput, RawReducer, Record};
use crate::{error::Error, shuffle::groups::Values};

pub(super) struct Grep;

struct Map {
    finder: Finder<'static>,
    matches: u64,
}

impl RawMapper for Map {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn RawOutput) -> Result<(), Error> {
        if self.finder.find(record.bytes).is_some() {
            self.matches += 1;
            out.emit(record.bytes, b"")?;
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error> {
        out.count("grep", "matches", self.matches);
        Ok(())
    }
}

/// Every key as often as it came.
pub(super) struct Same;

impl RawReducer for Same {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        while let Some(value) = values.next()? {
            out.emit(key, value)?;
        }
        Ok(())
    }
}

impl RawJob for Grep {
    fn mapper(&self, arguments: &[String]) -> Result<Box<dyn RawMapper>, Error> {
        let [pattern] = arguments else {
            return Err(Error::Spec("grep takes one pattern".to_owned()));
        };
        Ok(Box::new(Map { finder: Finder::new(pattern.as_bytes()).into_owned(), matches: 0 }))
    }

    fn reducer(&self, _: &[String]) -> Result<Box<dyn RawReducer>, Error> {
        Ok(Box::new(Same))
    }
}
