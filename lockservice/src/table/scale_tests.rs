//! Many ranges and many waiters: what it takes in memory, and that nothing looks at all of them.
#![expect(clippy::disallowed_methods, reason = "tests look at the real machine")]

use std::time::{Duration, Instant};

use super::Table;
use crate::{
    Held, Mode, Name, SessionId, Span,
    message::{Acquire, Ask, Client, Command, Kind, Reply, Seq, Ticket},
};

struct Bench {
    table: Table,
    seq: u64,
}

fn span(start: u64, len: u64) -> Span {
    Span::new(Name(start), Name(start + len)).unwrap()
}

fn acquire(ticket: u64, need: Span, mode: Mode) -> Ask {
    Ask::Acquire(Acquire { ticket: Ticket(ticket), need, wish: need, mode, wait: true })
}

impl Bench {
    fn new(sessions: u64) -> Self {
        let mut table = Table::new();
        for number in 1..=sessions {
            let (owner, host) = (number.to_string(), String::new());
            let client = Client { owner, host, kind: Kind::Mount, able: true, nonce: number };
            table.handle(Command::Open { client, replace: false });
        }
        Self { table, seq: 0 }
    }

    fn ask(&mut self, session: u64, asks: Vec<Ask>) {
        self.seq += 1;
        let (session, seq) = (SessionId(session), Seq(self.seq));
        assert_eq!(self.table.handle(Command::Batch { session, seq, asks }), Reply::Done);
    }

    fn release(&mut self, session: u64, within: Span) {
        let held = self.table.held_by(SessionId(session));
        let part = |held: Held| held.span.intersection(within).map(|span| Held { span, ..held });
        self.ask(session, held.into_iter().filter_map(part).map(Ask::Release).collect());
    }
}

/// Resident bytes of this process.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn ten_million_separate_ranges_would_take_less_than_a_gibibyte() {
    const RANGES: u64 = 1_000_000;
    let mut bench = Bench::new(4);
    let before = resident();
    for batch in 0..RANGES / 1000 {
        let one =
            |number: u64| acquire(number, span((batch * 1000 + number) * 2, 1), Mode::Exclusive);
        bench.ask(batch % 4 + 1, (0..1000).map(one).collect());
    }
    let each = (resident() - before) as u64 / RANGES;
    eprintln!("{each} bytes a range");
    assert!(each * 10_000_000 < 1 << 30, "{each} bytes a range");
}

#[test]
fn a_hundred_thousand_waiters_on_as_many_names_are_served_without_a_look_at_all_of_them() {
    let mut bench = Bench::new(11);
    bench.ask(1, vec![acquire(0, span(0, 1_000_000), Mode::Exclusive)]);
    for session in 2..=11 {
        let one = |n: u64| acquire(n, span(session * 10_000 + n, 1), Mode::Exclusive);
        bench.ask(session, (0..10_000).map(one).collect());
    }
    let began = Instant::now();
    bench.release(1, span(0, 1_000_000));
    let took = began.elapsed();
    eprintln!("100,000 waiters served in {took:?}");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let held: usize = (2..=11).map(|s| bench.table.held_by(SessionId(s)).len()).sum();
    assert_eq!(held, 100_000);
    bench.table.check().unwrap();
}

#[test]
fn many_waiters_for_one_name_take_turns_without_a_look_at_all_of_them() {
    const MANY: u64 = 2_000;
    let mut bench = Bench::new(MANY);
    for session in 1..=MANY {
        bench.ask(session, vec![acquire(1, span(7, 1), Mode::Exclusive)]);
    }
    let began = Instant::now();
    for session in 1..=1000 {
        bench.release(session, span(7, 1));
        assert_eq!(bench.table.held_by(SessionId(session + 1)).len(), 1, "in order");
    }
    let took = began.elapsed();
    eprintln!("1,000 hand-overs before {MANY} waiters in {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}
