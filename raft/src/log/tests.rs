//! The log's own rules: what counts as stable, where to try next, what a disk may hold.

use bytes::Bytes;

use super::*;
use crate::effect::HardState;
use crate::message::Payload;

fn entry(index: u64, term: u64) -> Entry {
    Entry { index: Index(index), term: Term(term), payload: Payload::Noop }
}

fn stored(terms: &[u64]) -> Stored {
    Stored {
        hard: HardState { term: Term(100), vote: None },
        checkpoint: None,
        entries: terms.iter().zip(1..).map(|(t, i)| entry(i, *t)).collect(),
    }
}

fn persist(log: &mut Log, sequence: u64) -> Persist {
    let mut persist = Persist { sequence: Sequence(sequence), ..Persist::default() };
    log.hand_out(&mut persist);
    persist
}

#[test]
fn an_entry_replaced_while_it_was_written_is_not_stable() {
    let mut log = Log::new(stored(&[1])).unwrap();
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
    let mut log = Log::new(stored(&[1])).unwrap();
    log.append(entry(2, 1));
    log.truncate(Index(2));
    assert!(!log.dirty());
}

#[test]
fn conflicts_name_the_first_index_of_the_term_in_the_way() {
    let log = Log::new(stored(&[1, 1, 4, 4, 4])).unwrap();
    assert_eq!(log.conflict(Index(5)), Conflict { term: Some(Term(4)), first: Index(3) });
    assert_eq!(log.conflict(Index(9)), Conflict { term: None, first: Index(6) });
    assert_eq!(log.last_of(Term(1), Index(5)), Some(Index(2)));
    assert_eq!(log.last_of(Term(2), Index(5)), None);
}

#[test]
fn a_log_left_behind_by_an_installed_checkpoint_is_dropped() {
    let mut found = stored(&[1, 1, 1]);
    let last = Position { index: Index(7), term: Term(3) };
    found.checkpoint = Some(Checkpoint { last, data: Bytes::new() });
    let mut log = Log::new(found).unwrap();
    assert_eq!(log.last(), last);
    assert_eq!(persist(&mut log, 1).truncate, Some(Index(1)));
}

#[test]
fn a_suffix_that_fits_the_checkpoint_is_kept() {
    let mut found = stored(&[1, 1, 2, 2]);
    found.checkpoint =
        Some(Checkpoint { last: Position { index: Index(2), term: Term(1) }, data: Bytes::new() });
    let log = Log::new(found).unwrap();
    assert_eq!(log.last(), Position { index: Index(4), term: Term(2) });
    assert_eq!(log.term(Index(1)), None);
    assert!(!log.dirty());
}

#[test]
fn what_no_run_can_have_stored_is_refused() {
    let mut gap = stored(&[1, 1]);
    gap.entries.remove(0);
    assert!(Log::new(gap).is_err());
    assert!(Log::new(stored(&[2, 1])).is_err());
    let mut old = stored(&[5]);
    old.hard.term = Term(4);
    assert!(Log::new(old).is_err());
}
