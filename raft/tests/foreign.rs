//! Whatever a member is told, in whatever order, it stands; and what it then asks to be written, it can start from.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config as Cases;
use raft::{
    Append, AppendReply, Body, Checkpoint, Config, Conflict, Effect, Entry, Event, Index, Install,
    MemberId, Message, Node, Outcome, Payload, Position, Round, Sequence, Stored, Term, Ticket,
};

/// Mostly numbers that mean something here, some that mean nothing.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..8u64, 1 => Just(1 << 60)]
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(i, t)| Position { index: Index(i), term: Term(t) })
}

fn body() -> impl Strategy<Value = Body> {
    let entries = proptest::collection::vec(number(), 0..4);
    let append =
        (position(), entries, number(), number()).prop_map(|(prev, terms, commit, round)| {
            let entries = terms.into_iter().zip(prev.index.0 + 1..).map(|(t, i)| Entry {
                index: Index(i),
                term: Term(t),
                payload: Payload::Noop,
            });
            let (commit, round) = (Index(commit), Round(round));
            Body::Append(Append { prev, entries: entries.collect(), commit, round })
        });
    let install = (position(), number()).prop_map(|(last, round)| {
        let checkpoint = Checkpoint { last, data: Bytes::new() };
        Body::Install(Install { checkpoint, round: Round(round) })
    });
    let accepted = (number(), number()).prop_map(|(round, matched)| {
        let outcome = Outcome::Accepted { matched: Index(matched) };
        Body::AppendReply(AppendReply { round: Round(round), outcome })
    });
    let rejected =
        (number(), number(), number(), number()).prop_map(|(round, prev, term, first)| {
            let term = Some(Term(term)).filter(|t| t.0 > 0);
            let conflict = Conflict { term, first: Index(first) };
            let outcome = Outcome::Rejected { prev: Index(prev), conflict };
            Body::AppendReply(AppendReply { round: Round(round), outcome })
        });
    prop_oneof![
        1 => position().prop_map(|last| Body::PreVote { last }),
        2 => any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        1 => position().prop_map(|last| Body::Vote { last }),
        2 => any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        3 => append,
        1 => install,
        3 => accepted,
        3 => rejected,
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let received = (1..5u64, 1..3u64, number(), body()).prop_map(|(from, to, term, body)| {
        let (from, to) = (MemberId(from), MemberId(to));
        Event::Received(Message { from, to, term: Term(term), body })
    });
    prop_oneof![
        8 => received,
        2 => (0..20u64).prop_map(|s| Event::Persisted(Sequence(s))),
        2 => Just(Event::Propose { ticket: Ticket(1), command: Bytes::from_static(b"x") }),
        1 => Just(Event::Read { ticket: Ticket(2) }),
        1 => number().prop_map(|i| Event::CheckpointTaken { index: Index(i), data: Bytes::new() }),
        2 => Just(Event::Wake),
    ]
}

fn write(stored: &mut Stored, effect: Effect) {
    match effect {
        Effect::Persist(persist) => {
            stored.hard = persist.hard.unwrap_or(stored.hard);
            if let Some(checkpoint) = persist.checkpoint {
                stored.checkpoint = Some(checkpoint);
                stored.entries.clear();
            }
            if let Some(from) = persist.truncate {
                stored.entries.retain(|e| e.index < from);
            }
            stored.entries.extend(persist.entries);
        }
        Effect::Apply(entries) => assert!(!entries.is_empty()),
        _ => {}
    }
}

proptest! {
    #![proptest_config(Cases::with_cases(2000))]

    #[test]
    fn nothing_that_is_said_brings_a_member_down(
        events in proptest::collection::vec((0..400u64, event()), 1..60)
    ) {
        let voters = (1..=3).map(MemberId).collect();
        let config = Config::new(MemberId(1), voters);
        let mut stored = Stored::default();
        let mut node = Node::new(config.clone(), 1, Stored::default()).unwrap();
        let mut now = Duration::ZERO;
        for (pass, event) in events {
            now += Duration::from_millis(pass);
            node.handle(now, event);
            while let Some(effect) = node.poll() {
                write(&mut stored, effect);
            }
            let _ = node.status();
            let _ = node.deadline();
        }
        Node::new(config, 1, stored).unwrap();
    }
}
