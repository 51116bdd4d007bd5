//! A thousand flipped bits in the extent files of running servers: every one is detected, no bad
//! byte is returned, and all are repaired from the other members.

#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]

use std::{collections::BTreeMap, fs, os::unix::fs::FileExt, path::Path};

use super::harness::{Cluster, VOLUME, pattern};
use crate::{
    disk::{BLOCK, PAGE},
    message::{Freshness, Refusal, Reply, Request},
};

const BLOCKS: u64 = 64;
const PAGES: u64 = BLOCKS * (BLOCK / PAGE);
const ROUNDS: u64 = 10;
const FLIPS: u64 = 100;

/// A page that no other is like.
fn page(number: u64) -> Vec<u8> {
    let mut bytes = pattern(PAGE, number as u8);
    bytes[..8].copy_from_slice(&(number + 1).to_le_bytes());
    bytes
}

/// Flips a bit in every copy of these pages in a server's extent files; returns how many.
fn flip(dir: &Path, server: u64, pages: &BTreeMap<Vec<u8>, u64>, bit: u64) -> usize {
    let mut flipped = 0;
    for entry in fs::read_dir(dir.join(server.to_string()).join("extents")).unwrap() {
        let file = fs::File::options().read(true).write(true).open(entry.unwrap().path()).unwrap();
        let length = file.metadata().unwrap().len();
        let mut bytes = vec![0; PAGE as usize];
        for at in (0..length).step_by(PAGE as usize) {
            file.read_exact_at(&mut bytes, at).unwrap();
            if pages.contains_key(&bytes) {
                let place = bit % (PAGE * 8);
                bytes[(place / 8) as usize] ^= 1 << (place % 8);
                file.write_all_at(&bytes, at).unwrap();
                flipped += 1;
            }
        }
    }
    flipped
}

/// What a member answers for a page: its bytes, or `None` where it refuses for damage.
async fn read(cluster: &Cluster, place: usize, number: u64) -> Option<Vec<u8>> {
    let offset = number * PAGE;
    let request = Request::Read {
        group: cluster.group(offset),
        chain: cluster.chain(offset),
        volume: VOLUME,
        offset,
        length: PAGE as u32,
        freshness: Freshness::Strong,
    };
    match cluster.call(place, offset, request).await {
        Reply::Data { body, .. } => Some(body.to_vec()),
        Reply::Refused(Refusal::Damaged { .. }) => None,
        other => panic!("page {number}: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_flipped_bits_are_all_detected_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_on(Some(dir.path().to_owned())).await;
    for block in 0..BLOCKS {
        let pages = BLOCK / PAGE;
        let bytes: Vec<u8> = (0..pages).flat_map(|index| page(block * pages + index)).collect();
        let done = cluster.write(block + 1, block * BLOCK, &bytes, true).await;
        assert!(matches!(done, Reply::Done { .. }), "{done:?}");
    }
    let mut damaged = 0;
    for round in 0..ROUNDS {
        let server = round % 3 + 1;
        let place = (0..3).find(|place| cluster.member(*place, 0) == server).unwrap();
        let chosen: BTreeMap<Vec<u8>, u64> = (0..FLIPS)
            .map(|index| (index * 37 + round * 101) % PAGES)
            .map(|number| (page(number), number))
            .collect();
        let bit = round * 7919 + 3;
        assert!(flip(dir.path(), server, &chosen, bit) >= chosen.len(), "every page has a copy");
        for number in chosen.values() {
            let mut tries = 0;
            loop {
                match read(&cluster, place, *number).await {
                    Some(bytes) => {
                        assert_eq!(bytes, page(*number), "a bad byte was returned");
                        break;
                    }
                    None => damaged += u64::from(tries == 0),
                }
                tries += 1;
                assert!(tries < 500, "page {number} of server {server} is never repaired");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        for number in 0..PAGES {
            assert_eq!(read(&cluster, place, number).await, Some(page(number)));
        }
    }
    // Neighbours in a block are repaired together, often before they are asked for.
    assert!(damaged >= ROUNDS * BLOCKS / 2, "only {damaged} damages were seen");
}
