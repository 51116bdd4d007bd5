//! What the table of sessions promises, by itself.

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

fn caller(client: ClientId, number: u64, floor: u64) -> Caller {
    Caller { client, number: CallNumber(number), floor: CallNumber(floor) }
}

/// Applies a call whose reply is the place that it was first applied at.
fn call(sessions: &mut Sessions, index: u64, caller: Caller) -> Result<u64, Error> {
    call_at(sessions, index, 0, caller)
}

fn call_at(sessions: &mut Sessions, index: u64, stamp: u64, caller: Caller) -> Result<u64, Error> {
    let reply = || Bytes::copy_from_slice(&index.to_le_bytes());
    sessions.call(Index(index), LogTime(stamp), caller, reply).map(|mut reply| reply.get_u64_le())
}

#[test]
fn each_try_of_a_call_gets_the_reply_of_the_first() {
    let mut sessions = Sessions::default();
    let client = sessions.enrol(Index(5), LogTime(0));
    assert_eq!(client, ClientId(5));
    assert_eq!(call(&mut sessions, 6, caller(client, 1, 1)), Ok(6));
    assert_eq!(call(&mut sessions, 7, caller(client, 2, 1)), Ok(7));
    assert_eq!(call(&mut sessions, 8, caller(client, 1, 1)), Ok(6));
    // Out of order, as calls under way together come.
    assert_eq!(call(&mut sessions, 9, caller(client, 4, 1)), Ok(9));
    assert_eq!(call(&mut sessions, 10, caller(client, 3, 1)), Ok(10));
    assert_eq!(call(&mut sessions, 11, caller(client, 4, 1)), Ok(9));
}

#[test]
fn a_late_try_of_an_answered_call_is_refused_and_not_applied() {
    let mut sessions = Sessions::default();
    let client = sessions.enrol(Index(1), LogTime(0));
    assert_eq!(call(&mut sessions, 2, caller(client, 1, 1)), Ok(2));
    assert_eq!(call(&mut sessions, 3, caller(client, 2, 2)), Ok(3));
    assert_eq!(call(&mut sessions, 4, caller(client, 1, 1)), Err(Error::Spent));
    assert_eq!(call(&mut sessions, 5, caller(client, 2, 2)), Ok(3));
    assert_eq!(sessions.bytes, 8 + OVERHEAD, "the reply below the floor was forgotten");
    let far = caller(client, 2 + WINDOW, 2);
    assert_eq!(call(&mut sessions, 6, far), Err(Error::Spent), "replies without bound");
}

#[test]
fn a_call_of_a_session_that_is_gone_is_refused_and_not_applied() {
    let mut sessions = Sessions::default();
    let first = sessions.enrol(Index(1), LogTime(0));
    for index in 2..=SESSIONS as u64 {
        sessions.enrol(Index(index), LogTime(0));
    }
    // Used, so the second is the oldest now.
    assert_eq!(call(&mut sessions, 20_000, caller(first, 1, 1)), Ok(20_000));
    sessions.enrol(Index(20_001), LogTime(0));
    assert_eq!(sessions.len(), SESSIONS);
    assert_eq!(call(&mut sessions, 20_002, caller(first, 1, 1)), Ok(20_000));
    let gone = caller(ClientId(2), 1, 1);
    assert_eq!(call(&mut sessions, 20_003, gone), Err(Error::Expired));
    assert_eq!(call(&mut sessions, 20_004, caller(ClientId(777_777), 1, 1)), Err(Error::Expired));
}

#[test]
fn a_session_unused_for_an_hour_of_log_time_is_over() {
    let mut sessions = Sessions::default();
    let (idle, busy) =
        (sessions.enrol(Index(1), LogTime(10)), sessions.enrol(Index(2), LogTime(10)));
    assert_eq!(call_at(&mut sessions, 3, 10 + IDLE, caller(busy, 1, 1)), Ok(3));
    assert_eq!(sessions.len(), 2, "an hour is not yet over");
    // A leader that counts less does not turn log time back.
    assert_eq!(call_at(&mut sessions, 4, 5, caller(busy, 2, 1)), Ok(4));
    assert_eq!(call_at(&mut sessions, 5, 11 + IDLE, caller(busy, 3, 1)), Ok(5));
    assert_eq!(call_at(&mut sessions, 6, 11 + IDLE, caller(idle, 1, 1)), Err(Error::Expired));
}

#[test]
fn replies_take_no_more_room_than_they_may() {
    let mut sessions = Sessions::default();
    let clients: Vec<_> = (1..=40).map(|index| sessions.enrol(Index(index), LogTime(0))).collect();
    for (client, index) in clients.iter().zip(100..) {
        let large = || Bytes::from(vec![1; 1 << 20]);
        sessions.call(Index(index), LogTime(0), caller(*client, 1, 1), large).unwrap();
        assert!(sessions.bytes <= REPLY_BYTES);
    }
    assert_eq!(call(&mut sessions, 500, caller(clients[0], 1, 1)), Err(Error::Expired));
    let kept = Cell::new(true);
    let again = || {
        kept.set(false);
        Bytes::new()
    };
    sessions.call(Index(501), LogTime(0), caller(clients[39], 1, 1), again).unwrap();
    assert!(kept.get(), "the newest reply is still known");
}

proptest! {
    #[test]
    fn a_table_is_read_back_and_goes_on_alike(
        steps in proptest::collection::vec((0_u64..6, 1_u64..8, 0_u64..8, 0_u64..IDLE), 1..80),
    ) {
        let mut one = Sessions::default();
        let (mut index, mut stamp) = (0, 0);
        let mut split = None;
        let middle = steps.len() / 2;
        for (at, (client, number, back, later)) in steps.into_iter().enumerate() {
            index += 1;
            stamp += later;
            if at == middle {
                split = Some(Sessions::decode(one.encode()).unwrap());
                prop_assert_eq!(split.as_ref(), Some(&one));
            }
            let act = |sessions: &mut Sessions| {
                if client == 0 {
                    return Ok(sessions.enrol(Index(index), LogTime(stamp)).0);
                }
                let caller = caller(ClientId(client), number, number.saturating_sub(back));
                call_at(sessions, index, stamp, caller)
            };
            let result = act(&mut one);
            if let Some(two) = &mut split {
                prop_assert_eq!(act(two), result);
                prop_assert_eq!(&*two, &one);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_table_are_refused_without_harm(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Sessions::decode(Bytes::from(bytes));
    }

    #[test]
    fn a_cut_table_is_refused(cut in 0_usize..100) {
        let mut sessions = Sessions::default();
        let client = sessions.enrol(Index(1), LogTime(3));
        call(&mut sessions, 2, caller(client, 1, 1)).unwrap();
        let whole = sessions.encode();
        prop_assume!(cut < whole.len());
        prop_assert!(Sessions::decode(whole.slice(..cut)).is_err());
    }
}
