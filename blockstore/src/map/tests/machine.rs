//! The rules of the state machine.

use super::{format, running, start, three};
use crate::{
    disk::{CHUNK, Fence},
    link::{Known, Past, Registration, Standing},
    map::{
        api::{Change, MapError},
        machine::{Command, MAIN, Map},
    },
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId},
};

fn members(map: &Map, group: usize) -> Vec<u64> {
    map.rows[group].chain.iter().map(|seat| seat.server.0).collect()
}

/// The head of a group reports that its members are equal, and that its joiner is ready.
pub(super) fn advance(map: &mut Map, group: u32) {
    let chain = map.chart().chains.swap_remove(group as usize);
    let head = &chain.members[0];
    let (server, incarnation) = (head.server, head.incarnation);
    let groups = vec![(Group(group), chain.version)];
    map.handle(Command::Equal { server, incarnation, groups }).unwrap();
    if let Some(joiner) = chain.joiner {
        let groups = vec![(Group(group), chain.version, joiner.server)];
        map.handle(Command::Ready { server, incarnation, groups }).unwrap();
    }
}

/// Lets all joiners come in and all heads report until nothing changes any more.
pub(super) fn finish(map: &mut Map) {
    loop {
        let before = map.version;
        for group in 0..map.rows.len() {
            advance(map, u32::try_from(group).unwrap());
        }
        if map.version == before {
            return;
        }
    }
}

fn equal(map: &Map) -> usize {
    map.rows.iter().filter(|row| row.equal).count()
}

fn report(map: &mut Map, server: u64, incarnation: u64) -> Result<u64, MapError> {
    let groups = (0_u32..).zip(&map.rows).map(|(group, row)| (Group(group), row.version));
    let groups = groups.collect();
    let (server, incarnation) = (ServerId(server), Incarnation(incarnation));
    map.handle(Command::Equal { server, incarnation, groups })
}

#[test]
fn chains_rotate_over_the_servers_so_that_each_heads_a_share() {
    let map = running();
    let heads: Vec<u64> = map.rows.iter().map(|row| row.chain[0].server.0).collect();
    assert_eq!(heads, [1, 2, 3, 1, 2, 3, 1, 2]);
    assert!(map.rows.iter().all(|row| row.chain.len() == 3));
}

#[test]
fn more_copies_than_servers_are_as_many_as_servers() {
    let mut map = Map::new();
    let servers = [ServerId(4)].into();
    let format = Command::Format { cluster: 7, servers, replication: 3, bits: GroupBits(0) };
    map.handle(format).unwrap();
    assert_eq!(map.chart().replication, 1);
    assert_eq!(members(&map, 0), [4]);
}

#[test]
fn formatting_again_changes_nothing_and_another_cluster_is_refused() {
    let mut map = running();
    let before = map.clone();
    map.handle(format()).unwrap();
    assert_eq!(map, before);
    let other =
        Command::Format { cluster: 8, servers: three(), replication: 3, bits: GroupBits(3) };
    assert!(matches!(map.handle(other), Err(MapError::Refused(_))));
    assert_eq!(map, before);
}

#[test]
fn nothing_happens_before_the_map_is_formatted() {
    let mut map = Map::new();
    assert_eq!(map.handle(Command::Fence(Fence(1))), Err(MapError::NotFormatted));
}

#[test]
fn clean_first_starts_of_all_members_serve_at_once() {
    let map = running();
    assert_eq!(equal(&map), 8);
    assert!(map.rows.iter().all(|row| row.version == ChainVersion(4)));
}

#[test]
fn an_unclean_start_raises_the_version_and_waits_for_the_heads_report() {
    let mut map = running();
    assert_eq!(map.handle(Command::Register(start(2, 2, false))), Ok(2));
    assert!(map.rows.iter().all(|row| row.version == ChainVersion(5)));
    assert_eq!(equal(&map), 0);
    report(&mut map, 1, 1).unwrap();
    assert_eq!(equal(&map), 3, "server 1 heads three of eight");
    assert_eq!(report(&mut map, 2, 1), Err(MapError::Superseded(ServerId(2))));
    report(&mut map, 2, 2).unwrap();
    report(&mut map, 3, 1).unwrap();
    assert_eq!(equal(&map), 8);
    assert!(map.rows.iter().all(|row| row.version == ChainVersion(5)));
}

#[test]
fn a_report_about_an_older_version_does_not_count() {
    let mut map = running();
    map.handle(Command::Register(start(2, 2, false))).unwrap();
    let groups = vec![(Group(0), ChainVersion(4)), (Group(99), ChainVersion(5))];
    let (server, incarnation) = (ServerId(1), Incarnation(1));
    map.handle(Command::Equal { server, incarnation, groups }).unwrap();
    assert_eq!(equal(&map), 0);
}

#[test]
fn clean_restarts_of_all_wait_for_a_report_because_the_chain_may_have_served_between_them() {
    let mut map = running();
    for server in 1..=3 {
        map.handle(Command::Register(start(server, 2, true))).unwrap();
        assert_eq!(equal(&map), 0, "its head may have had something in flight");
    }
    assert!(map.rows.iter().all(|row| row.intact == ChainVersion(0)), "but nothing was lost");
    for server in 1..=3 {
        report(&mut map, server, 2).unwrap();
    }
    assert_eq!(equal(&map), 8);
}

#[test]
fn one_unclean_restart_among_clean_ones_waits_for_a_report() {
    let mut map = running();
    map.handle(Command::Register(start(1, 2, true))).unwrap();
    map.handle(Command::Register(start(2, 2, false))).unwrap();
    map.handle(Command::Register(start(3, 2, true))).unwrap();
    map.handle(Command::Register(start(2, 3, true))).unwrap();
    assert_eq!(equal(&map), 0);
}

#[test]
fn a_repeated_registration_of_one_start_has_one_incarnation() {
    let mut map = running();
    assert_eq!(map.handle(Command::Register(start(2, 2, false))), Ok(2));
    let before = map.clone();
    assert_eq!(map.handle(Command::Register(start(2, 2, false))), Ok(2));
    assert_eq!(map, before);
}

#[test]
fn strangers_and_other_directories_are_refused() {
    let mut map = running();
    let before = map.clone();
    let stranger = map.handle(Command::Register(start(9, 1, true)));
    assert!(matches!(stranger, Err(MapError::Refused(text)) if text.contains("block server 9")));
    let mut other = start(2, 2, true);
    other.directory += 1;
    assert!(matches!(map.handle(Command::Register(other)), Err(MapError::Refused(_))));
    assert_eq!(map, before);
}

/// Server 2 on a new disk with nothing on it.
fn emptied(past: Past) -> Command {
    let mut registration = start(2, 9, false);
    registration.directory += 1;
    Command::Register(Registration { past, ..registration })
}

#[test]
fn a_server_whose_disk_was_replaced_by_an_empty_one_is_brought_everything() {
    let mut map = running();
    let early = map.handle(emptied(Past::Nothing));
    assert!(matches!(early, Err(MapError::NotYet(_))), "its last start may live: {early:?}");
    let (server, incarnation) = (ServerId(2), Incarnation(1));
    map.handle(Command::Expire { server, incarnation }).unwrap();
    let before = map.clone();
    for past in [Past::Lost, Past::Clean] {
        let other = map.handle(emptied(past));
        assert!(matches!(other, Err(MapError::Refused(_))), "it is some other disk: {other:?}");
    }
    assert_eq!(map, before);
    assert_eq!(map.handle(emptied(Past::Nothing)), Ok(2));
    for group in 0..map.rows.len() {
        assert!(!members(&map, group).contains(&2), "it has nothing of group {group} yet");
        assert_eq!(map.rows[group].spare, [ServerId(2)]);
    }
    finish(&mut map);
    for group in 0..map.rows.len() {
        assert_eq!(members(&map, group).len(), 3);
    }
    let back = map.handle(Command::Register(start(2, 10, false)));
    assert!(matches!(back, Err(MapError::Refused(_))), "the old disk is another one now: {back:?}");
}

#[test]
fn an_empty_disk_does_not_take_the_place_of_the_only_copy() {
    let mut map = running();
    for server in [1, 3, 2] {
        map.handle(Command::Expire { server: ServerId(server), incarnation: Incarnation(1) })
            .unwrap();
    }
    let refused = map.handle(emptied(Past::Nothing));
    assert!(
        matches!(&refused, Err(MapError::Refused(why)) if why.contains("only copy")),
        "{refused:?}"
    );
}

#[test]
fn a_server_that_held_nothing_on_its_disk_may_have_lost_what_was_acknowledged() {
    let mut map = running();
    let nothing = Registration { past: Past::Nothing, ..start(2, 2, false) };
    map.handle(Command::Register(nothing)).unwrap();
    assert!(map.rows.iter().all(|row| row.seat(ServerId(2)).unwrap().standing == Standing::Stale));
}

#[test]
fn a_server_whose_lease_ran_out_is_cut_from_its_chains_and_comes_back_at_their_tails() {
    let mut map = running();
    let (server, incarnation) = (ServerId(3), Incarnation(1));
    map.handle(Command::Expire { server, incarnation }).unwrap();
    assert!(!map.is_current(server, incarnation));
    assert!(map.rows.iter().all(|row| row.version == ChainVersion(5) && !row.equal));
    assert!(map.rows.iter().all(|row| row.seat(server).is_none() && row.spare == [server]));
    let again = map.handle(Command::Register(start(3, 1, true)));
    assert_eq!(again, Err(MapError::Expired(server)));
    let before = map.clone();
    map.handle(Command::Expire { server, incarnation }).unwrap();
    assert_eq!(map, before);
    report(&mut map, 1, 1).unwrap();
    report(&mut map, 2, 1).unwrap();
    assert_eq!(equal(&map), 8, "the survivors go on");
    assert_eq!(map.handle(Command::Register(start(3, 2, true))), Ok(2));
    assert_eq!(equal(&map), 8, "who is outside does not stop them");
    let chain = map.chart().chains[0].clone();
    assert_eq!(chain.joiner.map(|member| member.server), Some(server));
    let groups = vec![(Group(0), ChainVersion(5), server)];
    let (server, incarnation) = (ServerId(1), Incarnation(1));
    map.handle(Command::Ready { server, incarnation, groups }).unwrap();
    assert_eq!(members(&map, 0), [1, 2, 3]);
    assert!(!map.rows[0].equal && map.rows[0].version == ChainVersion(6));
    assert_eq!(map.rows[0].chain[2].standing, Standing::Syncing);
    report(&mut map, 1, 1).unwrap();
    assert!(map.rows[0].equal && map.rows[0].chain[2].standing == Standing::Serving);
    assert_eq!(map.rows[0].intact, ChainVersion(0), "nothing was lost on the way");
}

#[test]
fn the_last_member_that_has_the_data_is_never_cut() {
    let mut map = running();
    for server in 1..=3 {
        let incarnation = Incarnation(1);
        map.handle(Command::Expire { server: ServerId(server), incarnation }).unwrap();
    }
    for group in 0..8 {
        assert_eq!(members(&map, group).len(), 1, "the last one stays");
    }
    // Those that were cut first come back: nothing is taken from them.
    map.handle(Command::Register(start(1, 2, false))).unwrap();
    map.handle(Command::Register(start(2, 2, false))).unwrap();
    assert!(map.rows.iter().all(|row| row.chain.len() == 1 && row.chain[0].server.0 == 3));
    let forsake = Command::Forsake { server: ServerId(3), incarnation: Incarnation(1) };
    map.handle(forsake).unwrap();
    assert!(map.rows.iter().all(|row| row.chain.len() == 1));
    let remove = Command::Change(Change::Remove(ServerId(3)));
    assert!(matches!(map.handle(remove), Err(MapError::Refused(text)) if text.contains("only")));
}

#[test]
fn a_member_that_is_down_is_waited_for_while_all_others_started_anew_and_then_forsaken() {
    let mut map = running();
    map.handle(Command::Register(start(1, 2, false))).unwrap();
    map.handle(Command::Register(start(2, 2, false))).unwrap();
    let (server, incarnation) = (ServerId(3), Incarnation(1));
    map.handle(Command::Expire { server, incarnation }).unwrap();
    assert!(map.rows.iter().all(|row| row.seat(server).is_some()), "it may have the newest bytes");
    assert!(map.rows.iter().all(|row| row.intact == ChainVersion(0)));
    map.handle(Command::Forsake { server, incarnation }).unwrap();
    assert!(map.rows.iter().all(|row| row.seat(server).is_none()));
    assert!(map.rows.iter().all(|row| row.intact == row.version), "clients must write again");
}

#[test]
fn a_drained_server_leaves_only_when_another_has_taken_its_place() {
    let mut map = running();
    let drain = || Command::Change(Change::Drain(ServerId(2)));
    assert!(matches!(map.handle(drain()), Err(MapError::Refused(text)) if text.contains("add")));
    let add = Change::Add { server: ServerId(4), weight: 100, domain: String::new() };
    map.handle(Command::Change(add)).unwrap();
    map.handle(Command::Register(start(4, 1, true))).unwrap();
    map.handle(drain()).unwrap();
    assert!(map.rows.iter().all(|row| row.seat(ServerId(2)).is_some()));
    finish(&mut map);
    assert!(map.rows.iter().all(|row| row.seat(ServerId(2)).is_none() && row.chain.len() == 3));
    assert!(map.news(ServerId(2), Known::default()).chains.len() == 8, "it hears that it is out");
    map.handle(Command::Change(Change::Remove(ServerId(2)))).unwrap();
    assert!(matches!(
        map.handle(Command::Register(start(2, 9, true))),
        Err(MapError::Refused(text)) if text.contains("server add")
    ));
}

#[test]
fn a_server_that_keeps_chains_is_not_removed() {
    let mut map = running();
    let remove = Command::Change(Change::Remove(ServerId(2)));
    assert!(matches!(map.handle(remove), Err(MapError::Refused(text)) if text.contains("drain")));
}

#[test]
fn a_server_that_never_came_is_cut_off_from_what_the_others_keep() {
    let mut map = Map::new();
    map.handle(format()).unwrap();
    map.handle(Command::Register(start(1, 1, true))).unwrap();
    map.handle(Command::Register(start(2, 1, true))).unwrap();
    assert!(map.chart().chains.is_empty());
    let (server, incarnation) = (ServerId(3), Incarnation(0));
    map.handle(Command::Expire { server, incarnation }).unwrap();
    assert_eq!(map.chart().chains.len(), 8);
    assert!(map.rows.iter().all(|row| row.chain.len() == 2));
}

#[test]
fn a_fence_has_one_number_however_often_it_is_asked_for() {
    let mut map = running();
    assert_eq!(map.handle(Command::Fence(Fence(50))), Ok(1));
    assert_eq!(map.handle(Command::Fence(Fence(40))), Ok(2));
    assert_eq!(map.handle(Command::Fence(Fence(50))), Ok(1));
    let news = map.news(ServerId(1), Known { map: map.version, fences: 1 });
    assert_eq!(news.fenced, [Fence(40)]);
    assert_eq!(news.known.fences, 2);
    assert!(news.chains.is_empty());
    assert_eq!(map.news(ServerId(1), Known::default()).fenced, [Fence(50), Fence(40)]);
}

#[test]
fn news_are_the_rows_that_changed_and_only_whole_chains() {
    let mut map = Map::new();
    map.handle(format()).unwrap();
    map.handle(Command::Register(start(1, 1, true))).unwrap();
    assert!(map.news(ServerId(1), Known::default()).chains.is_empty());
    assert_eq!(map.chart().absent, [ServerId(2), ServerId(3)]);
    map.handle(Command::Register(start(2, 1, true))).unwrap();
    map.handle(Command::Register(start(3, 1, true))).unwrap();
    let known = map.known();
    assert_eq!(map.news(ServerId(1), Known::default()).chains.len(), 8);
    map.handle(Command::Register(start(3, 2, false))).unwrap();
    let groups = vec![(Group(1), ChainVersion(5))];
    let after = map.known();
    let (server, incarnation) = (ServerId(2), Incarnation(1));
    map.handle(Command::Equal { server, incarnation, groups }).unwrap();
    assert_eq!(map.news(ServerId(1), known).chains.len(), 8);
    let news = map.news(ServerId(1), after);
    assert_eq!(news.chains.len(), 1);
    assert!(news.chains[0].equal && news.chains[0].group == Group(1));
    assert_eq!(news.chains[0].members[2].incarnation, Incarnation(2));
}

#[test]
fn the_chart_finds_the_chain_of_every_byte() {
    let chart = running().chart();
    for chunk in 0..100 {
        let group = chart.group_of(MAIN, chunk * CHUNK + 5);
        assert_eq!(chart.chain(group).unwrap().group, group);
    }
    assert!(chart.chain(Group(8)).is_none());
}
