//! The storage engine of a block server on a disk that loses power in the middle of any operation, and on one whose bits
//! rot: nothing that was committed is lost, no page is torn, no bad byte is returned.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use blockstore::{
    BLOCK, PAGE,
    engine::{Drive, Engine, EngineConfig},
    map::MAIN,
    message::{Change, Discard, Write, page_sums},
    place::{BlockId, BlockVersion, ChainVersion, Order, ServerId},
    store::{Hashes, Store, StoreError},
};
use futures_util::FutureExt;
use sim::{
    dice::Dice,
    disk::SimDisk,
    executor::{Executor, Pace},
};
use world::World;

/// Pages that the workload touches: those of the first blocks.
const BLOCKS: u64 = 6;
/// Operations of the workload.
const OPERATIONS: usize = 500;

/// A machine with such a disk.
struct Machine {
    disk: SimDisk,
    world: World,
}

impl Machine {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(Dice::new(seed), 1 << 30);
        let still = Pace { offset: Duration::from_secs(1), fast: 0 };
        let (_, world) = Executor::new(Dice::new(seed)).machine(still);
        Self { world: World { disk: Arc::new(disk.clone()), ..world }, disk }
    }

    fn open(&self) -> Result<Engine, StoreError> {
        let config = EngineConfig {
            fold: 2,
            dirty_limit: 256 << 10,
            ..EngineConfig::new(PathBuf::from("/data"), 7, ServerId(1))
        };
        let index = |path: &std::path::Path| {
            self.disk_dir(path);
            Ok(self.disk.index())
        };
        Engine::over(&self.world, config, index, Drive::Stepped)
    }

    fn disk_dir(&self, path: &std::path::Path) {
        self.world.disk.create_dir_all(path).expect("a directory in memory");
    }
}

/// What each page was since the last commit; first, what it was then.
#[derive(Default)]
struct Model(BTreeMap<u64, Vec<Vec<u8>>>);

impl Model {
    fn states(&mut self, page: u64) -> &mut Vec<Vec<u8>> {
        self.0.entry(page).or_insert_with(|| vec![vec![0; PAGE as usize]])
    }

    fn change(&mut self, page: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let states = self.states(page);
        let mut next = states.last().expect("there is a first").clone();
        change(&mut next);
        states.push(next);
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Write(write) => {
                let mut at = write.offset;
                let mut rest = &write.body[..];
                while !rest.is_empty() {
                    let within = (at % PAGE) as usize;
                    let (part, later) = rest.split_at(rest.len().min(PAGE as usize - within));
                    self.change(at - at % PAGE, |page| {
                        page[within..within + part.len()].copy_from_slice(part);
                    });
                    at += part.len() as u64;
                    rest = later;
                }
            }
            Change::Discard(discard) => {
                let last = discard.offset + (discard.length - 1);
                for page in (0..BLOCKS * BLOCK / PAGE).map(|page| page * PAGE) {
                    if discard.offset <= page && page <= last {
                        self.change(page, |page| page.fill(0));
                    }
                }
            }
        }
    }

    fn committed(&mut self) {
        for states in self.0.values_mut() {
            states.drain(..states.len() - 1);
        }
    }
}

/// A change of the workload; none is a commit.
fn change(dice: &mut Dice, number: u64) -> Option<Change> {
    let kind = dice.between(0, 100);
    let page = dice.between(0, BLOCKS * 16) * PAGE;
    let (offset, length) = match kind {
        0..35 => {
            let sector = dice.between(0, 8);
            (page + sector * 512, dice.between(1, 9 - sector) * 512)
        }
        35..50 => (page, PAGE),
        50..60 => (page / BLOCK * BLOCK, dice.between(5, 17) * PAGE),
        60..66 => {
            let discard =
                Discard { volume: MAIN, offset: page, length: dice.between(1, 20) * PAGE };
            return Some(Change::Discard(discard));
        }
        66..68 => {
            let discard = Discard { volume: MAIN, offset: page, length: 100 * BLOCK };
            return Some(Change::Discard(discard));
        }
        _ => return None,
    };
    let body: Vec<u8> = (0..length).map(|at| (number as u8) ^ (at / 512) as u8).collect();
    Some(Change::Write(Write {
        volume: MAIN,
        offset,
        durable: false,
        condition: None,
        sums: page_sums(offset, &body),
        body: body.into(),
    }))
}

fn version(order: u64) -> BlockVersion {
    BlockVersion { chain: ChainVersion(1), order: Order(order) }
}

fn commit(engine: &Engine) -> Result<(), StoreError> {
    engine.commit(vec![Hashes::ALL]).now_or_never().expect("the committer runs in place")
}

/// Runs the workload until its end, or until power goes.
fn work(machine: &Machine, model: &mut Model) -> Result<(), StoreError> {
    let engine = machine.open()?;
    let mut dice = Dice::new(77);
    for number in 1..=OPERATIONS as u64 {
        match change(&mut dice, number) {
            Some(change) => {
                // It may reach the disk even if that fails in the middle.
                model.apply(&change);
                engine.apply(Hashes::ALL, &change, version(number))?;
            }
            None => {
                commit(&engine)?;
                model.committed();
            }
        }
    }
    Ok(())
}

fn page_of(engine: &Engine, at: u64) -> Result<Vec<u8>, StoreError> {
    let found = engine.read(MAIN, at, PAGE as u32)?;
    Ok(if found.body.is_empty() { vec![0; PAGE as usize] } else { found.body.to_vec() })
}

#[test]
fn power_cut_at_every_write_and_sync_loses_nothing_committed_and_tears_no_page() {
    let whole = Machine::new(1);
    work(&whole, &mut Model::default()).unwrap();
    let all = whole.disk.operations();
    assert!(all > 200, "the workload hardly touches the disk: {all} operations");
    let (mut torn, mut kept) = (0, 0);
    for cut in 0..all {
        let machine = Machine::new(cut);
        let mut model = Model::default();
        machine.disk.cut_after(cut);
        let ended = work(&machine, &mut model);
        assert!(ended.is_err() && machine.disk.is_dead(), "power went at operation {cut}");
        let loss = machine.disk.lose_power([0, 50, 100][cut as usize % 3]);
        torn += u64::from(loss.is_torn());
        kept += u64::from(loss.kept > 0);
        let engine = machine.open().unwrap_or_else(|error| panic!("after a cut at {cut}: {error}"));
        for (at, states) in &model.0 {
            let found = page_of(&engine, *at).unwrap_or_else(|e| panic!("cut at {cut}: {e}"));
            assert!(states.contains(&found), "cut at {cut}: the page at {at} is none that it was");
        }
        // It goes on from there.
        let again = change(&mut Dice::new(4), 9).unwrap();
        engine.apply(Hashes::ALL, &again, version(1 << 20)).unwrap();
        commit(&engine).unwrap();
    }
    assert!(torn > 15 && kept > 30, "{torn} cuts tore writes, {kept} kept some");
}

#[test]
fn a_thousand_flipped_bits_are_detected_repaired_and_never_returned() {
    let (machine, twin) = (Machine::new(5), Machine::new(6));
    let (engine, good) = (machine.open().unwrap(), twin.open().unwrap());
    let body: Vec<u8> = (0..BLOCKS * BLOCK).map(|at| (at / 512 + at) as u8).collect();
    for one in [&engine, &good] {
        for (number, part) in body.chunks(BLOCK as usize).enumerate() {
            let offset = number as u64 * BLOCK;
            let (volume, sums) = (MAIN, page_sums(offset, part));
            let body = part.to_vec().into();
            let write = Write { volume, offset, durable: false, condition: None, sums, body };
            one.apply(Hashes::ALL, &Change::Write(write), version(1)).unwrap();
        }
        commit(one).unwrap();
    }
    let (mut detected, mut idle) = (0, 0);
    for flip in 0..1000 {
        machine.disk.rot(std::path::Path::new("/data/extents")).unwrap();
        let mut damaged = Vec::new();
        for page in (0..BLOCKS * 16).map(|page| page * PAGE) {
            match page_of(&engine, page) {
                Ok(found) => {
                    let expected = &body[page as usize..(page + PAGE) as usize];
                    assert!(found == expected, "flip {flip}: bad bytes in the page at {page}");
                }
                Err(StoreError::Damaged { offset }) => {
                    assert_eq!(offset, page, "flip {flip}");
                    damaged.push(page);
                }
                Err(other) => panic!("flip {flip}: {other}"),
            }
        }
        match damaged[..] {
            // The bit was in a slot that nothing uses any more.
            [] => idle += 1,
            [page] => {
                detected += 1;
                let block = BlockId::holding(MAIN, page);
                let lost = engine.fetch(block).unwrap().lost;
                assert_eq!(lost, 1 << (page % BLOCK / PAGE), "flip {flip}");
                engine.install(block, &good.fetch(block).unwrap()).unwrap();
                commit(&engine).unwrap();
            }
            _ => panic!("flip {flip}: one bit damaged {} pages", damaged.len()),
        }
    }
    assert_eq!(detected + idle, 1000);
    assert!(detected > 500, "only {detected} of 1,000 bits were in use");
}
