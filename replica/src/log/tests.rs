//! What the log promises about crashes, on the real disk.
#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]

use std::fs;

use bytes::Bytes;
use raft::{Checkpoint, MemberId, Payload, Term};
use world::World;

use super::*;

fn owner() -> Owner {
    Owner { cluster: ClusterId(9), node: NodeId(1) }
}

fn disk() -> Arc<dyn Disk> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    World::real().disk
}

fn entry(index: u64, term: u64) -> Entry {
    let payload = Payload::Command(Bytes::from(vec![index as u8; 100]));
    Entry { index: Index(index), term: Term(term), payload }
}

fn entries(range: std::ops::RangeInclusive<u64>, term: u64) -> Persist {
    Persist { entries: range.map(|index| entry(index, term)).collect(), ..Persist::default() }
}

const GROUP: GroupId = GroupId(2);
const OTHER: GroupId = GroupId(3);

fn open_all(dir: &Path) -> Result<(Log, BTreeMap<GroupId, Recovered>), Error> {
    Log::open(&disk(), dir, owner())
}

fn open(dir: &Path) -> Result<(Log, Recovered), Error> {
    let (log, mut groups) = open_all(dir)?;
    Ok((log, groups.remove(&GROUP).unwrap_or_default()))
}

fn append(log: &mut Log, persists: &[Persist]) {
    log.append(persists.iter().map(|persist| (GROUP, persist))).unwrap();
}

fn trim(log: &mut Log, index: u64) -> BTreeSet<GroupId> {
    log.trim(GROUP, Index(index));
    log.sweep().unwrap()
}

fn indices(recovered: &Recovered) -> Vec<(u64, u64)> {
    recovered.entries.iter().map(|entry| (entry.index.0, entry.term.0)).collect()
}

#[test]
fn what_was_appended_is_there_after_a_restart_in_its_last_form() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered, Recovered::default());
    let hard = HardState { term: Term(3), vote: Some(MemberId(7)), rebuilding: false };
    append(&mut log, &[entries(1..=5, 1), Persist { hard: Some(hard), ..Persist::default() }]);
    let replaced = Persist { truncate: Some(Index(4)), ..entries(4..=6, 3) };
    append(&mut log, &[replaced]);
    drop(log);
    let (_, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.hard, hard);
    assert_eq!(indices(&recovered), [(1, 1), (2, 1), (3, 1), (4, 3), (5, 3), (6, 3)]);
    assert_eq!(recovered.entries[5], entry(6, 3));
}

#[test]
fn a_torn_tail_is_cut_at_every_length_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    append(&mut log, &[entries(1..=2, 1)]);
    let sound = log.offset;
    append(&mut log, &[entries(3..=3, 1)]);
    let end = log.offset;
    drop(log);
    let path = segment_path(dir.path(), 0);
    let whole = fs::read(&path).unwrap();
    for torn in (sound..end).step_by(8) {
        let mut bytes = whole.clone();
        bytes[torn as usize..].fill(0);
        fs::write(&path, &bytes).unwrap();
        let (mut log, recovered) = open(dir.path()).unwrap();
        assert_eq!(indices(&recovered), [(1, 1), (2, 1)], "torn at {torn}");
        append(&mut log, &[entries(3..=3, 2)]);
        drop(log);
        let (_, recovered) = open(dir.path()).unwrap();
        assert_eq!(indices(&recovered), [(1, 1), (2, 1), (3, 2)], "torn at {torn}");
    }
}

#[test]
fn a_tail_whose_first_part_is_missing_is_cut_too() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    append(&mut log, &[entries(1..=2, 1)]);
    let sound = log.offset as usize;
    append(&mut log, &[entries(3..=90, 1)]);
    drop(log);
    let path = segment_path(dir.path(), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[sound..sound + 512].fill(0);
    fs::write(&path, &bytes).unwrap();
    let (_, recovered) = open(dir.path()).unwrap();
    assert_eq!(indices(&recovered), [(1, 1), (2, 1)]);
    assert!(fs::read(&path).unwrap()[sound..].iter().all(|byte| *byte == 0));
}

#[test]
fn a_damaged_middle_is_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    let mut starts = Vec::new();
    for index in 1..=4 {
        starts.push(log.offset as usize);
        append(&mut log, &[entries(index..=index, 1)]);
    }
    drop(log);
    let path = segment_path(dir.path(), 0);
    let whole = fs::read(&path).unwrap();
    for start in &starts[..3] {
        for at in [*start, start + 6, start + 40] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            fs::write(&path, &bytes).unwrap();
            let error = open(dir.path()).err().expect("damage is refused").to_string();
            assert!(error.contains("log-0000000000000000 is damaged"), "{error}");
            assert_eq!(fs::read(&path).unwrap(), bytes, "nothing was changed");
        }
    }
}

#[test]
fn a_log_of_another_node_or_version_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()).unwrap());
    let other = Owner { node: NodeId(2), ..owner() };
    let error = Log::open(&disk(), dir.path(), other).err().unwrap().to_string();
    assert!(error.contains("belongs to node 1"), "{error}");
    let path = segment_path(dir.path(), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 9;
    fs::write(&path, bytes).unwrap();
    let error = open(dir.path()).err().unwrap().to_string();
    assert!(error.contains("format version 9"), "{error}");
}

#[test]
fn segments_roll_and_are_dropped_whole() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    let hard = HardState { term: Term(8), vote: None, rebuilding: true };
    append(&mut log, &[Persist { hard: Some(hard), ..Persist::default() }]);
    let large = Payload::Command(Bytes::from(vec![7; 1 << 20]));
    for index in 1..=12 {
        let entry = Entry { index: Index(index), term: Term(8), payload: large.clone() };
        append(&mut log, &[Persist { entries: vec![entry], ..Persist::default() }]);
    }
    assert_eq!(log.segments.len(), 4);
    trim(&mut log, 7);
    assert_eq!(log.segments.len(), 2, "entries 1 to 6 filled two segments");
    drop(log);
    let (log, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.hard, hard, "repeated at the head of each segment");
    assert_eq!(recovered.entries.first().map(|entry| entry.index), Some(Index(7)));
    assert_eq!(recovered.entries.last().map(|entry| entry.index), Some(Index(12)));
    assert_eq!(log.bytes(), 2 * SEGMENT);
    drop(log);
    fs::remove_file(segment_path(dir.path(), 2)).unwrap();
    fs::copy(segment_path(dir.path(), 3), segment_path(dir.path(), 5)).unwrap();
    assert!(open(dir.path()).is_err(), "a missing segment is no short log");
}

#[test]
fn a_record_larger_than_a_segment_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    let payload = Payload::Command(Bytes::from(vec![7; 5 << 20]));
    let huge = Entry { index: Index(1), term: Term(1), payload };
    append(&mut log, &[Persist { entries: vec![huge.clone()], ..Persist::default() }]);
    append(&mut log, &[entries(2..=2, 1)]);
    drop(log);
    let (_, recovered) = open(dir.path()).unwrap();
    assert_eq!(recovered.entries, [huge, entry(2, 1)]);
}

#[test]
fn entries_before_an_installed_checkpoint_are_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    append(&mut log, &[entries(1..=3, 1)]);
    let last = Position { index: Index(90), term: Term(5) };
    let configuration = Arc::default();
    let checkpoint = Checkpoint { last, configuration, size: 0, digest: 0 };
    let installed = Persist { checkpoint: Some(checkpoint), ..entries(91..=91, 5) };
    append(&mut log, &[installed]);
    drop(log);
    let (mut log, recovered) = open(dir.path()).unwrap();
    assert_eq!(indices(&recovered), [(91, 5)]);
    log.reset(GROUP, Position { index: Index(200), term: Term(6) }).unwrap();
    append(&mut log, &[entries(201..=202, 6)]);
    drop(log);
    let (_, recovered) = open(dir.path()).unwrap();
    assert_eq!(indices(&recovered), [(201, 6), (202, 6)]);
}

#[test]
fn groups_share_records_and_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, groups) = open_all(dir.path()).unwrap();
    assert!(groups.is_empty());
    log.found(OTHER, vec![NodeId(1), NodeId(2)], HardState::default()).unwrap();
    let (one, two) = (entries(1..=3, 1), entries(1..=2, 2));
    let before = log.next_record;
    log.append([(GROUP, &one), (OTHER, &two), (GROUP, &entries(4..=4, 1))]).unwrap();
    assert_eq!(log.next_record, before + 1, "one record, one sync");
    drop(log);
    let (_, groups) = open_all(dir.path()).unwrap();
    assert_eq!(indices(&groups[&GROUP]), [(1, 1), (2, 1), (3, 1), (4, 1)]);
    assert_eq!(indices(&groups[&OTHER]), [(1, 2), (2, 2)]);
    assert_eq!(groups[&OTHER].founded, Some(vec![NodeId(1), NodeId(2)]));
    assert_eq!(groups[&GROUP].founded, None);
}

#[test]
fn an_idle_group_does_not_hold_the_segments_of_a_busy_one_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(dir.path()).unwrap();
    log.found(OTHER, vec![NodeId(1)], HardState::default()).unwrap();
    log.append([(OTHER, &entries(1..=5, 1))]).unwrap();
    let large = Payload::Command(Bytes::from(vec![7; 2 << 20]));
    let mut asked = BTreeSet::new();
    for index in 1..=60 {
        let entry = Entry { index: Index(index), term: Term(1), payload: large.clone() };
        append(&mut log, &[Persist { entries: vec![entry], ..Persist::default() }]);
        asked.extend(trim(&mut log, index));
        if !asked.is_empty() {
            break;
        }
    }
    assert_eq!(asked, BTreeSet::from([OTHER]), "it is asked for a checkpoint");
    assert!(log.segments.len() > MANY);
    log.cover(OTHER, Index(5));
    assert!(log.sweep().unwrap().is_empty());
    assert!(log.segments.len() <= 2, "{} segments are left", log.segments.len());
    drop(log);
    let (_, groups) = open_all(dir.path()).unwrap();
    assert!(groups[&OTHER].entries.is_empty());
    assert_eq!(groups[&OTHER].founded, Some(vec![NodeId(1)]), "repeated at each head");
}
