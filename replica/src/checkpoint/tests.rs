//! What checkpoint files promise, on the real disk.
#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]

use std::fs;

use raft::MemberId;
use wire::{ClusterId, NodeId};
use world::World;

use super::*;

fn files(dir: &Path) -> Files {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let owner = Owner { cluster: ClusterId(9), node: NodeId(1) };
    Files::new(&World::real().disk, dir, owner, GroupId(3))
}

fn configuration() -> Arc<Configuration> {
    Arc::new(Configuration::of(vec![MemberId(3), MemberId(1), MemberId(2)]))
}

fn at(index: u64) -> Position {
    Position { index: Index(index), term: Term(2) }
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

fn make(files: &Files, index: u64, length: usize) -> Checkpoint {
    files.make(at(index), configuration(), |out| out.write_all(&bytes(length))).unwrap()
}

fn whole(files: &Files) -> Vec<u8> {
    let mut out = Vec::new();
    files.read().unwrap().read_to_end(&mut out).unwrap();
    out
}

fn chunks(from: &Files, checkpoint: &Checkpoint, size: u64) -> Vec<Chunk> {
    let offsets = (0..checkpoint.size).step_by(size as usize);
    offsets.map(|offset| from.piece(checkpoint, offset, size).unwrap().unwrap()).collect()
}

#[test]
fn a_checkpoint_is_found_after_a_restart_and_an_older_one_does_not_replace_it() {
    let dir = tempfile::tempdir().unwrap();
    let one = files(dir.path());
    assert_eq!(one.find(), Ok(None));
    let made = make(&one, 10, 1_000_000);
    assert_eq!((made.last, made.size), (at(10), 1_000_000));
    make(&one, 9, 5);
    let two = files(dir.path());
    assert_eq!(two.find(), Ok(Some(made)));
    assert!(whole(&two) == bytes(1_000_000));
}

#[test]
fn every_damaged_byte_is_noticed_and_named() {
    let dir = tempfile::tempdir().unwrap();
    make(&files(dir.path()), 10, 700_000);
    let path = dir.path().join("group-3-checkpoint");
    let sound = fs::read(&path).unwrap();
    for at in [0, 9, 13, 20, 50, 90, 500, 1024, 300_000, sound.len() - 1] {
        let mut bytes = sound.clone();
        bytes[at] ^= 4;
        fs::write(&path, bytes).unwrap();
        let error = files(dir.path()).find().unwrap_err().to_string();
        assert!(error.contains("group-3-checkpoint is damaged"), "byte {at}: {error}");
    }
    fs::write(&path, &sound[..sound.len() - 1]).unwrap();
    assert!(files(dir.path()).find().is_err(), "a short one");
    files(dir.path()).set_aside().unwrap();
    assert_eq!(files(dir.path()).find(), Ok(None));
}

#[test]
fn a_received_checkpoint_goes_on_after_a_restart_and_is_put_in_use_whole() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = files(here.path());
    let checkpoint = make(&sender, 10, 1_000_000);
    let chunks = chunks(&sender, &checkpoint, 300_000);
    let receiver = files(there.path());
    make(&receiver, 4, 10);
    assert_eq!(receiver.receive(&chunks[..2]), Ok(true));
    drop(receiver);
    let receiver = files(there.path());
    assert_eq!(receiver.find().unwrap().unwrap().last, at(4), "the old one is still in use");
    assert_eq!(receiver.find_incoming(), Some((checkpoint.clone(), 600_000)));
    assert_eq!(receiver.receive(&chunks[2..]), Ok(true));
    receiver.install(&checkpoint).unwrap();
    let receiver = files(there.path());
    assert_eq!(receiver.find(), Ok(Some(checkpoint)));
    assert!(whole(&receiver) == bytes(1_000_000));
    assert_eq!(receiver.find_incoming(), None);
}

#[test]
fn a_received_checkpoint_with_a_wrong_byte_is_not_put_in_use() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = files(here.path());
    let checkpoint = make(&sender, 10, 1_000_000);
    let mut chunks = chunks(&sender, &checkpoint, 300_000);
    let mut wrong = chunks[1].data.to_vec();
    wrong[77] ^= 1;
    chunks[1].data = wrong.into();
    let receiver = files(there.path());
    assert_eq!(receiver.receive(&chunks[..3]), Ok(true));
    assert_eq!(receiver.receive(&chunks[3..]), Ok(false), "the last chunk shows it");
}

#[test]
fn a_checkpoint_takes_the_place_of_one_of_the_same_index_that_was_set_aside() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let sender = files(here.path());
    let checkpoint = make(&sender, 10, 1000);
    let receiver = files(there.path());
    make(&receiver, 10, 500);
    receiver.set_aside().unwrap();
    assert_eq!(receiver.receive(&chunks(&sender, &checkpoint, 300)), Ok(true));
    receiver.install(&checkpoint).unwrap();
    assert_eq!(files(there.path()).find(), Ok(Some(checkpoint)));
}

#[test]
fn pieces_of_a_replaced_checkpoint_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let files = files(dir.path());
    let old = make(&files, 10, 1000);
    assert_eq!(files.piece(&old, 500, 9999).unwrap().unwrap().data, bytes(1000)[500..]);
    make(&files, 20, 1000);
    assert!(files.piece(&old, 0, 100).unwrap().is_some(), "perhaps not yet known to be old");
    let new = make(&files, 30, 1000);
    assert_eq!(files.piece(&old, 0, 100), Ok(None));
    assert_eq!(files.piece(&new, 0, 100).unwrap().unwrap().data, bytes(1000)[..100]);
}
