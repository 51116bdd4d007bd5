//! Cutting bytes into words: a word is a run of bytes that are no blanks, as `LC_ALL=C` sees them.
//! Pure; where the bytes come from and where the words go is not known here.

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

fn is_blank(byte: u8) -> bool {
    BLANKS[usize::from(byte)]
}

/// Cuts one piece of one file, given in chunks, into words. A word belongs to the piece in which it begins.
#[derive(Debug)]
pub(crate) struct Cutter {
    /// In a word that began before the piece.
    skipping: bool,
    /// The beginning of a word whose end is in a later chunk.
    carry: Vec<u8>,
}

impl Cutter {
    /// For a piece that begins a file, or, with `inside`, for one whose bytes are given from one byte before it on:
    /// that byte tells whether the first word began earlier.
    pub(crate) fn new(inside: bool) -> Self {
        Self { skipping: inside, carry: Vec::new() }
    }

    /// Takes the next bytes of the piece.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut word: impl FnMut(&[u8])) {
        if self.skipping {
            let Some(blank) = bytes.iter().position(|byte| is_blank(*byte)) else { return };
            self.skipping = false;
            bytes = &bytes[blank..];
        }
        if !self.carry.is_empty() {
            let Some(end) = bytes.iter().position(|byte| is_blank(*byte)) else {
                self.carry.extend_from_slice(bytes);
                return;
            };
            self.carry.extend_from_slice(&bytes[..end]);
            word(&self.carry);
            self.carry.clear();
            bytes = &bytes[end..];
        }
        let mut at = 0;
        loop {
            while at < bytes.len() && is_blank(bytes[at]) {
                at += 1;
            }
            let begin = at;
            while at < bytes.len() && !is_blank(bytes[at]) {
                at += 1;
            }
            if at == bytes.len() {
                self.carry.extend_from_slice(&bytes[begin..]);
                return;
            }
            word(&bytes[begin..at]);
        }
    }

    /// Whether a word has begun that may go on behind the piece.
    pub(crate) fn is_open(&self) -> bool {
        !self.carry.is_empty()
    }

    /// Bytes of the word that has begun.
    pub(crate) fn length(&self) -> usize {
        self.carry.len()
    }

    /// Takes bytes from behind the piece; tells whether the open word goes on still further.
    pub(crate) fn extend(&mut self, bytes: &[u8]) -> bool {
        match bytes.iter().position(|byte| is_blank(*byte)) {
            Some(end) => {
                self.carry.extend_from_slice(&bytes[..end]);
                false
            }
            None => {
                self.carry.extend_from_slice(bytes);
                true
            }
        }
    }

    /// The piece, and what its last word needed from behind it, is all there.
    pub(crate) fn finish(self, mut word: impl FnMut(&[u8])) {
        if !self.carry.is_empty() {
            word(&self.carry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::{ProptestConfig, any, prop, prop_assert_eq, proptest};

    use super::Cutter;

    type Counts = BTreeMap<Vec<u8>, u64>;

    fn simple(bytes: &[u8]) -> Counts {
        let mut counts = Counts::new();
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r');
        for word in bytes.split(blank).filter(|word| !word.is_empty()) {
            *counts.entry(word.to_vec()).or_insert(0) += 1;
        }
        counts
    }

    /// As a map task does it: pieces of `piece` bytes, given in chunks of `chunk` bytes.
    fn in_pieces(file: &[u8], piece: usize, chunk: usize) -> Counts {
        let mut counts = Counts::new();
        let mut count = |word: &[u8]| *counts.entry(word.to_vec()).or_insert(0) += 1;
        for from in (0..file.len()).step_by(piece) {
            let to = (from + piece).min(file.len());
            let mut cutter = Cutter::new(from > 0);
            for part in file[from.saturating_sub(1)..to].chunks(chunk) {
                cutter.feed(part, &mut count);
            }
            for part in file[to..].chunks(chunk) {
                if !cutter.is_open() || !cutter.extend(part) {
                    break;
                }
            }
            cutter.finish(&mut count);
        }
        counts
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_word_is_lost_doubled_or_cut_whatever_the_pieces_and_chunks(
            file in prop::collection::vec(prop::sample::select(b"ab\xff \n\t\r\x0b\x0c".to_vec()), 0..200),
            piece in 1_usize..40,
            chunk in 1_usize..40,
        ) {
            prop_assert_eq!(in_pieces(&file, piece, chunk), simple(&file));
        }

        #[test]
        fn any_bytes_are_cut_alike(file in prop::collection::vec(any::<u8>(), 0..500), piece in 1_usize..100) {
            prop_assert_eq!(in_pieces(&file, piece, 7), simple(&file));
        }
    }

    #[test]
    fn a_word_longer_than_many_pieces_belongs_to_the_first() {
        let mut file = b"x ".to_vec();
        file.extend([b'y'; 1000]);
        file.extend(b" z");
        assert_eq!(in_pieces(&file, 10, 3), simple(&file));
    }
}
