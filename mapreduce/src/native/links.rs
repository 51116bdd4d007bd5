//! The reverse web-link graph (MapReduce, OSDI'04, section 2.3): for each target of a link the pages that link to it.
//! Pages are files of HTML; a link is what stands in a `href` of quotes, on one line.

use memchr::memmem::Finder;

use super::distinct::Distinct;
use crate::{
    api::{Emitter, Job, Lines, Mapper, Raw, Record},
    error::Error,
};

#[derive(Clone)]
struct Map {
    finder: Finder<'static>,
    links: u64,
}

/// What follows `href`, blanks and `=`: the target between quotes, without its fragment.
fn target(text: &[u8]) -> Option<&[u8]> {
    let text = text.trim_ascii_start().strip_prefix(b"=")?.trim_ascii_start();
    let (quote, rest) = text.split_first().filter(|(quote, _)| matches!(quote, b'"' | b'\''))?;
    let link = &rest[..memchr::memchr(*quote, rest)?];
    let link = &link[..memchr::memchr(b'#', link).unwrap_or(link.len())];
    Some(link.trim_ascii()).filter(|link| !link.is_empty())
}

impl Mapper for Map {
    type Input = Lines;
    type Key = Raw;
    type Value = Raw;

    fn map(
        &mut self,
        record: &Record<'_, Lines>,
        out: &mut Emitter<'_, Raw, Raw>,
    ) -> Result<(), Error> {
        for at in self.finder.find_iter(record.data) {
            if let Some(target) = target(&record.data[at + self.finder.needle().len()..]) {
                self.links += 1;
                out.emit(target, record.path.as_bytes())?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Emitter<'_, Raw, Raw>) -> Result<(), Error> {
        out.count("links", "links", self.links);
        Ok(())
    }
}

pub(super) fn job(_: &[String]) -> Result<Job, Error> {
    let finder = Finder::new("href").into_owned();
    Ok(Job::of(Map { finder, links: 0 }, Distinct::Listed).combine(Distinct::Once).into())
}

#[cfg(test)]
mod tests {
    use super::target;

    #[test]
    fn a_target_is_what_stands_between_quotes_without_its_fragment() {
        for (text, expected) in [
            ("=\"http://a/b\">", Some("http://a/b")),
            (" = '/c#part' x", Some("/c")),
            ("=\"#top\"", None),
            ("=bare", None),
            ("=\"open", None),
            ("lang=\"en\"", None),
        ] {
            let found = target(text.as_bytes());
            assert_eq!(found, expected.map(str::as_bytes), "{text}");
        }
    }
}
