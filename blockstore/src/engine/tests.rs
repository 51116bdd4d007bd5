//! The engine on a real disk: what is committed stays, what is not may go, damage is told.
#![expect(clippy::disallowed_methods, reason = "tests damage real files behind the engine's back")]

use std::{os::unix::fs::FileExt, path::Path};

use futures_util::FutureExt;

use super::*;
use crate::{
    disk::{BLOCK, CHUNK, PAGE},
    message::{Discard, Write, page_sums},
    place::{ChainVersion, Order, chunk_hash},
};

const VOLUME: Volume = Volume(1);

fn on_runtime(test: impl FnOnce(&World, &Path)) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let dir = tempfile::tempdir().unwrap();
    test(&World::real(), dir.path());
}

fn open(world: &World, dir: &Path) -> Engine {
    Engine::open(world, EngineConfig::new(dir.to_owned(), 5, ServerId(1))).unwrap()
}

fn version(order: u64) -> BlockVersion {
    BlockVersion { chain: ChainVersion(1), order: Order(order) }
}

fn write(engine: &Engine, offset: u64, bytes: &[u8], order: u64) {
    let change = Change::Write(Write {
        volume: VOLUME,
        offset,
        durable: false,
        condition: None,
        sums: page_sums(offset, bytes),
        body: bytes.to_vec().into(),
    });
    change.check().unwrap();
    engine.apply(Hashes::ALL, &change, version(order)).unwrap();
}

fn discard(engine: &Engine, offset: u64, length: u64, order: u64) {
    let change = Change::Discard(Discard { volume: VOLUME, offset, length });
    change.check().unwrap();
    engine.apply(Hashes::ALL, &change, version(order)).unwrap();
}

fn commit(engine: &Engine) {
    tokio::runtime::Handle::current().block_on(engine.commit(vec![Hashes::ALL])).unwrap();
}

fn read(engine: &Engine, offset: u64, length: usize) -> Vec<u8> {
    let found = engine.read(VOLUME, offset, u32::try_from(length).unwrap()).unwrap();
    if found.body.is_empty() {
        return vec![0; length];
    }
    assert_eq!(found.sums, page_sums(offset, &found.body));
    found.body.to_vec()
}

fn pattern(length: u64, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 512) as u8 ^ (i as u8).wrapping_mul(31) ^ seed).collect()
}

#[test]
fn what_was_committed_is_there_after_a_crash_and_what_was_not_is_gone() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        assert!(engine.was_clean(), "a new directory has nothing to lose");
        let big = pattern(3 * BLOCK, 1);
        let small = pattern(PAGE, 2);
        write(&engine, 0, &big, 1);
        write(&engine, CHUNK, &small, 2);
        commit(&engine);
        write(&engine, CHUNK, &pattern(PAGE, 9), 3);
        assert_eq!(read(&engine, CHUNK, 4096), pattern(PAGE, 9));
        drop(engine);
        let engine = reopened(world, dir);
        assert!(!engine.was_clean());
        assert_eq!(read(&engine, 0, big.len()), big);
        assert_eq!(read(&engine, CHUNK, 4096), small);
        assert_eq!(read(&engine, 5 * CHUNK, 1024), vec![0; 1024]);
        engine.close(true).unwrap();
        assert!(
            engine.apply(Hashes::ALL, &Change::Discard(Discard::default()), version(9)).is_err()
        );
        drop(engine);
        assert!(reopened(world, dir).was_clean());
        assert!(!reopened(world, dir).was_clean(), "the mark counts once");
    });
}

/// Opens again as soon as the thread of the engine that was dropped has let the directory go.
fn reopened(world: &World, dir: &Path) -> Engine {
    for _ in 0..200 {
        match Engine::open(world, EngineConfig::new(dir.to_owned(), 5, ServerId(1))) {
            Ok(engine) => return engine,
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    open(world, dir)
}

#[test]
fn sectors_are_merged_with_the_page_below_them_wherever_it_is() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        let mut expected = pattern(BLOCK, 3);
        write(&engine, 0, &expected, 1);
        commit(&engine);
        for (order, at) in [(2, 512), (3, 5000 / 512 * 512), (4, 65024)] {
            let bytes = pattern(512, u8::try_from(order).unwrap());
            write(&engine, at, &bytes, order);
            expected[usize::try_from(at).unwrap()..][..512].copy_from_slice(&bytes);
            assert_eq!(read(&engine, 0, 65536), expected, "before the commit of {order}");
            commit(&engine);
            assert_eq!(read(&engine, 0, 65536), expected, "after the commit of {order}");
        }
        assert_eq!(read(&engine, 512, 1024), expected[512..1536]);
        write(&engine, CHUNK + 1024, &[7; 512], 5);
        commit(&engine);
        let page = read(&engine, CHUNK, 4096);
        assert_eq!(page[1024..1536], [7; 512]);
        assert_eq!(page[..1024], [0; 1024]);
    });
}

#[test]
fn small_writes_ride_in_the_batch_and_are_folded_into_slots_later() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        let pages = 1500_u64;
        for page in 0..pages {
            write(&engine, page * PAGE, &pattern(PAGE, page as u8), page + 1);
            if page % 3 == 2 {
                drop(engine.commit(vec![Hashes::ALL]));
            }
        }
        commit(&engine);
        let folded = (0..500).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            engine.usage().slots > 60
        });
        assert!(folded, "idle time folds patches: {:?}", engine.usage());
        for page in 0..pages {
            assert_eq!(read(&engine, page * PAGE, 4096), pattern(PAGE, page as u8), "page {page}");
        }
        drop(engine);
        let engine = reopened(world, dir);
        for page in 0..pages {
            assert_eq!(read(&engine, page * PAGE, 4096), pattern(PAGE, page as u8), "page {page}");
        }
    });
}

#[test]
fn a_discard_reads_as_zeros_and_gives_the_slots_back() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        let bytes = pattern(200 * BLOCK, 4);
        for (index, part) in bytes.chunks(1 << 20).enumerate() {
            write(&engine, (index as u64) << 20, part, 1 + index as u64);
        }
        commit(&engine);
        assert_eq!(engine.usage().slots, 200);
        discard(&engine, PAGE, 100 * BLOCK, 100);
        write(&engine, 50 * BLOCK, &pattern(PAGE, 77), 101);
        discard(&engine, 110 * BLOCK + PAGE, 2 * PAGE, 102);
        for round in 0..2 {
            assert_eq!(read(&engine, 0, 4096), bytes[..4096], "round {round}");
            assert_eq!(read(&engine, PAGE, 8192), vec![0; 8192]);
            assert_eq!(read(&engine, 50 * BLOCK, 4096), pattern(PAGE, 77));
            assert_eq!(read(&engine, 50 * BLOCK + PAGE, 4096), vec![0; 4096]);
            let at = usize::try_from(110 * BLOCK).unwrap();
            assert_eq!(read(&engine, 110 * BLOCK, 4096), bytes[at..at + 4096]);
            assert_eq!(read(&engine, 110 * BLOCK + PAGE, 8192), vec![0; 8192]);
            commit(&engine);
        }
        assert_eq!(engine.usage().slots, 101, "99 whole blocks are gone, one has a patch only");
        let (blocks, more) = engine.list(Hashes::ALL, None, 1000).unwrap();
        assert!(!more);
        assert_eq!(blocks.len(), 102);
        discard(&engine, 0, 1 << 40, 103);
        commit(&engine);
        assert_eq!(engine.usage().slots, 0);
        assert!(engine.list(Hashes::ALL, None, 10).unwrap().0.is_empty());
    });
}

/// Found by cutting the power of an engine: the pages that the sweep took came back with the commit.
#[test]
fn what_a_sweep_took_stays_gone_when_a_page_of_the_block_is_discarded_after_it() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        write(&engine, 0, &pattern(BLOCK, 4), 1);
        commit(&engine);
        discard(&engine, 0, 100 * BLOCK, 2);
        discard(&engine, 3 * PAGE, PAGE, 3);
        commit(&engine);
        assert_eq!(read(&engine, 0, 4096), vec![0; 4096]);
        assert_eq!(engine.usage().slots, 0);
    });
}

#[test]
fn a_damaged_page_is_told_and_the_others_are_still_read() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        let bytes = pattern(BLOCK, 5);
        write(&engine, 0, &bytes, 1);
        commit(&engine);
        let file = std::fs::OpenOptions::new().write(true).open(dir.join("extents/00000000"));
        file.unwrap().write_all_at(b"rot", 5 * PAGE + 9).unwrap();
        let told = engine.read(VOLUME, 0, 65536);
        assert_eq!(told, Err(StoreError::Damaged { offset: 5 * PAGE }));
        assert_eq!(read(&engine, 0, 5 * 4096), bytes[..5 * 4096]);
        // A sector over it, or a move of the block, does not make it good.
        write(&engine, 5 * PAGE, &[1; 512], 2);
        commit(&engine);
        assert!(engine.read(VOLUME, 5 * PAGE, 4096).is_err());
        for page in 8..14 {
            write(&engine, page * PAGE, &pattern(PAGE, 6), 3 + page);
        }
        commit(&engine);
        assert!(engine.read(VOLUME, 5 * PAGE, 4096).is_err());
        write(&engine, 5 * PAGE, &pattern(PAGE, 8), 50);
        commit(&engine);
        assert_eq!(read(&engine, 5 * PAGE, 4096), pattern(PAGE, 8));
    });
}

#[test]
fn a_block_is_fetched_and_installed_with_its_version() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        write(&engine, 2 * PAGE, &pattern(3 * PAGE, 6), 7);
        let id = BlockId::holding(VOLUME, 0);
        let content = engine.fetch(id).unwrap();
        assert_eq!((content.version, content.pages), (version(7), 0b11100));
        assert!(content.check());
        let other = BlockId { volume: VOLUME, block: 9 };
        write(&engine, other.start(), &pattern(BLOCK, 1), 3);
        commit(&engine);
        engine.install(other, &content).unwrap();
        for _ in 0..2 {
            assert_eq!(engine.fetch(other).unwrap(), content);
            commit(&engine);
        }
        let group = chunk_hash(VOLUME, 0);
        let scope = Hashes { first: group, last: group };
        let (first, more) = engine.list(scope, None, 1).unwrap();
        assert_eq!((first, more), (vec![(id, version(7))], true));
        let (rest, more) = engine.list(scope, Some(id), 5).unwrap();
        assert_eq!((rest, more), (vec![(other, version(7))], false));
    });
}

#[test]
fn a_directory_of_another_owner_is_refused_with_a_sentence() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        let again = Engine::open(world, EngineConfig::new(dir.to_owned(), 5, ServerId(1)));
        let Err(StoreError::Unusable(told)) = again else { panic!("it is in use") };
        assert!(told.contains("in use"), "{told}");
        drop(engine);
        drop(reopened(world, dir));
        for (cluster, server, word) in [(6, 1, "cluster"), (5, 2, "block server")] {
            let mut told = String::new();
            for _ in 0..200 {
                let config = EngineConfig::new(dir.to_owned(), cluster, ServerId(server));
                let Err(error) = Engine::open(world, config) else { panic!("not its directory") };
                told = error.to_string();
                if !told.contains("in use") {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            assert!(told.contains(word) && told.contains("belongs"), "{told}");
        }
    });
}

#[test]
fn a_commit_of_nothing_is_done_at_once_and_costs_no_sync() {
    on_runtime(|world, dir| {
        let engine = open(world, dir);
        commit(&engine);
        assert_eq!(engine.commits(), 0);
        assert!(engine.room().now_or_never().is_some());
    });
}
