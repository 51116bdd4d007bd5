//! What a file was at its last sync, and what was done to it since: enough to go back, and to let any
//! choice of the changes survive. Names are not known here.

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

use crate::dice::Dice;

const PAGE: u64 = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Length(u64),
}

/// The changes of one file since its last sync.
pub(super) struct Unsynced {
    length: u64,
    /// The pages below `length` that were changed, as they were.
    before: BTreeMap<u64, Vec<u8>>,
    changes: Vec<Change>,
}

impl Unsynced {
    /// Begins at what `file` is now, which is on the disk.
    pub(super) fn begin(file: &File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self { length, before: BTreeMap::new(), changes: Vec::new() })
    }

    /// Begins at nothing: the file was made just now.
    pub(super) fn of_nothing() -> Self {
        Self { length: 0, before: BTreeMap::new(), changes: Vec::new() }
    }

    /// Notes a write that is about to be done.
    pub(super) fn write(&mut self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.keep(file, offset, offset + bytes.len() as u64)?;
        self.changes.push(Change::Write { offset, bytes: bytes.to_vec() });
        Ok(())
    }

    /// Notes a change of the length that is about to be done.
    pub(super) fn set_length(&mut self, file: &File, length: u64) -> io::Result<()> {
        self.keep(file, length, self.length)?;
        self.changes.push(Change::Length(length));
        Ok(())
    }

    fn keep(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        for page in from / PAGE..to.min(self.length).div_ceil(PAGE) {
            if !self.before.contains_key(&page) {
                let length = PAGE.min(self.length - page * PAGE) as usize;
                let mut bytes = vec![0; length];
                // Shorter by now only if what is missing was kept before.
                read_up_to(file, &mut bytes, page * PAGE)?;
                self.before.insert(page, bytes);
            }
        }
        Ok(())
    }

    /// Brings the file back to its last sync.
    pub(super) fn undo(&self, file: &File) -> io::Result<()> {
        file.set_len(self.length)?;
        for (page, bytes) in &self.before {
            file.write_all_at(bytes, page * PAGE)?;
        }
        Ok(())
    }

    /// After [`Unsynced::undo`]: lets sectors and lengths survive with a chance of `percent` in 100.
    pub(super) fn tear(&self, file: &File, dice: &mut Dice, percent: u8) -> io::Result<()> {
        for change in &self.changes {
            match change {
                Change::Length(length) => {
                    if dice.chance(u64::from(percent)) {
                        file.set_len(*length)?;
                    }
                }
                Change::Write { offset, bytes } => {
                    let mut at = *offset;
                    let mut rest = bytes.as_slice();
                    while !rest.is_empty() {
                        let whole = SECTOR - (at % SECTOR as u64) as usize;
                        let (sector, later) = rest.split_at(whole.min(rest.len()));
                        if dice.chance(u64::from(percent)) {
                            file.write_all_at(sector, at)?;
                        }
                        at += sector.len() as u64;
                        rest = later;
                    }
                }
            }
        }
        Ok(())
    }
}

fn read_up_to(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let n = file.read_at(bytes, offset)?;
        if n == 0 {
            break;
        }
        bytes = &mut bytes[n..];
        offset += n as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        file
    }

    fn content(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    fn write(file: &File, unsynced: &mut Unsynced, offset: u64, bytes: &[u8]) {
        unsynced.write(file, offset, bytes).unwrap();
        file.write_all_at(bytes, offset).unwrap();
    }

    fn cut(file: &File, unsynced: &mut Unsynced, length: u64) {
        unsynced.set_length(file, length).unwrap();
        file.set_len(length).unwrap();
    }

    #[test]
    fn undo_brings_back_what_was_overwritten_cut_and_grown() {
        let old: Vec<u8> = (0..10_000_u32).map(|i| (i % 251) as u8).collect();
        let file = file(&old);
        let mut unsynced = Unsynced::begin(&file).unwrap();
        write(&file, &mut unsynced, 4000, &[1; 200]);
        cut(&file, &mut unsynced, 50);
        write(&file, &mut unsynced, 20_000, &[2; 5000]);
        write(&file, &mut unsynced, 4000, &[3; 10]);
        unsynced.undo(&file).unwrap();
        assert!(content(&file) == old);
    }

    #[test]
    fn a_new_file_is_empty_after_undo_and_whole_if_everything_survives() {
        let file = file(b"");
        let mut unsynced = Unsynced::of_nothing();
        write(&file, &mut unsynced, 0, &[7; 3000]);
        unsynced.undo(&file).unwrap();
        assert_eq!(content(&file), b"");
        unsynced.tear(&file, &mut Dice::new(1), 100).unwrap();
        assert!(content(&file) == [7; 3000]);
    }

    #[test]
    fn a_torn_write_leaves_whole_sectors_of_old_and_new() {
        let file = file(&[0; 64 * SECTOR]);
        let mut unsynced = Unsynced::begin(&file).unwrap();
        write(&file, &mut unsynced, 0, &[1; 64 * SECTOR]);
        unsynced.undo(&file).unwrap();
        unsynced.tear(&file, &mut Dice::new(3), 50).unwrap();
        let sectors: Vec<Vec<u8>> = content(&file).chunks(SECTOR).map(<[u8]>::to_vec).collect();
        assert!(sectors.iter().all(|s| *s == [0; SECTOR] || *s == [1; SECTOR]));
        let new = sectors.iter().filter(|s| s[0] == 1).count();
        assert!((10..54).contains(&new), "{new} of 64 sectors survived");
    }
}
