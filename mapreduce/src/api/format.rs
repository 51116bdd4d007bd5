//! Input formats: what a record is and how a mapper sees it. Output formats: what stands between the keys, values and
//! records of the output. What is done with the records is not known here.

use crate::{error::Error, input::record::Rule};

/// How the input is cut into records, and what a mapper gets of each.
pub trait InputFormat: 'static {
    /// What a mapper gets.
    type Ref<'a>: Copy;

    /// How the input is cut; none: as the job is submitted, else into lines.
    fn rule() -> Option<Rule>;

    /// A record.
    ///
    /// # Errors
    /// [`Error::Job`] if it is none: a bad record.
    fn read(bytes: &[u8]) -> Result<Self::Ref<'_>, Error>;
}

/// Lines (or what the job is submitted with), without their ends, as bytes.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl InputFormat for Lines {
    type Ref<'a> = &'a [u8];

    fn rule() -> Option<Rule> {
        None
    }

    fn read(bytes: &[u8]) -> Result<&[u8], Error> {
        Ok(bytes)
    }
}

/// Lines of UTF-8; others are bad records.
#[derive(Clone, Copy, Debug)]
pub struct TextLines;

impl InputFormat for TextLines {
    type Ref<'a> = &'a str;

    fn rule() -> Option<Rule> {
        Some(Rule::Lines)
    }

    fn read(bytes: &[u8]) -> Result<&str, Error> {
        std::str::from_utf8(bytes).map_err(|_| Error::Job("the line is no UTF-8".to_owned()))
    }
}

/// Lines of a key, a tab and a value; without a tab all of it is key.
#[derive(Clone, Copy, Debug)]
pub struct KeyValueLines;

impl InputFormat for KeyValueLines {
    type Ref<'a> = (&'a [u8], &'a [u8]);

    fn rule() -> Option<Rule> {
        Some(Rule::Lines)
    }

    fn read(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
        let tab = memchr::memchr(b'\t', bytes);
        Ok(tab.map_or((bytes, &[][..]), |tab| (&bytes[..tab], &bytes[tab + 1..])))
    }
}

/// Records of `N` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Fixed<const N: usize>;

impl<const N: usize> InputFormat for Fixed<N> {
    type Ref<'a> = &'a [u8; N];

    fn rule() -> Option<Rule> {
        Some(Rule::Fixed(N as u64))
    }

    fn read(bytes: &[u8]) -> Result<&[u8; N], Error> {
        let short = |_| Error::Job(format!("a record of {} bytes instead of {N}", bytes.len()));
        bytes.try_into().map_err(short)
    }
}

/// Each file is one record.
#[derive(Clone, Copy, Debug)]
pub struct WholeFile;

impl InputFormat for WholeFile {
    type Ref<'a> = &'a [u8];

    fn rule() -> Option<Rule> {
        Some(Rule::Whole)
    }

    fn read(bytes: &[u8]) -> Result<&[u8], Error> {
        Ok(bytes)
    }
}

/// What stands in the output besides keys and values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputFormat {
    /// Between key and value; nothing if the value is empty.
    pub separator: &'static [u8],
    /// Behind each record.
    pub end: &'static [u8],
}

impl OutputFormat {
    /// Lines: key, tab, value.
    pub const LINES: Self = Self { separator: b"\t", end: b"\n" };
    /// Keys and values as they are, one behind the other.
    pub const RECORDS: Self = Self { separator: b"", end: b"" };
    /// As lines, but with a NUL byte at the end, for `xargs -0` and the like.
    pub const NUL_SEPARATED: Self = Self { separator: b"\t", end: b"\0" };

    /// The parts of a record.
    pub(crate) fn record<'a>(&self, key: &'a [u8], value: &'a [u8]) -> [&'a [u8]; 4] {
        let separator = if value.is_empty() { b"" } else { self.separator };
        [key, separator, value, self.end]
    }
}
