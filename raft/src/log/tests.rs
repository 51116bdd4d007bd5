//! The log's own rules: what counts as stable, where to try next, what a disk may hold.

use super::*;
use crate::effect::HardState;
use crate::ids::MemberId;

fn entry(index: u64, term: u64) -> Entry {
    Entry { index: Index(index), term: Term(term), payload: Payload::Noop }
}

fn stored(terms: &[u64]) -> Stored {
    Stored {
        hard: HardState { term: Term(100), ..HardState::default() },
        entries: terms.iter().zip(1..).map(|(t, i)| entry(i, *t)).collect(),
        ..Stored::default()
    }
}

fn open(stored: Stored) -> Result<Log, Error> {
    Log::new(stored, Configuration::of(vec![MemberId(1)]))
}

fn checkpoint(index: u64, term: u64) -> Checkpoint {
    let last = Position { index: Index(index), term: Term(term) };
    let configuration = Arc::new(Configuration::of(vec![MemberId(9)]));
    Checkpoint { last, configuration, size: 0, digest: 0 }
}

fn persist(log: &mut Log, sequence: u64) -> Persist {
    let mut persist = Persist { sequence: Sequence(sequence), ..Persist::default() };
    log.hand_out(&mut persist);
    persist
}

#[test]
fn an_entry_replaced_while_it_was_written_is_not_stable() {
    let mut log = open(stored(&[1])).unwrap();
    log.append(entry(2, 1));
    log.append(entry(3, 1));
    persist(&mut log, 1);
    log.truncate(Index(3));
    log.append(entry(3, 2));
    let second = persist(&mut log, 2);
    assert_eq!(second.truncate, Some(Index(3)));
    assert_eq!(second.entries, vec![entry(3, 2)]);
    log.persisted(Sequence(1));
    assert_eq!(log.stable(), Index(2));
    log.persisted(Sequence(2));
    assert_eq!(log.stable(), Index(3));
}

#[test]
fn an_entry_truncated_before_it_was_handed_out_leaves_no_trace() {
    let mut log = open(stored(&[1])).unwrap();
    log.append(entry(2, 1));
    log.truncate(Index(2));
    assert!(!log.dirty());
}

#[test]
fn conflicts_name_the_first_index_of_the_term_in_the_way() {
    let log = open(stored(&[1, 1, 4, 4, 4])).unwrap();
    assert_eq!(log.conflict(Index(5)), Conflict { term: Some(Term(4)), first: Index(3) });
    assert_eq!(log.conflict(Index(9)), Conflict { term: None, first: Index(6) });
    assert_eq!(log.last_of(Term(1), Index(5)), Some(Index(2)));
    assert_eq!(log.last_of(Term(2), Index(5)), None);
}

#[test]
fn a_log_left_behind_by_an_installed_checkpoint_is_dropped() {
    let mut found = stored(&[1, 1, 1]);
    found.checkpoint = Some(checkpoint(7, 3));
    let mut log = open(found).unwrap();
    assert_eq!(log.last(), Position { index: Index(7), term: Term(3) });
    assert_eq!(persist(&mut log, 1).truncate, Some(Index(1)));
}

#[test]
fn a_suffix_that_fits_the_checkpoint_is_kept() {
    let mut found = stored(&[1, 1, 2, 2]);
    found.checkpoint = Some(checkpoint(2, 1));
    let log = open(found).unwrap();
    assert_eq!(log.last(), Position { index: Index(4), term: Term(2) });
    assert_eq!(log.term(Index(1)), None);
    assert!(!log.dirty());
}

#[test]
fn what_no_run_can_have_stored_is_refused() {
    let mut gap = stored(&[1, 1]);
    gap.entries.remove(0);
    assert!(open(gap).is_err());
    assert!(open(stored(&[2, 1])).is_err());
    let mut old = stored(&[5]);
    old.hard.term = Term(4);
    assert!(open(old).is_err());
}

fn group(index: u64, term: u64, voters: &[u64]) -> Entry {
    let configuration = Configuration::of(voters.iter().copied().map(MemberId).collect());
    Entry { payload: Payload::Configuration(Arc::new(configuration)), ..entry(index, term) }
}

#[test]
fn a_configuration_is_in_force_as_long_as_it_stands_in_the_log() {
    let mut log = open(stored(&[1])).unwrap();
    let voters = |log: &Log| log.configuration().1.voters.clone();
    assert_eq!(voters(&log), [MemberId(1)]);
    log.append(group(2, 1, &[1, 2]));
    log.append(entry(3, 1));
    log.append(group(4, 1, &[1, 2, 3]));
    assert_eq!(voters(&log).len(), 3);
    assert_eq!(log.possible(Index(3)).len(), 2);
    log.truncate(Index(4));
    assert_eq!(voters(&log).len(), 2);
    log.checkpoint_taken(checkpoint(3, 1), Index(3), usize::MAX);
    assert_eq!((voters(&log).len(), log.entries().count()), (2, 0));
    log.truncate(Index(2));
    assert_eq!(voters(&log).len(), 2, "what is below the base cannot be undone");
    log.reset(checkpoint(9, 2));
    assert_eq!(voters(&log), [MemberId(9)]);
}

#[test]
fn what_is_kept_below_a_checkpoint_is_bounded_in_entries_and_bytes() {
    const SIZE: usize = 16;
    let mut log = open(stored(&[1; 100])).unwrap();
    assert_eq!(log.bytes(), 100 * SIZE);
    let base = log.checkpoint_taken(checkpoint(90, 1), Index(85), usize::MAX);
    assert_eq!((base, log.entries().count()), (Some(Index(85)), 15));
    let base = log.checkpoint_taken(checkpoint(95, 1), Index(86), 3 * SIZE);
    assert_eq!((base, log.entries().count()), (Some(Index(92)), 8));
    assert_eq!(log.bytes(), 8 * SIZE);
    assert_eq!(log.bytes_between(Index(95), Index(97)), 2 * SIZE);
}
