//! What the simulator found: a read was answered by a round of an earlier term.

use std::time::Duration;

use raft::{
    Append, Body, Config, Effect, Event, HardState, Index, MemberId, Message, Node, Position,
    Round, Stored, Term,
};

/// A leader of term 3 asked round 7, and leads term 4 by now, with rounds of its own. The answer to the old question
/// arrives in term 4; it must not pass for an answer to round 7 of that term.
#[test]
fn an_answer_to_an_older_term_confirms_no_round_of_the_newer_one() {
    let voters: Vec<MemberId> = (1..=3).map(MemberId).collect();
    let hard = HardState { term: Term(4), ..HardState::default() };
    let stored = Stored { hard, ..Stored::default() };
    let mut node = Node::new(Config::new(MemberId(2), voters), 1, stored).unwrap();
    let append = Append {
        prev: Position::default(),
        entries: Vec::new(),
        commit: Index::ZERO,
        round: Round(7),
    };
    let (from, to) = (MemberId(3), MemberId(2));
    let message = Message { from, to, term: Term(3), body: Body::Append(append) };
    node.handle(Duration::ZERO, Event::Received(message));
    let replies: Vec<(Term, Round)> = std::iter::from_fn(|| node.poll())
        .filter_map(|effect| match effect {
            Effect::Send(Message { term, body: Body::AppendReply(reply), .. }) => {
                Some((term, reply.round))
            }
            _ => None,
        })
        .collect();
    assert_eq!(replies, [(Term(4), Round::ZERO)]);
}
