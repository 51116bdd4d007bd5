//! Slots of 64 KiB in extent files: which are free, and their bytes. A slot that a commit frees is
//! taken again only after the commit, and after every read that may still look at it. What is in a
//! slot is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::RwLock;
use world::{File, OpenMode, World};

use super::rows::{Slot, UNIT_SLOTS};
use crate::disk::BLOCK;

/// Units of one extent file: 1 GiB.
const FILE_UNITS: u64 = 64;
const FILE_SLOTS: u64 = FILE_UNITS * UNIT_SLOTS;

/// The extent files, by number. Shared by readers and the committer.
pub(crate) struct Files {
    world: World,
    dir: PathBuf,
    open: RwLock<BTreeMap<u64, Arc<dyn File>>>,
}

impl Files {
    pub(crate) fn open(world: &World, dir: &Path) -> io::Result<Self> {
        world.disk.create_dir_all(dir)?;
        Ok(Self { world: world.clone(), dir: dir.to_owned(), open: RwLock::default() })
    }

    fn file(&self, number: u64) -> io::Result<Arc<dyn File>> {
        if let Some(file) = self.open.read().get(&number) {
            return Ok(Arc::clone(file));
        }
        let mut open = self.open.write();
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let path = self.dir.join(format!("{number:08}"));
        let new = !self.world.disk.exists(&path);
        let file = self.world.disk.open(&path, OpenMode::Create)?;
        if new {
            self.world.disk.sync_dir(&self.dir)?;
        }
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Fills `buffer` from `within` of a slot.
    pub(crate) fn read(&self, slot: Slot, within: u64, buffer: &mut [u8]) -> io::Result<()> {
        let file = self.file(slot.0 / FILE_SLOTS)?;
        file.read_exact_at(buffer, slot.0 % FILE_SLOTS * BLOCK + within)
    }

    /// Writes whole slots that follow each other, from `slot` on, within one file.
    pub(crate) fn write(&self, slot: Slot, bytes: &[u8]) -> io::Result<()> {
        let file = self.file(slot.0 / FILE_SLOTS)?;
        file.write_all_at(bytes, slot.0 % FILE_SLOTS * BLOCK)
    }

    /// The number of the file of a slot.
    pub(crate) fn number(slot: Slot) -> u64 {
        slot.0 / FILE_SLOTS
    }

    pub(crate) fn sync(&self, number: u64) -> io::Result<()> {
        self.file(number)?.sync()
    }

    fn grow(&self, unit: u32) -> io::Result<()> {
        let unit = u64::from(unit);
        let file = self.file(unit / FILE_UNITS)?;
        file.allocate(unit % FILE_UNITS * UNIT_SLOTS * BLOCK, UNIT_SLOTS * BLOCK)
    }
}

/// Which slots are taken. Used by the committer alone.
pub(crate) struct Slots {
    units: Vec<[u64; 4]>,
    /// Units with a free slot.
    open: BTreeSet<u32>,
    /// Units whose bitmap row must be written.
    touched: BTreeSet<u32>,
    freed: Vec<Slot>,
    used: u64,
}

impl Slots {
    /// From the bitmap rows.
    pub(crate) fn new(rows: BTreeMap<u32, [u64; 4]>) -> Self {
        let count = rows.keys().next_back().map_or(0, |last| *last as usize + 1);
        let mut units = vec![[0; 4]; count];
        let mut open: BTreeSet<u32> = rows_range(count).collect();
        let mut used = 0;
        for (unit, bits) in rows {
            used += bits.iter().map(|word| u64::from(word.count_ones())).sum::<u64>();
            if bits.iter().all(|word| *word == u64::MAX) {
                open.remove(&unit);
            }
            units[unit as usize] = bits;
        }
        Self { units, open, touched: BTreeSet::new(), freed: Vec::new(), used }
    }

    /// Takes a free slot, growing an extent file if there is none.
    pub(crate) fn take(&mut self, files: &Files) -> io::Result<Slot> {
        let unit = match self.open.first() {
            Some(unit) => *unit,
            None => {
                let unit = u32::try_from(self.units.len()).map_err(io::Error::other)?;
                files.grow(unit)?;
                self.units.push([0; 4]);
                self.open.insert(unit);
                unit
            }
        };
        let bits = &mut self.units[unit as usize];
        let word = bits.iter().position(|word| *word != u64::MAX).expect("an open unit has room");
        let bit = bits[word].trailing_ones();
        bits[word] |= 1 << bit;
        if bits.iter().all(|word| *word == u64::MAX) {
            self.open.remove(&unit);
        }
        self.touched.insert(unit);
        self.used += 1;
        Ok(Slot(u64::from(unit) * UNIT_SLOTS + word as u64 * 64 + u64::from(bit)))
    }

    /// Frees a slot with the next commit; nobody takes it before [`Slots::release`].
    pub(crate) fn free(&mut self, slot: Slot) {
        self.touched.insert(unit_of(slot));
        self.freed.push(slot);
    }

    /// The bitmaps that the commit must write: as they are once the freed slots are free.
    pub(crate) fn rows(&mut self) -> Vec<(u32, [u64; 4])> {
        let mut rows: BTreeMap<u32, [u64; 4]> = std::mem::take(&mut self.touched)
            .into_iter()
            .map(|unit| (unit, self.units[unit as usize]))
            .collect();
        for slot in &self.freed {
            if let Some(bits) = rows.get_mut(&unit_of(*slot)) {
                let (word, bit) = place(*slot);
                bits[word] &= !(1 << bit);
            }
        }
        rows.into_iter().collect()
    }

    /// After the commit, when no read looks at the freed slots any more: they can be taken.
    pub(crate) fn release(&mut self) {
        for slot in std::mem::take(&mut self.freed) {
            let (word, bit) = place(slot);
            let unit = unit_of(slot);
            self.units[unit as usize][word] &= !(1 << bit);
            self.open.insert(unit);
            self.used -= 1;
        }
    }

    /// How many slots are taken.
    pub(crate) fn used(&self) -> u64 {
        self.used
    }

    /// How many slots there are.
    pub(crate) fn count(&self) -> u64 {
        self.units.len() as u64 * UNIT_SLOTS
    }
}

fn rows_range(count: usize) -> std::ops::Range<u32> {
    0..u32::try_from(count).unwrap_or(u32::MAX)
}

fn unit_of(slot: Slot) -> u32 {
    u32::try_from(slot.0 / UNIT_SLOTS).expect("a unit has 32 bits")
}

fn place(slot: Slot) -> (usize, u32) {
    let within = slot.0 % UNIT_SLOTS;
    (usize::try_from(within / 64).expect("less than four"), (within % 64) as u32)
}
