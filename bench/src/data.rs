//! Input for jobs, the same for the same seed, and the judgement of a sorted output. Which jobs read it is not
//! known here.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};

/// Words of the vocabulary.
const WORDS: usize = 200_000;
/// Entries of the table that words are drawn from; the rarest word has one or two.
const DRAWS: usize = 1 << 22;
/// Words of a line.
const LINE: usize = 10;
/// Bytes of a record, and of its key: the ASCII layout of gensort.
const RECORD: usize = 100;
const KEY: usize = 10;

/// What to make.
#[derive(Subcommand)]
pub(crate) enum Make {
    /// Lines of ten words whose frequencies follow Zipf's law.
    Text(Text),
    /// Records of 100 bytes, ten of them key, as gensort makes them.
    Records {
        /// The directory to make.
        #[arg(long)]
        out: PathBuf,
        /// Records in all.
        #[arg(long, default_value_t = 10_000_000)]
        records: u64,
        /// Files.
        #[arg(long, default_value_t = 4)]
        files: u64,
        /// Other records for another seed.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

/// Text.
#[derive(Args)]
pub(crate) struct Text {
    /// The directory to make.
    #[arg(long)]
    out: PathBuf,
    /// Bytes in all, about.
    #[arg(long, default_value_t = 1 << 30)]
    bytes: u64,
    /// Files.
    #[arg(long, default_value_t = 16)]
    files: u64,
    /// Other text for another seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Numbers that look random (splitmix64, Steele, Lea and Flood, OOPSLA'14).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}

pub(crate) fn make(what: &Make) -> Result<()> {
    match what {
        Make::Text(text) => make_text(text),
        Make::Records { out, records, files, seed } => {
            make_records(out, (*records, (*files).max(1)), *seed)
        }
    }
}

/// A table in which each word stands as often as it is to be drawn.
fn draws() -> Vec<u32> {
    let all: f64 = (1..=WORDS).map(|rank| 1.0 / rank as f64).sum();
    let mut table = Vec::with_capacity(DRAWS);
    let mut reached = 0.0;
    for rank in 1..=WORDS {
        reached += 1.0 / rank as f64 / all;
        let until = (reached * DRAWS as f64).round() as usize;
        table.resize(until.min(DRAWS), rank as u32);
    }
    table.resize(DRAWS, WORDS as u32);
    table
}

/// The word of a rank: frequent ones are short, as in a language.
fn word(rank: u32) -> Vec<u8> {
    let mut word = Vec::new();
    let mut left = u64::from(rank) * 7;
    while left > 0 {
        word.push(b"etaoinshrdlucmfwypvbgkqjxz"[left as usize % 26]);
        left /= 26;
    }
    word
}

fn make_text(text: &Text) -> Result<()> {
    fs::create_dir_all(&text.out).with_context(|| format!("make {}", text.out.display()))?;
    let words: Vec<_> = (0..=WORDS as u32).map(word).collect();
    let (draws, mut dice) = (draws(), Dice(text.seed));
    let files = text.files.max(1);
    for number in 0..files {
        let mut to = begin(&text.out.join(format!("text-{number:05}")))?;
        let mut written = 0;
        while written < text.bytes / files {
            for at in 0..LINE {
                let word = &words[draws[dice.roll() as usize % DRAWS] as usize];
                to.write_all(word)?;
                to.write_all(if at + 1 == LINE { b"\n" } else { b" " })?;
                written += word.len() as u64 + 1;
            }
        }
        to.flush()?;
    }
    Ok(())
}

fn begin(path: &Path) -> Result<BufWriter<File>> {
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    Ok(BufWriter::with_capacity(1 << 20, file))
}

fn make_records(out: &Path, (records, files): (u64, u64), seed: u64) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("make {}", out.display()))?;
    let mut dice = Dice(seed);
    let mut number = 0;
    for file in 0..files {
        let mut to = begin(&out.join(format!("records-{file:05}")))?;
        while number < records * (file + 1) / files {
            to.write_all(&record(number, &mut dice))?;
            number += 1;
        }
        to.flush()?;
    }
    Ok(())
}

/// Key, two blanks, number in hexadecimal, two blanks, filler, and the end of a line.
fn record(number: u64, dice: &mut Dice) -> [u8; RECORD] {
    let mut record = [b' '; RECORD];
    for byte in &mut record[..KEY] {
        *byte = b' ' + 1 + (dice.roll() % 94) as u8;
    }
    record[12..44].copy_from_slice(format!("{number:032X}").as_bytes());
    for (at, four) in record[46..98].chunks_mut(4).enumerate() {
        four.fill(b'A' + ((number >> (at % 8)) % 26) as u8);
    }
    record[98..].copy_from_slice(b"\r\n");
    record
}

/// What is the same before and after sorting: as valsort tells it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sum {
    records: u64,
    checksum: u64,
}

/// Reads the records of a directory's files in the order of their names; those whose names begin with `_` are left out.
fn each(dir: &Path, mut take: impl FnMut(&[u8; RECORD]) -> Result<()>) -> Result<Sum> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("read {}", dir.display()))? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().starts_with(b"_") {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    let mut sum = Sum::default();
    for path in paths {
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let mut left = file.metadata()?.len();
        if !left.is_multiple_of(RECORD as u64) {
            bail!("{} is not made of whole records", path.display());
        }
        let mut from = BufReader::with_capacity(1 << 20, file);
        let mut record = [0; RECORD];
        while left > 0 {
            match from.read_exact(&mut record) {
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                    bail!("{} is shorter than was said", path.display())
                }
                read => read.with_context(|| format!("read {}", path.display()))?,
            }
            left -= RECORD as u64;
            sum.records += 1;
            sum.checksum += u64::from(crc_fast::crc32_iscsi(&record));
            take(&record)?;
        }
    }
    Ok(sum)
}

/// Whether the files in `output` are the records of those in `input`, in order; tells how many have a key that was there
/// before.
pub(crate) fn judge(input: &Path, output: &Path) -> Result<String> {
    let before = each(input, |_| Ok(()))?;
    let mut last = [0; KEY];
    let mut same = 0_u64;
    let after = each(output, |record| {
        let key = &record[..KEY];
        if key < &last[..] {
            bail!("{key:?} comes after {last:?}");
        }
        same += u64::from(key == &last[..]);
        last.copy_from_slice(key);
        Ok(())
    })?;
    if before != after {
        bail!("the output has {after:?}, the input {before:?}");
    }
    Ok(format!(
        "{} records in order, checksum {:x}, {same} keys twice",
        after.records, after.checksum
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::{Text, draws, judge, make_records, make_text};
    use crate::gauge::Scratch;

    fn scratch(name: &str) -> Scratch {
        let dir = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Scratch(dir)
    }

    #[test]
    fn text_is_the_same_for_the_same_seed_and_its_words_follow_zipf() {
        let table = draws();
        let times = |rank: u32| table.iter().filter(|drawn| **drawn == rank).count() as f64;
        assert!((times(1) / times(10) - 10.0).abs() < 0.1);
        assert!(times(199_999) > 0.0);
        let dir = scratch("bench-text");
        let make = |name: &str| {
            let text = Text { out: dir.0.join(name), bytes: 30_000, files: 3, seed: 7 };
            make_text(&text).unwrap();
            let read = |number| fs::read(dir.0.join(name).join(format!("text-{number:05}")));
            [0, 1, 2].map(|number| read(number).unwrap())
        };
        let (one, again) = (make("one"), make("again"));
        assert_eq!(one, again);
        assert_ne!(one[0], one[1]);
        let lines = String::from_utf8(one[0].clone()).unwrap();
        assert!(lines.lines().all(|line| line.split(' ').count() == 10));
    }

    #[test]
    fn the_judge_accepts_what_is_sorted_and_nothing_else() {
        let dir = scratch("bench-records");
        let (input, output) = (dir.0.join("in"), dir.0.join("out"));
        make_records(&input, (1000, 3), 1).unwrap();
        fs::create_dir(&output).unwrap();
        let mut all: Vec<u8> = Vec::new();
        for number in 0..3 {
            all.extend(fs::read(input.join(format!("records-{number:05}"))).unwrap());
        }
        let mut records: Vec<_> = all.chunks(100).map(<[u8]>::to_vec).collect();
        let say = |records: &[Vec<u8>], path: PathBuf| fs::write(path, records.concat()).unwrap();
        say(&records, output.join("part-00000"));
        assert!(judge(&input, &output).unwrap_err().to_string().contains("comes after"));
        records.sort();
        say(&records[..500], output.join("part-00000"));
        say(&records[500..], output.join("part-00001"));
        say(&[], output.join("_SUCCESS"));
        assert!(judge(&input, &output).unwrap().starts_with("1000 records in order"));
        // One record twice, another missing.
        records[501] = records[500].clone();
        say(&records[500..], output.join("part-00001"));
        assert!(judge(&input, &output).unwrap_err().to_string().contains("the input"));
        records.pop();
        say(&records[500..], output.join("part-00001"));
        assert!(judge(&input, &output).is_err());
    }
}
