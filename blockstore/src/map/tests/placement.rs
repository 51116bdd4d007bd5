//! Where replicas go, as properties of maps of many sizes.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

use super::{
    machine::{advance, finish},
    start,
};
use crate::{
    map::{
        api::Change,
        machine::{Command, Map},
    },
    place::{GroupBits, Incarnation, ServerId},
};

fn made(servers: u64, replication: u8, bits: u8) -> Map {
    let mut map = Map::new();
    let ids = (1..=servers).map(ServerId).collect();
    let bits = GroupBits(bits);
    map.handle(Command::Format { cluster: 7, servers: ids, replication, bits }).unwrap();
    for server in 1..=servers {
        map.handle(Command::Register(start(server, 1, true))).unwrap();
    }
    map
}

fn add(map: &mut Map, server: u64, weight: u32, domain: &str) {
    let (id, domain) = (ServerId(server), domain.to_owned());
    map.handle(Command::Change(Change::Add { server: id, weight, domain })).unwrap();
    map.handle(Command::Register(start(server, 1, true))).unwrap();
}

/// Members of each group, sorted.
fn sets(map: &Map) -> Vec<BTreeSet<ServerId>> {
    let set = |row: &super::super::machine::Row| {
        row.chain.iter().map(|seat| seat.server).chain(row.spare.iter().copied()).collect()
    };
    map.rows.iter().map(set).collect()
}

fn counts(map: &Map) -> BTreeMap<ServerId, f64> {
    let mut counts = BTreeMap::new();
    for server in map.rows.iter().flat_map(|row| &row.chain).map(|seat| seat.server) {
        *counts.entry(server).or_insert(0.0) += 1.0;
    }
    counts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn replicas_are_level_and_on_different_servers(servers in 1_u64..20, copies in 1_u8..=5) {
        let map = made(servers, copies, 8);
        let copies = u64::from(copies).min(servers);
        prop_assert!(sets(&map).iter().all(|set| set.len() as u64 == copies));
        let counts = counts(&map);
        let (least, most) = counts.values().fold((f64::MAX, 0.0_f64), |(a, b), n| (a.min(*n), b.max(*n)));
        prop_assert!(most - least <= 1.0, "{counts:?}");
    }

    #[test]
    fn a_new_server_takes_its_share_and_nothing_else_moves(
        servers in 3_u64..12, weight in prop::sample::select(vec![50_u32, 100, 200])
    ) {
        let mut map = made(servers, 3, 8);
        let before = sets(&map);
        add(&mut map, 99, weight, "");
        finish(&mut map);
        let after = sets(&map);
        let new = ServerId(99);
        let mut moved = 0;
        for (before, after) in before.iter().zip(&after) {
            prop_assert_eq!(after.len(), 3);
            let come: Vec<_> = after.difference(before).collect();
            prop_assert!(come.iter().all(|server| **server == new), "{come:?} moved besides");
            moved += come.len();
        }
        let total = 256.0 * 3.0;
        let weights = servers as f64 * 100.0 + f64::from(weight);
        let share = (total * f64::from(weight) / weights).min(256.0);
        prop_assert!((moved as f64 - share).abs() <= (share * 0.05).max(2.0), "{moved} for {share}");
    }

    #[test]
    fn weights_are_met_within_five_percent(weights in prop::collection::vec(1_u32..4, 5..8)) {
        // All but one server of the first three are added with their weights.
        let mut map = made(3, 3, 8);
        for (server, weight) in (10..).zip(&weights) {
            add(&mut map, server, weight * 50, "");
            finish(&mut map);
        }
        let counts = counts(&map);
        let total: f64 = map.servers.values().map(|server| f64::from(server.weight)).sum();
        for (id, server) in &map.servers {
            let share = 256.0 * 3.0 * f64::from(server.weight) / total;
            let has = counts.get(id).copied().unwrap_or_default();
            prop_assert!((has - share).abs() <= (share * 0.05).max(2.0), "{id}: {has} for {share}");
        }
    }

    #[test]
    fn a_dead_servers_groups_go_to_all_others_and_only_they_move(dead in 1_u64..=12) {
        let mut map = made(12, 3, 9);
        let before = sets(&map);
        let (server, incarnation) = (ServerId(dead), Incarnation(1));
        map.handle(Command::Expire { server, incarnation }).unwrap();
        finish(&mut map);
        map.handle(Command::Replace { server, incarnation }).unwrap();
        finish(&mut map);
        let mut takers = BTreeMap::<ServerId, u32>::new();
        for (before, after) in before.iter().zip(sets(&map)) {
            prop_assert_eq!(after.len(), 3);
            if before.contains(&server) {
                for taker in after.difference(before) {
                    *takers.entry(*taker).or_default() += 1;
                }
            } else {
                prop_assert_eq!(before, &after);
            }
        }
        prop_assert_eq!(takers.len(), 11, "{:?}", takers);
        prop_assert!(takers.values().all(|n| (6..=18).contains(n)), "{:?}", takers);
    }

    #[test]
    fn a_server_is_emptied_whatever_was_on_the_move_when_its_drain_began(
        before in prop::collection::vec(0_u32..32, 0..160), drained in 1_u64..=6, then in 1_u64..=6,
        between in prop::collection::vec(0_u32..32, 0..160),
    ) {
        let mut map = made(4, 3, 5);
        // While 5 and 6 take their shares.
        add(&mut map, 5, 100, "");
        add(&mut map, 6, 100, "");
        for group in before {
            advance(&mut map, group);
        }
        map.handle(Command::Change(Change::Drain(ServerId(drained)))).unwrap();
        for group in between {
            advance(&mut map, group);
        }
        map.handle(Command::Change(Change::Drain(ServerId(then)))).unwrap();
        finish(&mut map);
        for set in sets(&map) {
            prop_assert_eq!(set.len(), 3, "{:?}", set);
            prop_assert!(!set.contains(&ServerId(drained)) && !set.contains(&ServerId(then)));
        }
        let counts = counts(&map);
        let (least, most) = counts.values().fold((f64::MAX, 0.0_f64), |(a, b), n| (a.min(*n), b.max(*n)));
        prop_assert!(most - least <= 1.0, "{counts:?}");
    }

    #[test]
    fn copies_stay_in_different_domains(racks in 3_usize..6, seed in any::<u8>()) {
        let mut map = made(1, 1, 7);
        map.replication = 3;
        let name = |server: u64| format!("rack{}", (server as usize + usize::from(seed)) % racks);
        for server in 10..22 {
            add(&mut map, server, 100, &name(server));
        }
        finish(&mut map);
        map.handle(Command::Change(Change::Drain(ServerId(1)))).unwrap();
        finish(&mut map);
        for set in sets(&map) {
            let domains: BTreeSet<String> = set.iter().map(|id| name(id.0)).collect();
            prop_assert_eq!(domains.len(), 3, "{:?}", set);
        }
    }
}

#[test]
fn the_partners_of_every_server_are_all_others_about_equally() {
    let map = made(10, 3, 10);
    let mut pairs = BTreeMap::<(ServerId, ServerId), u32>::new();
    for set in sets(&map) {
        for a in &set {
            for b in set.iter().filter(|b| *b > a) {
                *pairs.entry((*a, *b)).or_default() += 1;
            }
        }
    }
    assert_eq!(pairs.len(), 45);
    // 1024 groups of three pairs over 45 pairs: 68 each.
    assert!(pairs.values().all(|n| (55..=82).contains(n)), "{pairs:?}");
}
