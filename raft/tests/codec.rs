//! Messages survive the trip through bytes, and no bytes bring the decoder down.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use raft::{
    Append, AppendReply, Body, Checkpoint, Chunk, Configuration, Conflict, Entry, Index, Install,
    InstallReply, MemberId, Message, Outcome, Payload, Position, ReadMode, Round, Serial, Term,
    codec,
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..300u64, 0..=1u64 << 60]
}

fn position() -> impl Strategy<Value = Position> {
    (0..1u64 << 59, number()).prop_map(|(i, t)| Position { index: Index(i), term: Term(t) })
}

fn command() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn members(least: usize) -> impl Strategy<Value = Vec<MemberId>> {
    let set = proptest::collection::btree_set(any::<u64>(), least..7);
    set.prop_map(|set| set.into_iter().map(MemberId).collect())
}

fn configuration() -> impl Strategy<Value = Arc<Configuration>> {
    (members(1), members(0), members(0)).prop_map(|(voters, outgoing, mut learners)| {
        let voting: BTreeSet<MemberId> = voters.iter().copied().collect();
        learners.retain(|id| !voting.contains(id));
        Arc::new(Configuration { voters, outgoing, learners })
    })
}

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Noop),
        command().prop_map(Payload::Command),
        configuration().prop_map(Payload::Configuration),
    ]
}

fn chunk() -> impl Strategy<Value = Chunk> {
    let named = (position(), configuration(), number(), any::<u64>());
    (named, number(), command()).prop_map(|((last, configuration, size, digest), offset, data)| {
        Chunk { checkpoint: Checkpoint { last, configuration, size, digest }, offset, data }
    })
}

fn read() -> impl Strategy<Value = Body> {
    let mode = prop_oneof![Just(ReadMode::Quorum), Just(ReadMode::Lease)];
    let index = proptest::option::of(number().prop_map(Index));
    prop_oneof![
        (any::<u64>(), mode).prop_map(|(s, mode)| Body::ReadIndex { serial: Serial(s), mode }),
        (any::<u64>(), index)
            .prop_map(|(s, index)| Body::ReadIndexReply { serial: Serial(s), index }),
    ]
}

fn append() -> impl Strategy<Value = Body> {
    let entries = proptest::collection::vec((1..1u64 << 60, payload()), 0..5);
    (position(), entries, number(), number()).prop_map(|(prev, entries, commit, round)| {
        let entries = entries
            .into_iter()
            .zip(prev.index.0 + 1..)
            .map(|((term, payload), i)| Entry { index: Index(i), term: Term(term), payload })
            .collect();
        Body::Append(Append { prev, entries, commit: Index(commit), round: Round(round) })
    })
}

fn reply() -> impl Strategy<Value = Body> {
    let accepted = number().prop_map(|m| Outcome::Accepted { matched: Index(m) });
    let rejected = (number(), proptest::option::of(1..1u64 << 60), number()).prop_map(
        |(prev, term, first)| Outcome::Rejected {
            prev: Index(prev),
            conflict: Conflict { term: term.map(Term), first: Index(first) },
        },
    );
    (number(), prop_oneof![accepted, rejected], proptest::option::of(any::<u64>())).prop_map(
        |(round, outcome, life)| {
            let rebuilding = life.map(Serial);
            Body::AppendReply(AppendReply { round: Round(round), outcome, rebuilding })
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let install = (number(), chunk())
        .prop_map(|(round, chunk)| Body::Install(Install { chunk, round: Round(round) }));
    let numbers = (number(), position(), any::<u64>(), number(), any::<bool>());
    let installed = numbers.prop_map(|(round, last, digest, received, again)| {
        Body::InstallReply(InstallReply { round: Round(round), last, digest, received, again })
    });
    let body = prop_oneof![
        position().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (position(), any::<bool>()).prop_map(|(last, transfer)| Body::Vote { last, transfer }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        append(),
        reply(),
        install,
        installed,
        Just(Body::TimeoutNow),
        read(),
        (number(), any::<u64>())
            .prop_map(|(upto, life)| Body::Rebuilt { upto: Index(upto), life: Serial(life) }),
    ];
    (any::<u64>(), any::<u64>(), number(), body).prop_map(|(from, to, term, body)| Message {
        from: MemberId(from),
        to: MemberId(to),
        term: Term(term),
        body,
    })
}

proptest! {
    #[test]
    fn a_message_comes_back_as_it_was(message in message()) {
        prop_assert_eq!(codec::decode(codec::encode(&message)).unwrap(), message);
    }

    #[test]
    fn a_message_cut_short_or_with_more_behind_it_is_refused(message in message(), cut in any::<usize>()) {
        let whole = codec::encode(&message);
        codec::decode(whole.slice(..cut % whole.len())).unwrap_err();
        let mut more = BytesMut::from(&whole[..]);
        more.extend_from_slice(&[0]);
        codec::decode(more.freeze()).unwrap_err();
    }

    #[test]
    fn a_damaged_message_is_refused_or_another_message(message in message(), at in any::<usize>(), with in any::<u8>()) {
        let mut bytes = codec::encode(&message).to_vec();
        let at = at % bytes.len();
        bytes[at] = with;
        if let Ok(other) = codec::decode(bytes.into()) {
            prop_assert_eq!(codec::decode(codec::encode(&other)).unwrap(), other);
        }
    }

    #[test]
    fn any_bytes_are_answered(kind in 0..15u8, mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        bytes.splice(0..0, [2, kind]);
        let _ = codec::decode(bytes.clone().into());
        let _ = codec::decode_entry(&mut bytes.into());
    }

    #[test]
    fn an_entry_comes_back_as_it_was(index in number(), term in 1..1u64 << 60, payload in payload()) {
        let entry = Entry { index: Index(index), term: Term(term), payload };
        let mut out = BytesMut::new();
        codec::encode_entry(&entry, &mut out);
        let mut bytes = out.freeze();
        prop_assert_eq!(codec::decode_entry(&mut bytes).unwrap(), entry);
        assert!(bytes.is_empty());
    }
}

#[test]
fn a_count_of_entries_beyond_the_bytes_is_refused_before_room_is_made() {
    let mut bytes = vec![2, 5, 1, 2, 3, 0, 0, 0, 0];
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let error = codec::decode(bytes.into()).unwrap_err();
    assert_eq!(error.to_string(), "malformed raft message: more entries than bytes");
}

#[test]
fn a_group_that_cannot_be_is_refused() {
    let ids = |list: &[u64]| list.iter().copied().map(MemberId).collect::<Vec<_>>();
    let refused = |voters: &[u64], learners: &[u64]| {
        let (voters, learners) = (ids(voters), ids(learners));
        let group = Configuration { voters, learners, ..Configuration::default() };
        let mut out = BytesMut::new();
        codec::encode_configuration(&group, &mut out);
        codec::decode_configuration(&mut out.freeze()).unwrap_err().to_string()
    };
    assert_eq!(refused(&[], &[1]), "malformed raft message: a group needs a voter");
    assert!(refused(&[2, 1], &[]).contains("sorted"));
    assert!(refused(&[1, 1], &[]).contains("each once"));
    assert!(refused(&[1, 2], &[2]).contains("either a voter or a learner"));
    assert!(refused(&[1, 2, 3, 4, 5, 6, 7, 8], &[]).contains("7 voters"));
    let count = [0xff, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let error = codec::decode_configuration(&mut Bytes::copy_from_slice(&count)).unwrap_err();
    assert_eq!(error.to_string(), "malformed raft message: more members than bytes");
}
