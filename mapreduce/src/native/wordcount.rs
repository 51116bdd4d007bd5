//! The word count: lines `word TAB count`. A word is a run of bytes that are no blanks, as `LC_ALL=C` sees them.

use super::raw::{RawCombine, RawJob, RawMapper, RawOutput, RawReducer, Record, number};
use crate::{
    error::Error,
    shuffle::{
        groups::Values,
        order::{Order, Partitioner},
    },
    spec::Shuffle,
};

pub(super) struct WordCount;

/// Space, tab, newline, vertical tab, form feed, carriage return.
const BLANKS: [bool; 256] = {
    let mut blanks = [false; 256];
    blanks[b' ' as usize] = true;
    let mut byte = 9;
    while byte <= 13 {
        blanks[byte] = true;
        byte += 1;
    }
    blanks
};

/// Calls `take` with every word of a line.
pub(super) fn words<E>(line: &[u8], mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let is_blank = |byte: u8| BLANKS[usize::from(byte)];
    let mut at = 0;
    loop {
        while at < line.len() && is_blank(line[at]) {
            at += 1;
        }
        if at == line.len() {
            return Ok(());
        }
        let begin = at;
        while at < line.len() && !is_blank(line[at]) {
            at += 1;
        }
        take(&line[begin..at])?;
    }
}

struct Map {
    words: u64,
}

impl RawMapper for Map {
    fn map(&mut self, record: &Record<'_>, out: &mut dyn RawOutput) -> Result<(), Error> {
        words(record.bytes, |word| {
            self.words += 1;
            out.emit(word, &1_u64.to_be_bytes())
        })
    }

    fn finish(&mut self, out: &mut dyn RawOutput) -> Result<(), Error> {
        out.count("wordcount", "words", self.words);
        Ok(())
    }
}

/// Adds up numbers and writes the sum in decimal.
pub(super) struct SumLines;

impl RawReducer for SumLines {
    fn reduce(
        &mut self,
        key: &[u8],
        values: &mut Values<'_>,
        out: &mut dyn RawOutput,
    ) -> Result<(), Error> {
        let mut sum = 0_u64;
        while let Some(value) = values.next()? {
            let more = number(value).ok_or(Error::Damaged("a number of other than eight bytes"))?;
            sum = sum.saturating_add(more);
        }
        let mut digits = [0; 20];
        out.emit(key, decimal(sum, &mut digits))
    }
}

/// A number in decimal, at the end of `digits`.
pub(super) fn decimal(mut number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

impl RawJob for WordCount {
    fn mapper(&self, _: &[String]) -> Result<Box<dyn RawMapper>, Error> {
        Ok(Box::new(Map { words: 0 }))
    }

    fn reducer(&self, _: &[String]) -> Result<Box<dyn RawReducer>, Error> {
        Ok(Box::new(SumLines))
    }

    fn combine(&self, _: &[String]) -> Result<RawCombine, Error> {
        Ok(RawCombine::Sum)
    }

    fn shuffle(&self) -> Shuffle {
        Shuffle { order: Order::Bytes, partitioner: Partitioner::Hash }
    }
}

#[cfg(test)]
mod tests {
    use super::{decimal, words};

    #[test]
    fn words_are_runs_of_what_is_not_blank() {
        let mut found = Vec::new();
        words(b" a\tbc \xff\x0b\x0cd\r", |word| {
            found.push(word.to_vec());
            Ok::<_, ()>(())
        })
        .unwrap();
        assert_eq!(found, [b"a".to_vec(), b"bc".to_vec(), vec![0xff], b"d".to_vec()]);
    }

    #[test]
    fn counts_are_written_in_decimal() {
        for number in [0, 7, 10, 12_345, u64::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
