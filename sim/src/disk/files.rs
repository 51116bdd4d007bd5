//! The content of a file on a disk that can lose power: its sectors as they are, and as they were at the last sync where
//! that differs. Sparse. Names, and when power goes, are not known here.

use std::{collections::BTreeMap, io};

use super::Loss;

/// Bytes that a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;

/// A sector.
pub(super) type Bytes512 = [u8; SECTOR];

/// A file.
#[derive(Default)]
pub(super) struct Content {
    size: u64,
    stable_size: u64,
    allocated: u64,
    sectors: BTreeMap<u64, Bytes512>,
    /// Sectors that changed since the last sync, as they were then; none: not there.
    before: BTreeMap<u64, Option<Bytes512>>,
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn allocated(&self) -> u64 {
        self.allocated.max(self.size)
    }

    pub(super) fn allocate(&mut self, end: u64) {
        self.allocated = self.allocated.max(end);
        self.size = self.size.max(end);
    }

    /// How many sectors hold something.
    pub(super) fn sectors(&self) -> usize {
        self.sectors.len()
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + buffer.len() as u64 > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let (unit, end) = (SECTOR as u64, offset + buffer.len() as u64);
        for (number, sector) in self.sectors.range(offset / unit..end.div_ceil(unit)) {
            let start = number * unit;
            let (from, to) = (start.max(offset), (start + unit).min(end));
            let part = &sector[(from - start) as usize..(to - start) as usize];
            buffer[(from - offset) as usize..(to - offset) as usize].copy_from_slice(part);
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let (number, within) = (at / SECTOR as u64, (at % SECTOR as u64) as usize);
            let (part, later) = rest.split_at((SECTOR - within).min(rest.len()));
            let old = self.sectors.get(&number).copied();
            self.before.entry(number).or_insert(old);
            let mut sector = old.unwrap_or([0; SECTOR]);
            sector[within..within + part.len()].copy_from_slice(part);
            self.sectors.insert(number, sector);
            at += part.len() as u64;
            rest = later;
        }
        self.size = self.size.max(at);
    }

    pub(super) fn set_size(&mut self, size: u64) {
        for (number, sector) in self.sectors.split_off(&size.div_ceil(SECTOR as u64)) {
            self.before.entry(number).or_insert(Some(sector));
        }
        let rest = (size % SECTOR as u64) as usize;
        if rest > 0
            && let Some(sector) = self.sectors.get_mut(&(size / SECTOR as u64))
        {
            self.before.entry(size / SECTOR as u64).or_insert(Some(*sector));
            sector[rest..].fill(0);
        }
        self.size = size;
    }

    /// All of it is on stable storage.
    pub(super) fn save(&mut self) {
        self.before.clear();
        self.stable_size = self.size;
    }

    /// Power goes: each sector that was not synced is kept, as `keep` says, or is what it was.
    pub(super) fn lose(&mut self, keep: &mut impl FnMut() -> bool, loss: &mut Loss) {
        for (number, old) in std::mem::take(&mut self.before) {
            if keep() {
                loss.kept += 1;
                continue;
            }
            loss.lost += 1;
            match old {
                Some(old) => self.sectors.insert(number, old),
                None => self.sectors.remove(&number),
            };
        }
        if !keep() {
            self.size = self.stable_size;
            drop(self.sectors.split_off(&self.size.div_ceil(SECTOR as u64)));
        }
        self.stable_size = self.size;
        self.allocated = self.size;
    }

    /// Flips a bit of the sector at this place among those that hold something; its number.
    pub(super) fn flip(&mut self, place: usize, byte: usize, bit: usize) -> Option<u64> {
        let (number, sector) = self.sectors.iter_mut().nth(place)?;
        sector[byte] ^= 1 << bit;
        Some(*number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(file: &Content) -> Vec<u8> {
        let mut bytes = vec![0; file.size() as usize];
        file.read(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn what_was_synced_is_there_after_power_went_and_the_rest_as_the_dice_say() {
        let mut file = Content::default();
        file.write(&[1; 3000], 100);
        let synced = content(&file);
        file.save();
        file.write(&[2; 2000], 1000);
        file.set_size(5000);
        let mut loss = Loss::default();
        file.lose(&mut || false, &mut loss);
        assert_eq!(content(&file), synced);
        assert_eq!((loss.kept, loss.lost), (0, 5));
        file.write(&[3; 512], 512);
        file.lose(&mut || true, &mut loss);
        assert_eq!(content(&file)[512..1024], [3; 512]);
    }

    #[test]
    fn a_torn_write_leaves_whole_sectors_of_old_and_new() {
        let mut file = Content::default();
        file.write(&[1; 64 * SECTOR], 0);
        file.save();
        file.write(&[2; 64 * SECTOR], 0);
        let mut turn = 0;
        let mut every_third = || {
            turn += 1;
            turn % 3 == 0
        };
        let mut loss = Loss::default();
        file.lose(&mut every_third, &mut loss);
        assert!(loss.is_torn());
        let sectors = content(&file);
        assert!(sectors.chunks(SECTOR).all(|s| s == [1; SECTOR] || s == [2; SECTOR]));
    }
}
