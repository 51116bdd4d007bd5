//! The rules of a chain, one by one, without disk, network or time.

use super::*;
use crate::{
    message::{Discard, Writer, page_sums},
    place::{Group, Sequence},
};

const V1: ChainVersion = ChainVersion(1);

fn chain(version: u64, equal: bool) -> Chain {
    let member = |server| Member {
        server: ServerId(server),
        incarnation: Incarnation(server * 10),
        address: world::Address::Unix("/x".into()),
        standing: Standing::Serving,
    };
    Chain {
        group: Group(3),
        version: ChainVersion(version),
        members: vec![member(1), member(2), member(3)],
        equal,
        intact: ChainVersion(0),
        joiner: None,
        spare: Vec::new(),
    }
}

fn member(server: u64) -> Machine {
    let mut machine = Machine::new(ServerId(server), Incarnation(server * 10));
    assert!(machine.install(chain(1, true)));
    machine
}

fn serve(machine: &mut Machine, chain: ChainVersion, seen: &[Seen]) {
    machine.settle(chain, seen).unwrap();
    machine.serve(chain).unwrap();
}

fn none(_: BlockId) -> Result<BlockVersion, Refusal> {
    panic!("the write has no condition")
}

fn ticket(sequence: u64, floor: u64) -> Ticket {
    let writer = Writer { session: Fence(9), client: 4 };
    Ticket { writer, sequence: Sequence(sequence), floor: Sequence(floor) }
}

fn write(offset: u64) -> Change {
    let body = vec![1; 4096];
    Change::Write(Write {
        volume: Volume(1),
        offset,
        durable: false,
        condition: None,
        sums: page_sums(offset, &body),
        body: body.into(),
    })
}

#[test]
fn the_head_orders_and_a_retry_is_recognized_until_and_after_it_is_done() {
    let mut head = member(1);
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), Admission::New(Order(1)));
    assert_eq!(head.admit(V1, &ticket(2, 1), &write(4096), false, none), Admission::New(Order(2)));
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), Admission::Wait(Order(1)));
    head.settled(V1, Order(1));
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), Admission::Done);
    assert_eq!(head.admit(V1, &ticket(3, 2), &write(0), false, none), Admission::New(Order(3)));
    let answered = Admission::Refused(Refusal::Answered);
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), answered);
}

#[test]
fn only_the_head_admits_and_only_at_the_chain_version_that_it_has() {
    let stale = Admission::Refused(Refusal::Stale(V1));
    assert_eq!(member(1).admit(ChainVersion(2), &ticket(1, 1), &write(0), false, none), stale);
    let misplaced = Admission::Refused(Refusal::Misplaced);
    assert_eq!(member(2).admit(V1, &ticket(1, 1), &write(0), false, none), misplaced);
    let mut other_start = Machine::new(ServerId(1), Incarnation(99));
    other_start.install(chain(1, true));
    assert_eq!(other_start.admit(V1, &ticket(1, 1), &write(0), false, none), stale);
}

#[test]
fn a_member_applies_in_order_and_knows_what_it_has() {
    let mut middle = member(2);
    assert_eq!(middle.receive(V1, Order(2), &ticket(2, 1), &write(0)), Receipt::Early);
    assert_eq!(middle.receive(V1, Order(1), &ticket(1, 1), &write(0)), Receipt::Apply);
    assert_eq!(middle.receive(V1, Order(1), &ticket(1, 1), &write(0)), Receipt::Known);
    assert_eq!(middle.receive(V1, Order(2), &ticket(2, 1), &write(0)), Receipt::Apply);
    let misplaced = Receipt::Refused(Refusal::Misplaced);
    assert_eq!(member(1).receive(V1, Order(1), &ticket(1, 1), &write(0)), misplaced);
}

#[test]
fn what_the_tail_may_not_have_is_dirty_and_the_tail_is_never_dirty() {
    let mut middle = member(2);
    middle.receive(V1, Order(1), &ticket(1, 1), &write(0));
    middle.receive(V1, Order(2), &ticket(2, 1), &write(8192));
    assert_eq!(middle.dirty(Volume(1), 0, 4096), Some(Order(1)));
    assert_eq!(middle.dirty(Volume(1), 4096, 4096), None);
    assert_eq!(middle.dirty(Volume(1), 0, 65536), Some(Order(2)));
    middle.reached_tail(Order(2));
    assert_eq!(middle.dirty(Volume(1), 0, 65536), None);
    let mut tail = member(3);
    tail.receive(V1, Order(1), &ticket(1, 1), &write(0));
    assert_eq!(tail.dirty(Volume(1), 0, 65536), None);
}

#[test]
fn a_later_answer_does_not_settle_an_earlier_mutation_that_must_be_durable() {
    let mut head = member(1);
    head.admit(V1, &ticket(1, 1), &write(0), false, none);
    head.admit(V1, &ticket(2, 1), &write(0), false, none);
    head.settled(V1, Order(2));
    assert!(head.is_open(V1, Order(1)));
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), Admission::Wait(Order(1)));
    assert_eq!(head.dirty(Volume(1), 0, 512), None, "the tail has both");
}

#[test]
fn a_fenced_session_is_refused_and_quiet_only_when_nothing_of_it_is_under_way() {
    let mut head = member(1);
    head.admit(V1, &ticket(1, 1), &write(0), false, none);
    assert!(!head.is_quiet(Fence(9)));
    let fenced = Admission::Refused(Refusal::Fenced(Fence(9)));
    assert_eq!(head.admit(V1, &ticket(2, 1), &write(0), true, none), fenced);
    head.settled(V1, Order(1));
    assert!(head.is_quiet(Fence(9)));
    head.install(chain(2, false));
    assert!(head.is_quiet(Fence(9)), "nothing is read before what it inherits is settled");
    serve(&mut head, ChainVersion(2), &[]);
    assert!(head.is_quiet(Fence(9)));
}

#[test]
fn a_new_chain_version_serves_only_when_its_members_are_equal_and_remembers_writes() {
    let mut head = member(1);
    head.admit(V1, &ticket(1, 1), &write(0), false, none);
    let discard = Change::Discard(Discard { volume: Volume(1), offset: 0, length: 4096 });
    head.admit(V1, &ticket(2, 1), &discard, false, none);
    assert!(head.install(chain(2, false)));
    assert!(!head.install(chain(1, true)), "an old row changes nothing");
    assert!(!head.is_open(V1, Order(1)));
    let version = BlockVersion { chain: V1, order: Order(2) };
    let swept = Swept { volume: Volume(1), first: 0, last: 4095, version };
    assert_eq!(head.swept(), [swept], "others may not have it, and it may have left no block");
    let v2 = ChainVersion(2);
    let refused = Admission::Refused(Refusal::NotReady);
    assert_eq!(head.admit(v2, &ticket(1, 1), &write(0), false, none), refused);
    let mut fresh = Machine::new(ServerId(2), Incarnation(20));
    fresh.install(chain(2, false));
    serve(&mut fresh, v2, &head.seen());
    serve(&mut head, v2, &[]);
    assert_eq!(head.admit(v2, &ticket(1, 1), &write(0), false, none), Admission::Done);
    assert_eq!(fresh.seen(), head.seen());
    assert!(head.swept().is_empty(), "all are equal");
    assert_eq!(head.admit(v2, &ticket(2, 1), &discard, false, none), Admission::Done);
}

#[test]
fn a_conditional_write_is_ordered_only_if_the_block_has_that_version_and_its_retry_is_done() {
    let version = |order| BlockVersion { chain: V1, order: Order(order) };
    let Change::Write(write) = write(4096) else { panic!("a write") };
    let change = Change::Write(Write { condition: Some(version(4)), ..write });
    let mut head = member(1);
    let other = head.admit(V1, &ticket(1, 1), &change, false, |_| Ok(version(5)));
    assert_eq!(other, Admission::Refused(Refusal::Changed(version(5))));
    let block = BlockId { volume: Volume(1), block: 0 };
    let asked = |of| {
        assert_eq!(of, block);
        Ok(version(4))
    };
    assert_eq!(head.admit(V1, &ticket(1, 1), &change, false, asked), Admission::New(Order(1)));
    head.settled(V1, Order(1));
    assert_eq!(head.admit(V1, &ticket(1, 1), &change, false, none), Admission::Done);
}

#[test]
fn who_was_cut_off_remembers_nothing_of_what_only_it_applied() {
    let mut head = member(1);
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), Admission::New(Order(1)));
    let mut without = chain(2, true);
    without.members.remove(0);
    head.install(without);
    assert_eq!(head.phase(), Phase::Out);
    assert!(head.seen().is_empty());
    let mut back = chain(3, false);
    back.members[0].standing = Standing::Syncing;
    back.members.rotate_left(1);
    head.install(back);
    assert!(head.seen().is_empty() && head.phase() == Phase::Equalizing);
}

#[test]
fn who_is_to_leave_serves_nothing_and_is_no_tail() {
    let mut row = chain(2, false);
    row.members[2].standing = Standing::Leaving;
    let (mut middle, mut last) = (member(2), member(3));
    middle.install(row.clone());
    last.install(row);
    assert_eq!(last.phase(), Phase::Leaving);
    assert_eq!(last.at(ChainVersion(2)), Ok(()), "it has heard of the version");
    assert_eq!(last.serves(ChainVersion(2)), Err(Refusal::NotReady));
    assert!(middle.is_tail() && middle.successor().is_none());
}

#[test]
fn a_server_that_goes_on_as_a_new_incarnation_remembers_what_is_under_way() {
    let mut head = member(1);
    assert_eq!(head.admit(V1, &ticket(1, 1), &write(0), false, none), Admission::New(Order(1)));
    head.reborn(Incarnation(11));
    assert!(!head.is_head() && head.serves(V1).is_err());
    let mut row = chain(2, false);
    row.members[0].incarnation = Incarnation(11);
    head.install(row);
    let v2 = ChainVersion(2);
    serve(&mut head, v2, &[]);
    assert_eq!(head.admit(v2, &ticket(1, 1), &write(0), false, none), Admission::Done);
}

#[test]
fn what_a_member_is_brought_takes_effect_together_with_what_is_remembered_of_writers() {
    let (v2, v3) = (ChainVersion(2), ChainVersion(3));
    let block = BlockId { volume: Volume(1), block: 0 };
    let content = BlockContent { pages: 1, ..BlockContent::default() };
    let mut middle = member(2);
    middle.install(chain(2, false));
    assert_eq!(middle.stage(block, content.clone()), None, "it has all that was acknowledged");
    // The head dies before all are equal: this member goes on with what it had.
    middle.install(chain(3, false));
    assert!(middle.settle(v3, &[]).unwrap().is_empty());
    let mut joiner = member(2);
    let mut row = chain(2, false);
    row.members[1].standing = Standing::Syncing;
    joiner.install(row);
    assert_eq!(joiner.stage(block, content.clone()), Some(content.clone()), "at once");
    let mut equal = member(2);
    equal.install(chain(2, false));
    equal.stage(block, content.clone());
    assert_eq!(equal.settle(v2, &[]).unwrap(), [(block, content)].into());
}
