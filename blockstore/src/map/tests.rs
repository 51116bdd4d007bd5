//! The volume map's rules: chains, versions, equality, fences; its codec; its leases.

mod codec;
mod machine;
mod placement;
mod service;
mod space;

use std::collections::BTreeSet;

use world::Address;

use super::machine::{Command, Map};
use crate::{
    disk::Space,
    link::{Past, Registration},
    place::{GroupBits, ServerId},
};

fn three() -> BTreeSet<ServerId> {
    [ServerId(1), ServerId(2), ServerId(3)].into()
}

fn start(server: u64, start: u128, clean: bool) -> Registration {
    Registration {
        server: ServerId(server),
        directory: u128::from(server) << 64,
        start,
        address: Address::Unix(format!("/run/{server}").into()),
        past: if clean { Past::Clean } else { Past::Lost },
        space: Space { total: 100, free: 90 },
    }
}

fn format() -> Command {
    Command::Format { cluster: 7, servers: three(), replication: 3, bits: GroupBits(3) }
}

/// A map of three servers that all registered cleanly.
fn running() -> Map {
    let mut map = Map::new();
    map.handle(format()).unwrap();
    for server in 1..=3 {
        map.handle(Command::Register(start(server, 1, true))).unwrap();
    }
    map
}
