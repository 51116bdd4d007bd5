//! Messages survive the trip through bytes, and no bytes bring the decoder down.

use bytes::{Bytes, BytesMut};
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};
use raft::{
    Append, AppendReply, Body, Checkpoint, Conflict, Entry, Index, Install, MemberId, Message,
    Outcome, Payload, Position, Round, Term, codec,
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

fn payload() -> impl Strategy<Value = Payload> {
    prop_oneof![Just(Payload::Noop), command().prop_map(Payload::Command)]
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
    (number(), prop_oneof![accepted, rejected]).prop_map(|(round, outcome)| {
        Body::AppendReply(AppendReply { round: Round(round), outcome })
    })
}

fn message() -> impl Strategy<Value = Message> {
    let install = (number(), position(), command()).prop_map(|(round, last, data)| {
        Body::Install(Install { checkpoint: Checkpoint { last, data }, round: Round(round) })
    });
    let body = prop_oneof![
        position().prop_map(|last| Body::PreVote { last }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        position().prop_map(|last| Body::Vote { last }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        append(),
        reply(),
        install,
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
    fn any_bytes_are_answered(kind in 0..10u8, mut bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        bytes.splice(0..0, [1, kind]);
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
    let mut bytes = vec![1, 5, 1, 2, 3, 0, 0, 0, 0];
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0xff, 0x0f]);
    let error = codec::decode(bytes.into()).unwrap_err();
    assert_eq!(error.to_string(), "malformed raft message: more entries than bytes");
}
