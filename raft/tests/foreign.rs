//! Whatever a member is told, in whatever order, it stands; and what it then asks to be written, it can start from.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use proptest::test_runner::Config as Cases;
use raft::{
    Append, AppendReply, Body, Checkpoint, Chunk, Config, Configuration, Conflict, Effect, Entry,
    Event, HardState, Index, Install, InstallReply, MemberId, Message, Node, Outcome, Payload,
    Position, ReadMode, Round, Sequence, Serial, Stored, Term, Ticket,
};

/// Mostly numbers that mean something here, some that mean nothing.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![12 => 0..8u64, 1 => Just(1 << 60)]
}

fn position() -> impl Strategy<Value = Position> {
    (number(), number()).prop_map(|(i, t)| Position { index: Index(i), term: Term(t) })
}

/// Groups that can be, and some that cannot.
fn configuration() -> impl Strategy<Value = Arc<Configuration>> {
    let list = || {
        let set = proptest::collection::btree_set(1..6u64, 0..5);
        set.prop_map(|set| set.into_iter().map(MemberId).collect::<Vec<_>>())
    };
    (list(), list(), list()).prop_map(|(voters, outgoing, learners)| {
        Arc::new(Configuration { voters, outgoing, learners })
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        3 => Just(Payload::Noop),
        1 => configuration().prop_map(Payload::Configuration),
    ]
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    (position(), configuration(), 0..6u64, 0..2u64).prop_map(
        |(last, configuration, size, digest)| Checkpoint { last, configuration, size, digest },
    )
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let offset = prop_oneof![12 => 0..6u64, 1 => Just(u64::MAX)];
    (checkpoint(), offset, 0..4usize).prop_map(|(checkpoint, offset, length)| {
        let data = Bytes::from_static(b"data").slice(..length);
        Chunk { checkpoint, offset, data }
    })
}

/// What only the newer parts of the protocol say.
fn rare() -> impl Strategy<Value = Body> {
    let mode = prop_oneof![Just(ReadMode::Quorum), Just(ReadMode::Lease)];
    let installed = (number(), checkpoint(), number(), any::<bool>()).prop_map(
        |(round, Checkpoint { last, digest, .. }, received, again)| {
            Body::InstallReply(InstallReply { round: Round(round), last, digest, received, again })
        },
    );
    prop_oneof![
        Just(Body::TimeoutNow),
        (number(), number())
            .prop_map(|(upto, life)| Body::Rebuilt { upto: Index(upto), life: Serial(life) }),
        (number(), mode).prop_map(|(s, mode)| Body::ReadIndex { serial: Serial(s), mode }),
        (number(), proptest::option::of(number().prop_map(Index)))
            .prop_map(|(s, index)| Body::ReadIndexReply { serial: Serial(s), index }),
        installed,
    ]
}

fn body() -> impl Strategy<Value = Body> {
    let entries = proptest::collection::vec((number(), payload()), 0..4);
    let append =
        (position(), entries, number(), number()).prop_map(|(prev, entries, commit, round)| {
            let entries = entries.into_iter().zip(prev.index.0 + 1..);
            let entries = entries.map(|((term, payload), i)| Entry {
                index: Index(i),
                term: Term(term),
                payload,
            });
            let (commit, round) = (Index(commit), Round(round));
            Body::Append(Append { prev, entries: entries.collect(), commit, round })
        });
    let install = (chunk(), number())
        .prop_map(|(chunk, round)| Body::Install(Install { chunk, round: Round(round) }));
    let accepted = (number(), number(), any::<bool>()).prop_map(|(round, matched, emptied)| {
        let rebuilding = emptied.then_some(Serial(1));
        let outcome = Outcome::Accepted { matched: Index(matched) };
        Body::AppendReply(AppendReply { round: Round(round), outcome, rebuilding })
    });
    let rejected =
        (number(), number(), number(), number()).prop_map(|(round, prev, term, first)| {
            let term = Some(Term(term)).filter(|t| t.0 > 0);
            let conflict = Conflict { term, first: Index(first) };
            let outcome = Outcome::Rejected { prev: Index(prev), conflict };
            let (round, rebuilding) = (Round(round), None);
            Body::AppendReply(AppendReply { round, outcome, rebuilding })
        });
    prop_oneof![
        1 => position().prop_map(|last| Body::PreVote { last }),
        2 => any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        1 => (position(), any::<bool>())
            .prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        2 => any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        3 => append,
        2 => install,
        2 => rare(),
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
        1 => Just(Event::Read { ticket: Ticket(2), mode: ReadMode::Quorum }),
        1 => Just(Event::Read { ticket: Ticket(3), mode: ReadMode::Lease }),
        1 => configuration().prop_map(|target| {
            Event::Change { ticket: Ticket(4), target: (*target).clone() }
        }),
        1 => (1..5u64).prop_map(|to| Event::Transfer { ticket: Ticket(5), to: MemberId(to) }),
        1 => checkpoint().prop_map(Event::CheckpointTaken),
        1 => checkpoint().prop_map(Event::CheckpointDamaged),
        1 => (1..5u64, chunk()).prop_map(|(to, chunk)| Event::ChunkRead { to: MemberId(to), chunk }),
        1 => (1..5u64, checkpoint()).prop_map(|(to, checkpoint)| {
            Event::ChunkGone { to: MemberId(to), checkpoint }
        }),
        2 => Just(Event::Wake),
    ]
}

fn write(stored: &mut Stored, effect: Effect) {
    match effect {
        Effect::Persist(persist) => {
            stored.hard = persist.hard.unwrap_or(stored.hard);
            for chunk in persist.chunks {
                let end = chunk.offset + chunk.data.len() as u64;
                if let Some((checkpoint, received)) = &stored.partial
                    && chunk.offset > 0
                {
                    assert_eq!((checkpoint, *received), (&chunk.checkpoint, chunk.offset));
                }
                stored.partial = Some((chunk.checkpoint, end));
            }
            if let Some(checkpoint) = persist.checkpoint {
                assert_eq!(stored.partial.take(), Some((checkpoint.clone(), checkpoint.size)));
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
        size in 0..4u64,
        rebuilding in any::<bool>(),
        events in proptest::collection::vec((0..400u64, event()), 1..60)
    ) {
        // With no voters at all it waits to be taken into a group.
        let voters = (1..=size).map(MemberId).collect();
        let config = Config::new(MemberId(1), voters);
        let hard = HardState { rebuilding, ..HardState::default() };
        let mut stored = Stored { hard, ..Stored::default() };
        let mut node = Node::new(config.clone(), 1, stored.clone()).unwrap();
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
