//! Each rule of the lock table, by name: commands in, events out.

use super::Table;
use crate::{
    Grant, Held, Mode, Name, SessionId, Span,
    message::{Acquire, Ask, Client, Command, Event, Kind, Reply, Seq, Ticket},
};
use Mode::{Exclusive, Shared};

const A: SessionId = SessionId(1);
const B: SessionId = SessionId(2);
const C: SessionId = SessionId(3);

/// A table with listening sessions and a counter for batches and tickets.
struct Bench {
    table: Table,
    next: u64,
}

fn span(start: u64, end: u64) -> Span {
    Span::new(Name(start), Name(end)).unwrap()
}

fn held(start: u64, end: u64, mode: Mode, grant: u64) -> Held {
    Held { span: span(start, end), mode, grant: Grant(grant) }
}

fn client(owner: &str, able: bool, nonce: u64) -> Client {
    Client { owner: owner.to_owned(), host: "h".to_owned(), kind: Kind::Mount, able, nonce }
}

impl Bench {
    fn new(sessions: u64) -> Self {
        let mut bench = Self { table: Table::new(), next: 0 };
        for number in 1..=sessions {
            bench.open(&format!("owner{number}"), true, false);
        }
        bench
    }

    fn open(&mut self, owner: &str, able: bool, replace: bool) -> SessionId {
        self.next += 1;
        let client = client(owner, able, self.next);
        match self.run(Command::Open { client, replace }).0 {
            Reply::Opened(session) => {
                self.table.listen(session);
                session
            }
            other => panic!("{other:?}"),
        }
    }

    fn run(&mut self, command: Command) -> (Reply, Vec<(SessionId, Event)>) {
        let reply = self.table.handle(command);
        self.table.check().unwrap();
        (reply, self.table.drain())
    }

    fn ask(&mut self, session: SessionId, asks: Vec<Ask>) -> Vec<(SessionId, Event)> {
        self.next += 1;
        let (reply, events) = self.run(Command::Batch { session, seq: Seq(self.next), asks });
        assert_eq!(reply, Reply::Done);
        events
    }

    /// The parts of what `session` holds in `span`.
    fn parts(&self, session: SessionId, span: Span) -> Vec<Held> {
        let cut = |held: Held| held.span.intersection(span).map(|span| Held { span, ..held });
        self.table.held_by(session).into_iter().filter_map(cut).collect()
    }

    fn release(&mut self, session: SessionId, span: Span) -> Vec<(SessionId, Event)> {
        let asks = self.parts(session, span).into_iter().map(Ask::Release).collect();
        self.ask(session, asks)
    }

    fn downgrade(&mut self, session: SessionId, span: Span) -> Vec<(SessionId, Event)> {
        let asks = self.parts(session, span).into_iter().map(Ask::Downgrade).collect();
        self.ask(session, asks)
    }

    /// Acquires; the ticket is the start of the need.
    fn get(&mut self, session: SessionId, need: Span, mode: Mode) -> Vec<(SessionId, Event)> {
        self.acquire(session, need, need, mode, true)
    }

    fn acquire(
        &mut self,
        session: SessionId,
        need: Span,
        wish: Span,
        mode: Mode,
        wait: bool,
    ) -> Vec<(SessionId, Event)> {
        let ticket = Ticket(need.start().0);
        self.ask(session, vec![Ask::Acquire(Acquire { ticket, need, wish, mode, wait })])
    }
}

fn granted(ticket: u64, held: Vec<Held>) -> Event {
    Event::Granted { ticket: Ticket(ticket), held }
}

fn revoke(start: u64, end: u64, keep: Option<Mode>) -> Event {
    Event::Revoke { span: span(start, end), keep }
}

#[test]
fn a_wish_is_given_as_far_as_it_is_free_and_not_waited_for() {
    let mut bench = Bench::new(3);
    bench.get(B, span(5, 10), Exclusive);
    bench.get(B, span(80, 90), Shared);
    bench.get(C, span(85, 86), Exclusive);
    let events = bench.acquire(A, span(20, 21), span(0, 100), Exclusive, true);
    assert_eq!(events, [(A, granted(20, vec![held(10, 80, Exclusive, 2)]))]);
}

#[test]
fn exclusive_grants_have_growing_numbers_and_shared_ones_carry_the_newest() {
    let mut bench = Bench::new(2);
    assert_eq!(
        bench.get(A, span(1, 2), Exclusive),
        [(A, granted(1, vec![held(1, 2, Exclusive, 1)]))]
    );
    assert_eq!(bench.get(B, span(2, 3), Shared), [(B, granted(2, vec![held(2, 3, Shared, 1)]))]);
    assert_eq!(
        bench.get(B, span(3, 4), Exclusive),
        [(B, granted(3, vec![held(3, 4, Exclusive, 2)]))]
    );
}

#[test]
fn a_reader_asks_the_writer_to_downgrade_and_a_writer_asks_all_to_drop() {
    let mut bench = Bench::new(3);
    bench.get(A, span(0, 10), Exclusive);
    assert_eq!(bench.get(B, span(3, 4), Shared), [(A, revoke(3, 4, Some(Shared)))]);
    let events = bench.downgrade(A, span(3, 4));
    assert_eq!(events, [(B, granted(3, vec![held(3, 4, Shared, 2)]))]);
    let events = bench.get(C, span(3, 4), Exclusive);
    assert_eq!(events, [(A, revoke(3, 4, None)), (B, revoke(3, 4, None))]);
}

#[test]
fn a_split_keeps_the_number_on_both_parts() {
    let mut bench = Bench::new(2);
    bench.get(A, span(0, 10), Exclusive);
    bench.release(A, span(4, 6));
    let parts = [held(0, 4, Exclusive, 1), held(6, 10, Exclusive, 1)];
    assert_eq!(bench.table.held_by(A), parts);
}

#[test]
fn what_is_held_already_keeps_its_number_when_more_is_acquired() {
    let mut bench = Bench::new(1);
    bench.get(A, span(4, 6), Exclusive);
    let events = bench.get(A, span(0, 10), Exclusive);
    let fresh = vec![held(0, 4, Exclusive, 2), held(6, 10, Exclusive, 2)];
    assert_eq!(events, [(A, granted(0, fresh))]);
    let all = [held(0, 4, Exclusive, 2), held(4, 6, Exclusive, 1), held(6, 10, Exclusive, 2)];
    assert_eq!(bench.table.held_by(A), all);
}

#[test]
fn ranges_with_different_numbers_never_merge_and_a_downgrade_ends_the_number() {
    let mut bench = Bench::new(1);
    bench.get(A, span(0, 5), Exclusive);
    bench.get(A, span(5, 10), Exclusive);
    assert_eq!(bench.table.held_by(A).len(), 2);
    bench.downgrade(A, span(0, 10));
    assert_eq!(bench.table.held_by(A), [held(0, 5, Shared, 1), held(5, 10, Shared, 2)]);
    let events = bench.get(A, span(0, 1), Exclusive);
    assert_eq!(events, [(A, granted(0, vec![held(0, 1, Exclusive, 3)]))]);
}

#[test]
fn waiters_are_served_first_come_first_served() {
    let mut bench = Bench::new(3);
    bench.get(A, span(1, 2), Shared);
    bench.get(B, span(1, 2), Exclusive);
    assert_eq!(bench.get(C, span(1, 2), Shared), [], "a later reader does not pass the writer");
    let events = bench.release(A, span(1, 2));
    let expected =
        [(B, granted(1, vec![held(1, 2, Exclusive, 1)])), (B, revoke(1, 2, Some(Shared)))];
    assert_eq!(events, expected, "the next waiter is named to the new holder at once");
}

#[test]
fn who_holds_what_a_waiter_waits_for_passes_it() {
    let mut bench = Bench::new(2);
    bench.get(A, span(5, 6), Exclusive);
    bench.get(B, span(0, 10), Exclusive);
    let events = bench.get(A, span(7, 8), Shared);
    let expected = [(A, granted(7, vec![held(7, 8, Shared, 1)])), (A, revoke(7, 8, None))];
    assert_eq!(events, expected, "else each would wait for the other");
    let events = bench.release(A, span(0, 10));
    assert_eq!(events, [(B, granted(0, vec![held(0, 10, Exclusive, 2)]))]);
}

#[test]
fn a_try_that_cannot_be_served_is_refused_and_revokes_nobody() {
    let mut bench = Bench::new(2);
    bench.get(A, span(1, 2), Exclusive);
    let events = bench.acquire(B, span(1, 2), span(1, 2), Shared, false);
    assert_eq!(events, [(B, Event::Refused(Ticket(1)))]);
}

#[test]
fn a_hint_takes_what_is_free_under_one_number_and_never_waits() {
    let mut bench = Bench::new(2);
    bench.get(A, span(2, 3), Exclusive);
    let names = vec![Name(1), Name(2), Name(3), Name(4), Name(9)];
    let events = bench.ask(B, vec![Ask::Hint { ticket: Ticket(7), names, mode: Exclusive }]);
    let got = vec![held(1, 2, Exclusive, 2), held(3, 5, Exclusive, 2), held(9, 10, Exclusive, 2)];
    assert_eq!(events, [(B, granted(7, got))]);
}

#[test]
fn a_hint_does_not_pass_a_waiter() {
    let mut bench = Bench::new(3);
    bench.get(A, span(1, 2), Shared);
    bench.get(B, span(1, 2), Exclusive);
    let names = vec![Name(1)];
    let events = bench.ask(C, vec![Ask::Hint { ticket: Ticket(7), names, mode: Shared }]);
    assert_eq!(events, [(C, granted(7, vec![]))]);
}

#[test]
fn a_batch_is_applied_once_and_in_order() {
    let mut bench = Bench::new(1);
    bench.get(A, span(1, 2), Exclusive);
    let seq = Seq(bench.next);
    let again =
        Command::Batch { session: A, seq, asks: vec![Ask::Release(held(1, 2, Exclusive, 1))] };
    assert_eq!(bench.run(again), (Reply::Done, vec![]));
    assert_eq!(bench.table.held_by(A).len(), 1, "a number that was seen changes nothing");
}

#[test]
fn a_release_takes_only_the_grant_that_it_names() {
    let mut bench = Bench::new(1);
    bench.get(A, span(1, 2), Exclusive);
    let old = held(1, 2, Exclusive, 1);
    bench.ask(A, vec![Ask::Downgrade(old)]);
    bench.get(A, span(1, 2), Exclusive);
    let late = vec![Ask::Release(old), Ask::Release(held(1, 2, Shared, 1)), Ask::Downgrade(old)];
    bench.ask(A, late);
    assert_eq!(bench.table.held_by(A), [held(1, 2, Exclusive, 2)]);
}

#[test]
fn a_cancelled_waiter_no_longer_bars_others() {
    let mut bench = Bench::new(3);
    bench.get(A, span(1, 2), Shared);
    bench.get(B, span(1, 2), Exclusive);
    bench.get(C, span(1, 2), Shared);
    let events = bench.ask(B, vec![Ask::Cancel(Ticket(1))]);
    let refused = (B, Event::Refused(Ticket(1)));
    assert_eq!(events, [refused, (C, granted(1, vec![held(1, 2, Shared, 1)]))]);
}

#[test]
fn an_expired_session_keeps_its_locks_until_its_recoverer_is_done() {
    let mut bench = Bench::new(3);
    bench.get(A, span(1, 2), Exclusive);
    bench.get(C, span(1, 2), Exclusive);
    let (_, events) = bench.run(Command::Expire(A));
    let all = vec![held(1, 2, Exclusive, 1)];
    assert_eq!(events, [(A, Event::Ended), (B, Event::Recover { dead: A, held: all })]);
    assert_eq!(bench.run(Command::Recovered { dead: A, by: C, seen: Grant(0) }).0, Reply::Refused);
    let (reply, events) = bench.run(Command::Recovered { dead: A, by: B, seen: Grant(0) });
    assert_eq!(reply, Reply::Done);
    assert_eq!(events, [(C, granted(1, vec![held(1, 2, Exclusive, 2)]))]);
    assert_eq!(
        bench.run(Command::Recovered { dead: A, by: B, seen: Grant(0) }).0,
        Reply::Done,
        "twice is once"
    );
}

#[test]
fn an_expired_session_can_do_nothing_any_more() {
    let mut bench = Bench::new(2);
    bench.run(Command::Expire(A));
    let asks = vec![Ask::Release(held(1, 2, Exclusive, 1))];
    let batch = Command::Batch { session: A, seq: Seq(99), asks };
    assert_eq!(bench.run(batch).0, Reply::Expired);
    assert_eq!(bench.run(Command::Close(A)).0, Reply::Expired);
    assert_eq!(bench.run(Command::Recovered { dead: A, by: A, seen: Grant(0) }).0, Reply::Refused);
}

#[test]
fn with_nobody_left_the_next_able_session_recovers() {
    let mut bench = Bench::new(1);
    bench.get(A, span(1, 2), Exclusive);
    bench.run(Command::Expire(A));
    bench.open("a tool", false, false);
    let able = bench.open("a mount", true, false);
    let events = bench.table.listen(able);
    let recover = Event::Recover { dead: A, held: vec![held(1, 2, Exclusive, 1)] };
    assert!(events.contains(&recover), "{events:?}");
}

#[test]
fn a_recoverer_that_dies_is_recovered_before_its_dead_go_to_another() {
    let mut bench = Bench::new(3);
    bench.run(Command::Expire(A));
    let (_, events) = bench.run(Command::Expire(B));
    let recover = |dead| (C, Event::Recover { dead, held: vec![] });
    assert_eq!(events, [(B, Event::Ended), recover(B)]);
    let (_, events) = bench.run(Command::Recovered { dead: B, by: C, seen: Grant(0) });
    assert_eq!(events, [recover(A)]);
}

#[test]
fn dead_sessions_are_spread_over_those_that_can_recover() {
    let mut bench = Bench::new(4);
    bench.run(Command::Expire(A));
    let (_, events) = bench.run(Command::Expire(SessionId(4)));
    assert_eq!(events[1].0, C, "B is busy with A");
}

#[test]
fn replace_ends_the_older_sessions_of_the_owner_at_once() {
    let mut bench = Bench::new(2);
    bench.get(A, span(1, 2), Exclusive);
    bench.run(Command::Close(B));
    let new = bench.open("owner1", true, true);
    assert!(!bench.table.lives(A));
    let events = bench.table.listen(new);
    assert!(matches!(&events[1], Event::Recover { dead, .. } if *dead == A), "{events:?}");
}

#[test]
fn opening_twice_with_one_nonce_opens_one_session() {
    let mut bench = Bench::new(0);
    let open = Command::Open { client: client("x", true, 77), replace: true };
    let first = bench.run(open.clone()).0;
    assert_eq!(bench.run(open).0, first);
    let later = bench.open("x", true, true);
    assert_eq!(later, SessionId(2), "ids grow and are never used again");
}

#[test]
fn closing_passes_the_locks_on_at_once() {
    let mut bench = Bench::new(2);
    bench.get(A, span(1, 2), Exclusive);
    bench.get(B, span(1, 2), Exclusive);
    let (_, events) = bench.run(Command::Close(A));
    assert_eq!(events[0], (B, granted(1, vec![held(1, 2, Exclusive, 2)])));
}

#[test]
fn a_new_listener_is_told_what_it_holds_waits_for_and_must_give_up() {
    let mut bench = Bench::new(2);
    bench.get(A, span(1, 2), Exclusive);
    bench.get(B, span(2, 3), Exclusive);
    bench.get(A, span(2, 3), Exclusive);
    bench.get(B, span(1, 2), Shared);
    let events = bench.table.listen(A);
    let Event::Snapshot { held: all, waiting, newest, .. } = &events[0] else { panic!() };
    assert_eq!(all, &[held(1, 2, Exclusive, 1)]);
    assert_eq!((waiting.as_slice(), *newest), ([Ticket(2)].as_slice(), Grant(1)));
    assert_eq!(events[1..], [revoke(1, 2, Some(Shared))]);
}

#[test]
fn a_damaged_checkpoint_is_an_error_and_never_a_panic() {
    let mut bench = Bench::new(2);
    bench.get(A, span(1, 2), Exclusive);
    bench.get(B, span(1, 2), Shared);
    let saved = bench.table.save();
    assert_eq!(Table::load(&saved).unwrap().save(), saved);
    let odd = (0..saved.len()).filter(|&cut| Table::load(&saved[..cut]).is_err()).count();
    assert!(odd > saved.len() / 2);
    for at in 0..saved.len() {
        let mut bytes = saved.clone();
        bytes[at] ^= 0x15;
        if let Ok(table) = Table::load(&bytes) {
            table.check().unwrap();
        }
    }
}
