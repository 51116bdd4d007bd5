//! Cutting the bytes of a split into records. Pure; where the bytes come from is not known here.
//!
//! The rule of lines is Hadoop's (LineRecordReader): a split that does not begin a file throws away its first,
//! perhaps partial, line, and every split takes each line that begins at or before its end. So the records of all
//! splits are exactly those of the file, however it is cut. A line ends with LF, CR, or CR LF; the end of the file
//! ends the last one.

use memchr::{memchr2, memmem::Finder};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// Longer records are refused: one must fit in memory.
const RECORD_LIMIT: usize = 1 << 30;
/// The byte order mark of UTF-8, which Hadoop leaves out at the begin of a file.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// What a record is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// A line, without its end.
    #[default]
    Lines,
    /// What lies between occurrences of these bytes (at least one).
    Delimited(Vec<u8>),
    /// This many bytes (at least one).
    Fixed(u64),
    /// The whole file.
    Whole,
}

impl Rule {
    /// Whether a file may be cut anywhere.
    pub(crate) fn is_splittable(&self) -> bool {
        match self {
            Self::Lines | Self::Fixed(_) => true,
            // A delimiter that overlaps itself is found elsewhere when the search begins elsewhere.
            Self::Delimited(mark) => !(1..mark.len()).any(|border| mark.ends_with(&mark[..border])),
            Self::Whole => false,
        }
    }

    /// Where to cut near `offset`.
    pub(crate) fn align(&self, offset: u64) -> u64 {
        match self {
            Self::Fixed(length) => offset - offset % (*length).max(1),
            _ => offset,
        }
    }

    /// Where reading must begin for a split that begins at `offset`.
    pub(crate) fn from(&self, offset: u64) -> u64 {
        match self {
            Self::Delimited(mark) => offset.saturating_sub(mark.len() as u64 - 1),
            _ => offset,
        }
    }
}

/// A record and where in its file it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut<'a> {
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
}

/// Cuts one split of one file, fed from [`Rule::from`] its begin on, past its end for as long as it asks.
pub(crate) struct Cutter {
    rule: Rule,
    finder: Option<Finder<'static>>,
    begin: u64,
    end: u64,
    /// Of the next byte to be fed.
    position: u64,
    /// Of the record under way.
    start: u64,
    /// Its bytes from earlier chunks.
    carry: Vec<u8>,
    /// The chunk ended with a CR: the line is complete, but an LF may belong to its end.
    after_cr: bool,
    over: bool,
}

impl Cutter {
    /// For the bytes from `begin` to `end` of a file; `end` may be [`u64::MAX`].
    pub(crate) fn new(rule: &Rule, begin: u64, end: u64) -> Self {
        let finder = match rule {
            Rule::Delimited(mark) => Some(Finder::new(mark).into_owned()),
            _ => None,
        };
        let position = rule.from(begin);
        Self {
            rule: rule.clone(),
            finder,
            begin,
            end,
            position,
            start: position,
            carry: Vec::new(),
            after_cr: false,
            over: begin >= end,
        }
    }

    /// Takes the next bytes; tells whether it wants more.
    pub(crate) fn feed(
        &mut self,
        bytes: &[u8],
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        if self.over {
            return Ok(false);
        }
        match self.rule {
            Rule::Lines => self.lines(bytes, emit)?,
            Rule::Delimited(_) => self.delimited(bytes, emit)?,
            Rule::Fixed(length) => self.fixed(bytes, length as usize, emit)?,
            Rule::Whole => self.keep(bytes)?,
        }
        Ok(!self.over)
    }

    /// The file has ended.
    pub(crate) fn finish(
        mut self,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.over {
            return Ok(());
        }
        if let Rule::Fixed(length) = self.rule
            && !self.carry.is_empty()
        {
            return Err(Error::Spec(format!(
                "the input ends within a record: its length is no multiple of {length} bytes"
            )));
        }
        let begun = self.after_cr || !self.carry.is_empty() || self.rule == Rule::Whole;
        if begun { self.complete(&[], self.position, emit) } else { Ok(()) }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.carry.len() + bytes.len() > RECORD_LIMIT {
            return Err(Error::Spec(format!(
                "the record that begins at byte {} is longer than 1 GiB",
                self.start
            )));
        }
        self.carry.extend_from_slice(bytes);
        self.position += bytes.len() as u64;
        Ok(())
    }

    /// The record under way ends with `rest`; the next begins at `next`.
    fn complete(
        &mut self,
        rest: &[u8],
        next: u64,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // The record at the very begin of a later split belongs to the split before it.
        if self.start > self.begin || self.begin == 0 {
            let offset = self.start;
            if self.carry.is_empty() {
                emit(Cut { offset, bytes: rest })?;
            } else {
                self.carry.extend_from_slice(rest);
                emit(Cut { offset, bytes: &self.carry })?;
            }
        }
        self.carry.clear();
        self.after_cr = false;
        self.start = next;
        self.over = next > self.end;
        Ok(())
    }

    fn lines(
        &mut self,
        bytes: &[u8],
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let base = self.position;
        let mut at = 0;
        if base == 0 && bytes.starts_with(MARK) {
            (at, self.start) = (MARK.len(), MARK.len() as u64);
        }
        if self.after_cr
            && let Some(first) = bytes.first()
        {
            at = usize::from(*first == b'\n');
            self.complete(&[], base + at as u64, emit)?;
        }
        while !self.over {
            let rest = &bytes[at..];
            let Some(length) = memchr2(b'\n', b'\r', rest) else {
                self.position = base + at as u64;
                return self.keep(rest);
            };
            let line = &rest[..length];
            let next = match (rest[length], rest.get(length + 1)) {
                (b'\r', None) => {
                    self.position = base + at as u64;
                    self.keep(line)?;
                    self.position += 1;
                    self.after_cr = true;
                    return Ok(());
                }
                (b'\r', Some(b'\n')) => length + 2,
                _ => length + 1,
            };
            at += next;
            self.complete(line, base + at as u64, emit)?;
        }
        Ok(())
    }

    fn delimited(
        &mut self,
        bytes: &[u8],
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let Some(finder) = self.finder.take() else { return Ok(()) };
        let mark = finder.needle().len();
        // What is carried may end with a part of the delimiter: search a little of it again.
        let before = self.carry.len();
        self.keep(bytes)?;
        let carry = std::mem::take(&mut self.carry);
        let base = self.position - carry.len() as u64;
        let (mut from, mut search) = (0, before.saturating_sub(mark - 1));
        while !self.over
            && let Some(found) = finder.find(&carry[search..])
        {
            let end = search + found;
            from = if end < from {
                from
            } else {
                self.piece(&carry[from..end], base, end + mark, emit)?
            };
            search = from;
        }
        self.finder = Some(finder);
        if !self.over {
            self.carry = carry;
            self.carry.drain(..from);
        }
        Ok(())
    }

    fn piece(
        &mut self,
        record: &[u8],
        base: u64,
        next: usize,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<usize, Error> {
        self.complete(record, base + next as u64, emit)?;
        Ok(next)
    }

    fn fixed(
        &mut self,
        mut bytes: &[u8],
        length: usize,
        emit: &mut impl FnMut(Cut<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        // Splits are aligned: a record belongs to the split that it lies in.
        while !bytes.is_empty() && self.start < self.end {
            let want = length - self.carry.len();
            if bytes.len() < want {
                return self.keep(bytes);
            }
            let (record, rest) = bytes.split_at(want);
            let cut = Cut { offset: self.start, bytes: record };
            if self.carry.is_empty() {
                emit(cut)?;
            } else {
                self.carry.extend_from_slice(record);
                emit(Cut { bytes: &self.carry, ..cut })?;
                self.carry.clear();
            }
            self.start += length as u64;
            self.position = self.start;
            bytes = rest;
        }
        self.over = self.start >= self.end;
        Ok(())
    }
}

/// How far behind the end of a split its last record reaches, looked for in what is read there: tells whether
/// enough was seen.
pub(crate) struct Tail {
    rule: Rule,
    seen: Vec<u8>,
    after_cr: bool,
}

impl Tail {
    pub(crate) fn new(rule: &Rule) -> Self {
        Self { rule: rule.clone(), seen: Vec::new(), after_cr: false }
    }

    /// Takes the next bytes from behind the end.
    pub(crate) fn is_enough(&mut self, bytes: &[u8]) -> bool {
        match &self.rule {
            Rule::Fixed(_) => true,
            Rule::Whole => false,
            Rule::Lines => {
                if self.after_cr && !bytes.is_empty() {
                    return true;
                }
                let found = memchr2(b'\n', b'\r', bytes);
                // After a CR one byte more tells whether an LF belongs to it.
                self.after_cr =
                    found == Some(bytes.len().wrapping_sub(1)) && bytes.ends_with(b"\r");
                found.is_some() && !self.after_cr
            }
            Rule::Delimited(mark) => {
                // One that begins at or behind the end is surely behind it.
                self.seen.extend_from_slice(bytes);
                let found = memchr::memmem::find(&self.seen, mark).is_some();
                let kept = self.seen.len().saturating_sub(mark.len() - 1);
                self.seen.drain(..kept);
                found
            }
        }
    }
}

#[cfg(test)]
mod tests;
