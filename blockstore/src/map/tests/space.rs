//! Space that sessions are granted: never more to all of them than the servers have, and nothing stays with who is gone.

use std::time::Duration;

use futures_util::FutureExt;
use proptest::prelude::{any, prop, proptest};
use world::Time;

use super::{running, service, start};
use crate::{
    disk::{Fence, Space, SpaceAsk},
    link::Known,
    map::{MapService, machine::Command},
    place::{Incarnation, ServerId},
};

fn ask(least: u64, most: u64) -> SpaceAsk {
    SpaceAsk { spent: 0, holds: u64::MAX, least, most }
}

proptest! {
    #[test]
    fn all_grants_together_are_never_more_than_the_room(
        room in 0..10_000_u64,
        asks in prop::collection::vec((1..6_u64, 0..4000_u64, 0..4000_u64, any::<bool>()), 1..60),
    ) {
        let mut map = running();
        for (session, least, more, ends) in asks {
            let session = Fence(session);
            let before = map.grants.get(&session).copied();
            if ends && !map.fenced.contains(&session) {
                map.handle(Command::Grant { session, ask: ask(0, 0), room }).unwrap();
                assert_eq!(map.grants.get(&session), None, "who wants nothing has nothing");
                continue;
            }
            let ask = ask(least, least + more);
            let share = map.handle(Command::Grant { session, ask, room }).unwrap();
            assert!(share <= ask.most);
            if share < least {
                assert_eq!(map.grants.get(&session).copied(), before, "it keeps what it holds");
            } else {
                assert_eq!(map.grants.get(&session).copied().unwrap_or(0), share);
            }
            let all: u64 = map.grants.values().sum();
            assert!(all <= room, "{all} granted of {room}");
            let others = all - map.grants.get(&session).copied().unwrap_or(0);
            assert_eq!(share < least, least > room - others, "what there is, is granted");
        }
    }
}

#[test]
fn what_a_session_used_of_its_grant_does_not_count_as_held_any_more() {
    let mut map = running();
    let mut grant = |holds, least, room| {
        let ask = SpaceAsk { spent: 0, holds, least, most: least };
        map.handle(Command::Grant { session: Fence(1), ask, room })
    };
    assert_eq!(grant(0, 90, 100), Ok(90));
    // It has written 80 of them: the servers have room for 20.
    assert_eq!(grant(10, 30, 20), Ok(10), "no more, and it keeps what it holds");
    assert_eq!(grant(10, 30, 20), Ok(10), "however often it asks");
    assert_eq!(grant(10, 20, 20), Ok(20));
}

#[test]
fn a_fenced_session_gives_its_space_back_and_gets_none() {
    let mut map = running();
    let grant = |session, least| Command::Grant {
        session: Fence(session),
        ask: ask(least, least),
        room: 100,
    };
    assert_eq!(map.handle(grant(1, 90)), Ok(90));
    assert_eq!(map.handle(grant(2, 20)), Ok(0), "ten are left");
    map.handle(Command::Fence(Fence(1))).unwrap();
    assert_eq!(map.handle(grant(2, 20)), Ok(20));
    assert_eq!(map.handle(grant(1, 5)), Ok(0));
}

#[test]
fn room_ends_with_the_first_server_that_is_full_by_its_weight() {
    let mut map = running();
    let free = |bytes: [u64; 3]| {
        move |id: ServerId, _: &_| Space { total: 0, free: bytes[id.0 as usize - 1] }
    };
    assert_eq!(map.room(free([500, 400, 900])), 400, "each has a copy of all");
    map.replication = 1;
    assert_eq!(map.room(free([500, 400, 900])), 1200, "each gets a third");
    map.servers.values_mut().next().unwrap().weight *= 2;
    assert_eq!(map.room(free([500, 400, 900])), 1000, "the first gets a half");
    map.servers.values_mut().next().unwrap().up = false;
    assert_eq!(map.room(free([500, 400, 900])), 1000, "a server that is down comes back");
    map.servers.values_mut().next().unwrap().draining = true;
    assert_eq!(map.room(free([500, 400, 900])), 800, "one that leaves takes nothing");
}

#[tokio::test]
async fn what_was_just_written_is_not_granted_again_while_servers_still_count_it_as_free() {
    let (clock, map) = service::solo();
    service::three_up(&map).await;
    // Each server says that 50 are free, of which one is kept.
    let reserve = |session, spent, least| {
        map.reserve(
            Fence(session),
            SpaceAsk { spent, holds: least, least, most: least },
            Time::NEVER,
        )
    };
    assert_eq!(reserve(1, 0, 40).await, Ok(40));
    assert_eq!(reserve(2, 0, 10).await, Ok(0), "nine are left");
    // The first has written 30 of them, and the servers have not said so yet.
    assert_eq!(reserve(1, 30, 10).await, Ok(10));
    assert_eq!(reserve(2, 0, 10).await, Ok(0), "the thirty are on the disk");
    clock.advance(service::LEASE);
    assert_eq!(reserve(2, 0, 10).await, Ok(10), "by now they would have said so");
}

#[tokio::test]
async fn a_new_leader_hears_how_much_space_there_is_before_it_grants_any() {
    let (_, map) = service::solo();
    service::three_up(&map).await;
    map.forget_leases();
    let ask = ask(40, 40);
    let mut grant = map.reserve(Fence(1), ask, Time::NEVER);
    assert!(grant.as_mut().now_or_never().is_none());
    for server in [1, 2, 3].map(ServerId) {
        let (start, known) = (Incarnation(1), Known { map: u64::MAX, fences: 0 });
        map.confirm(server, start, 0, Time::NEVER).await.unwrap();
        assert!(map.news(server, start, known, Time::NEVER).now_or_never().is_none());
    }
    assert!(grant.as_mut().now_or_never().is_none(), "nobody has told its space");
    for server in 1..=3 {
        let beat = service::beat(server, 1, Known::default(), 0);
        map.heartbeat(beat, Time::NEVER).await.unwrap();
    }
    assert_eq!(grant.await, Ok(40));
}

#[tokio::test]
async fn a_server_that_says_nothing_of_its_space_counts_with_that_of_its_start() {
    let (clock, map) = service::solo();
    service::three_up(&map).await;
    map.forget_leases();
    for server in [1, 2, 3].map(ServerId) {
        map.confirm(server, Incarnation(1), 0, Time::NEVER).await.unwrap();
    }
    let all = start(1, 1, true).space.grantable();
    let mut grant = map.reserve(Fence(1), ask(all, all), Time::NEVER);
    assert!(grant.as_mut().now_or_never().is_none());
    clock.advance(service::LEASE);
    assert_eq!(grant.await, Ok(all));
}

#[tokio::test]
async fn a_session_that_ended_without_a_word_loses_its_grant_and_one_that_asks_keeps_it() {
    let (clock, map) = service::solo();
    service::three_up(&map).await;
    let reserve = |session, least| map.reserve(Fence(session), ask(least, least), Time::NEVER);
    assert_eq!(reserve(1, 20).await, Ok(20));
    assert_eq!(reserve(2, 20).await, Ok(20));
    for _ in 0..7 {
        clock.advance(Duration::from_secs(10));
        assert_eq!(reserve(2, 20).await, Ok(20));
        map.look_after().await.unwrap();
    }
    assert_eq!(reserve(3, 29).await, Ok(29), "what the first had is free again");
    assert_eq!(reserve(4, 1).await, Ok(0), "what the second has is not");
}
