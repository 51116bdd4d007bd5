//! The word count: lines `word TAB count`. A word is a run of bytes that are no blanks, as `LC_ALL=C` sees them.

use super::frequency::Things;
use crate::error::Error;

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

/// The words of lines.
pub(super) enum Words {}

impl Things for Words {
    const FOUND: (&'static str, &'static str) = ("wordcount", "words");
    const NONE: Option<&'static str> = None;

    fn find(line: &[u8], take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        words(line, take)
    }
}

#[cfg(test)]
mod tests {
    use super::words;

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
}
