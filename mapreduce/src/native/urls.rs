//! URL access counts (MapReduce, OSDI'04, section 2.3): how often each URL was asked for, from logs of web servers in the
//! Common Log Format or one that begins as it.

use super::frequency::Things;
use crate::error::Error;

/// The URL of `... "METHOD URL PROTOCOL" ...`.
fn url(line: &[u8]) -> Option<&[u8]> {
    let open = memchr::memchr(b'"', line)?;
    let request = &line[open + 1..];
    let request = &request[..memchr::memchr(b'"', request)?];
    let url = request.split(|byte| *byte == b' ').nth(1)?;
    Some(url).filter(|url| !url.is_empty())
}

/// The URLs of requests.
pub(super) enum Urls {}

impl Things for Urls {
    const FOUND: (&'static str, &'static str) = ("urls", "requests");
    const NONE: Option<&'static str> = Some("other lines");

    fn find(line: &[u8], take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        url(line).map_or(Ok(()), take)
    }
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
