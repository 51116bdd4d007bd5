//! The rules of the state machine.

use super::{format, running, start, three};
use crate::{
    disk::{CHUNK, Fence},
    link::Known,
    map::{
        api::MapError,
        machine::{Command, MAIN, Map},
    },
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId},
};

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
    let heads: Vec<u64> = map.rows.iter().map(|row| row.chain[0].0).collect();
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
    assert_eq!(map.rows[0].chain, [ServerId(4)]);
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
fn one_clean_restart_waits_for_a_report_but_all_of_them_do_not() {
    let mut map = running();
    map.handle(Command::Register(start(1, 2, true))).unwrap();
    assert_eq!(equal(&map), 0, "its head may have had something in flight");
    map.handle(Command::Register(start(2, 2, true))).unwrap();
    map.handle(Command::Register(start(3, 2, true))).unwrap();
    assert_eq!(equal(&map), 8);
    map.handle(Command::Register(start(1, 3, true))).unwrap();
    assert_eq!(equal(&map), 0, "clean starts count since the members were last equal");
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

#[test]
fn an_expired_start_is_cut_off_until_the_server_starts_again() {
    let mut map = running();
    let (server, incarnation) = (ServerId(3), Incarnation(1));
    map.handle(Command::Expire { server, incarnation }).unwrap();
    assert!(!map.is_current(server, incarnation));
    assert!(map.rows.iter().all(|row| row.version == ChainVersion(5) && !row.equal));
    let again = map.handle(Command::Register(start(3, 1, true)));
    assert_eq!(again, Err(MapError::Superseded(server)));
    let before = map.clone();
    map.handle(Command::Expire { server, incarnation }).unwrap();
    assert_eq!(map, before);
    assert_eq!(map.handle(Command::Register(start(3, 2, true))), Ok(2));
    assert!(map.is_current(server, Incarnation(2)));
    assert_eq!(equal(&map), 0, "what was cut off is made equal by the heads");
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
    assert_eq!(news.chains[0].members[1].incarnation, Incarnation(2));
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
