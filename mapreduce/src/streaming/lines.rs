//! Lines as keys and values: cutting what programs write, and making what they read. Pure.

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    input::record::{Cutter, Rule},
};

/// Where the key of a line ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Format {
    pub(crate) separator: String,
    /// Fields of the key.
    pub(crate) fields: usize,
}

impl Default for Format {
    fn default() -> Self {
        Self { separator: "\t".to_owned(), fields: 1 }
    }
}

impl Format {
    /// The key and, if there is a separator behind it, the value.
    pub(crate) fn split<'a>(&self, line: &'a [u8]) -> (&'a [u8], Option<&'a [u8]>) {
        let separator = self.separator.as_bytes();
        let mut from = 0;
        for field in 1..=self.fields.max(1) {
            let Some(found) = memchr::memmem::find(&line[from..], separator) else { break };
            let at = from + found;
            from = at + separator.len();
            if field == self.fields.max(1) {
                return (&line[..at], Some(&line[from..]));
            }
        }
        (line, None)
    }
}

/// A value as it travels: a line without separator is told from one with an empty value.
pub(crate) fn pack(value: Option<&[u8]>, into: &mut Vec<u8>) {
    into.clear();
    if let Some(value) = value {
        into.push(b'\t');
        into.extend_from_slice(value);
    }
}

/// A line of key and packed value, with `separator` between them.
pub(crate) fn line<'a>(key: &'a [u8], packed: &'a [u8], separator: &'a str) -> [&'a [u8]; 4] {
    match packed.split_first() {
        None => [key, b"", b"", b"\n"],
        Some((_, value)) => [key, separator.as_bytes(), value, b"\n"],
    }
}

/// Cuts what a program writes into lines.
pub(crate) struct Said(Cutter);

impl Said {
    pub(crate) fn new() -> Self {
        Self(Cutter::new(&Rule::Delimited(b"\n".to_vec()), 0, u64::MAX))
    }

    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        emit: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.0.feed(bytes, &mut |cut| emit(cut.bytes)).map(|_| ())
    }

    pub(crate) fn finish(
        self,
        emit: &mut impl FnMut(&[u8]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.0.finish(&mut |cut| emit(cut.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{Format, Said, line, pack};

    fn split(format: &Format, text: &'static str) -> (String, Option<String>) {
        let (key, value) = format.split(text.as_bytes());
        let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (owned(key), value.map(owned))
    }

    #[test]
    fn the_key_goes_up_to_the_first_tab_and_a_line_without_one_is_a_key() {
        let format = Format::default();
        assert_eq!(split(&format, "a\tb\tc"), ("a".into(), Some("b\tc".into())));
        assert_eq!(split(&format, "abc"), ("abc".into(), None));
        assert_eq!(split(&format, "\tb"), (String::new(), Some("b".into())));
        assert_eq!(split(&format, "a\t"), ("a".into(), Some(String::new())));
    }

    #[test]
    fn another_separator_and_more_fields_make_a_longer_key() {
        let format = Format { separator: ".".to_owned(), fields: 4 };
        assert_eq!(split(&format, "11.12.1.2.rest.x"), ("11.12.1.2".into(), Some("rest.x".into())));
        assert_eq!(split(&format, "11.12.1"), ("11.12.1".into(), None));
    }

    #[test]
    fn an_empty_value_and_none_stay_apart_on_their_way() {
        for (value, expected) in [(None, "k\n"), (Some(&b""[..]), "k=\n"), (Some(b"v"), "k=v\n")] {
            let mut packed = Vec::new();
            pack(value, &mut packed);
            assert_eq!(line(b"k", &packed, "=").concat(), expected.as_bytes());
        }
    }

    #[test]
    fn the_last_line_needs_no_end() {
        let mut lines = Vec::new();
        let mut said = Said::new();
        let mut take = |line: &[u8]| {
            lines.push(String::from_utf8_lossy(line).into_owned());
            Ok(())
        };
        for bytes in [&b"a\nb"[..], b"c\n\n", b"d"] {
            said.feed(bytes, &mut take).unwrap();
        }
        said.finish(&mut take).unwrap();
        assert_eq!(lines, ["a", "bc", "", "d"]);
    }
}
