//! URL access counts (MapReduce, OSDI'04, section 2.3): how often each URL was asked for, from logs of web servers in the
//! Common Log Format or one that begins as it.

use crate::{
    api::{Emitter, Job, Lines, Mapper, Raw, Record, Total},
    error::Error,
};

#[derive(Clone, Default)]
struct Map {
    requests: u64,
    others: u64,
}

/// The URL of `... "METHOD URL PROTOCOL" ...`.
fn url(line: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'"', line)?;
    let request = &line[open + 1..];
    let request = &request[..memchr::memchr(b'"', request)?];
    let url = request.split(|byte| *byte == b' ').nth(1)?;
    Some(url).filter(|url| !url.is_empty())
}

impl Mapper for Map {
    type Input = Lines;
    type Key = Raw;
    type Value = u64;

    fn map(
        &mut self,
        record: &Record<'_, Lines>,
        out: &mut Emitter<'_, Raw, u64>,
    ) -> Result<(), Error> {
        let Some(url) = url(record.data) else {
            self.others += 1;
            return Ok(());
        };
        self.requests += 1;
        out.emit(url, 1)
    }

    fn finish(&mut self, out: &mut Emitter<'_, Raw, u64>) -> Result<(), Error> {
        out.count("urls", "requests", self.requests);
        out.count("urls", "other lines", self.others);
        Ok(())
    }
}

pub(super) fn job(_: &[String]) -> Result<Job, Error> {
    Ok(Job::of(Map::default(), Total::default()).sum().into())
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn the_url_is_the_second_word_between_the_first_quotes() {
        let line =
            br#"10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a?b=1 HTTP/1.0" 200 23 "/ref""#;
        assert_eq!(url(line), Some(&b"/a?b=1"[..]));
        for none in [&b"no quotes"[..], b"\"GET", b"\"GET\"", b"\"GET  HTTP/1.0\""] {
            assert_eq!(url(none), None, "{none:?}");
        }
    }
}
