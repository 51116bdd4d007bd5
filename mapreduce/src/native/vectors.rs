//! Term vectors (MapReduce, OSDI'04, section 2.3): for each host the most frequent words of its documents, with their
//! counts. A document is a line of URL, tab, text.

use std::{cmp::Reverse, collections::BinaryHeap};

use super::wordcount::words;
use crate::{
    api::{Emitter, Job, KeyValueLines, Mapper, Partitioner, Raw, Record, Reducer, Values},
    error::Error,
    shuffle::tally,
};

/// Terms of a vector if nothing else is said.
const TERMS: usize = 10;

/// Host and word.
type HostWord = (Raw, Raw);

#[derive(Clone, Default)]
struct Map {
    documents: u64,
}

/// The host of `scheme://host[:port]/...`; without a scheme, up to the first slash.
fn host(url: &[u8]) -> &[u8] {
    let begin = memchr::memmem::find(url, b"://").map_or(0, |at| at + 3);
    let rest = &url[begin..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b':' | b'?' | b'#' | 0));
    &rest[..end.unwrap_or(rest.len())]
}

impl Mapper for Map {
    type Input = KeyValueLines;
    type Key = HostWord;
    type Value = u64;

    fn map(
        &mut self,
        record: &Record<'_, KeyValueLines>,
        out: &mut Emitter<'_, HostWord, u64>,
    ) -> Result<(), Error> {
        let (url, text) = record.data;
        self.documents += 1;
        words(text, |word| out.emit((host(url), word), 1))
    }

    fn finish(&mut self, out: &mut Emitter<'_, HostWord, u64>) -> Result<(), Error> {
        out.count("vectors", "documents", self.documents);
        Ok(())
    }
}

/// All words of a host come to one reduce, one after the other: the paper's `hash(Hostname(urlkey)) mod R`.
struct ByHost;

impl Partitioner<HostWord> for ByHost {
    fn partition(&self, (host, _): (&[u8], &[u8]), partitions: u32) -> u32 {
        tally::partition(tally::hash(host), partitions)
    }
}

/// Keeps the most frequent words of the host under way.
#[derive(Clone)]
struct Vector {
    terms: usize,
    host: Option<Vec<u8>>,
    /// The least frequent on top; of equals the one that comes last by its bytes.
    best: BinaryHeap<(Reverse<u64>, Vec<u8>)>,
}

impl Vector {
    fn flush(&mut self, out: &mut Emitter<'_, Raw, Raw>) -> Result<(), Error> {
        let Some(host) = self.host.take() else { return Ok(()) };
        let mut line = Vec::new();
        for (Reverse(count), word) in std::mem::take(&mut self.best).into_sorted_vec() {
            if !line.is_empty() {
                line.push(b' ');
            }
            line.extend_from_slice(&word);
            line.extend_from_slice(format!(":{count}").as_bytes());
        }
        out.emit(&host, &line)
    }
}

impl Reducer for Vector {
    type Key = HostWord;
    type Value = u64;
    type OutKey = Raw;
    type OutValue = Raw;

    fn reduce(
        &mut self,
        (host, word): (&[u8], &[u8]),
        values: &mut Values<'_, u64>,
        out: &mut Emitter<'_, Raw, Raw>,
    ) -> Result<(), Error> {
        let mut count = 0_u64;
        while let Some(more) = values.next()? {
            count = count.saturating_add(more);
        }
        if self.host.as_deref() != Some(host) {
            self.flush(out)?;
            self.host = Some(host.to_vec());
        }
        self.best.push((Reverse(count), word.to_vec()));
        if self.best.len() > self.terms {
            self.best.pop();
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<'_, Raw, Raw>) -> Result<(), Error> {
        self.flush(out)
    }
}

/// Argument: the number of terms.
pub(super) fn job(arguments: &[String]) -> Result<Job, Error> {
    let terms = match arguments {
        [] => Some(TERMS),
        [terms, ..] => terms.parse().ok().filter(|terms| *terms > 0),
    };
    let terms = terms.ok_or_else(|| Error::Spec("the number of terms is none".to_owned()))?;
    let vector = Vector { terms, host: None, best: BinaryHeap::new() };
    Ok(Job::of(Map::default(), vector).sum().partition(ByHost).into())
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_host_ends_before_port_path_and_query() {
        for (url, expected) in [
            ("http://a.org/x", "a.org"),
            ("https://b.org:8080/x", "b.org"),
            ("c.org/x?y", "c.org"),
            ("http://d.org", "d.org"),
            ("", ""),
        ] {
            assert_eq!(host(url.as_bytes()), expected.as_bytes(), "{url}");
        }
    }
}
