//! Leases, news and fences of the leader's service, on a clock that the test moves, and the same
//! through gRPC.

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use world::{Clock, Time, Wall, World};

use super::{start, three};
use crate::{
    disk::{Fence, Space, SpaceAsk},
    link::{Heartbeat, Known, MapLink},
    map::{
        MapClient, MapConfig, MapError, MapRpc, MapServer, MapService, MapWire, ServerState,
        api::Chart, log::Solo,
    },
    place::{GroupBits, Incarnation, ServerId},
};

pub(super) const LEASE: Duration = Duration::from_secs(2);

/// A clock that stands until it is moved.
#[derive(Default)]
struct Hands {
    now: Time,
    timers: Vec<(Time, oneshot::Sender<()>)>,
}

#[derive(Clone, Default)]
pub(super) struct Handmade(Arc<Mutex<Hands>>);

impl Handmade {
    pub(super) fn advance(&self, by: Duration) {
        let mut hands = self.0.lock();
        hands.now = hands.now + by;
        let now = hands.now;
        for (_, timer) in hands.timers.extract_if(.., |(at, _)| *at <= now) {
            let _ = timer.send(());
        }
    }
}

impl Clock for Handmade {
    fn now(&self) -> Time {
        self.0.lock().now
    }

    fn wall(&self) -> Wall {
        Wall::default()
    }

    fn sleep_until(&self, deadline: Time) -> BoxFuture<'static, ()> {
        let mut hands = self.0.lock();
        if deadline <= hands.now {
            return futures_util::future::ready(()).boxed();
        }
        let (sender, receiver) = oneshot::channel();
        hands.timers.push((deadline, sender));
        receiver.map(drop).boxed()
    }
}

fn config() -> MapConfig {
    MapConfig {
        cluster: 7,
        servers: three(),
        replication: 3,
        bits: GroupBits(3),
        lease: LEASE,
        replace: MapConfig::REPLACE,
        rate: 0,
    }
}

pub(super) fn solo() -> (Handmade, Arc<MapServer>) {
    let clock = Handmade::default();
    let world = World { clock: Arc::new(clock.clone()), ..World::real() };
    // Nobody looks after the servers but the test.
    (clock, MapServer::new(&world, Arc::new(Solo::new()), config()))
}

pub(super) fn beat(server: u64, incarnation: u64, known: Known, confirmed: u64) -> Heartbeat {
    let (server, incarnation) = (ServerId(server), Incarnation(incarnation));
    let space = Space { total: 100, free: 50 };
    Heartbeat { server, incarnation, known, confirmed, space, ..Heartbeat::default() }
}

pub(super) async fn three_up(map: &MapServer) {
    for server in 1..=3 {
        map.register(start(server, 1, true), Time::NEVER).await.unwrap();
    }
    for server in 1..=3 {
        let beat = beat(server, 1, Known::default(), 0);
        let granted = map.heartbeat(beat, Time::NEVER).await.unwrap();
        assert_eq!(granted.lease, LEASE);
        assert_eq!(granted.news.chains.len(), 8);
    }
}

#[tokio::test]
async fn status_tells_leases_and_space() {
    let (clock, map) = solo();
    let before = map.servers(Time::NEVER).await.unwrap();
    assert!(before.iter().all(|server| server.state == ServerState::Expected));
    three_up(&map).await;
    clock.advance(LEASE / 2);
    map.heartbeat(beat(1, 1, Known::default(), 0), Time::NEVER).await.unwrap();
    clock.advance(LEASE / 2);
    let servers = map.servers(Time::NEVER).await.unwrap();
    let states: Vec<ServerState> = servers.iter().map(|server| server.state).collect();
    assert_eq!(states, [ServerState::Up, ServerState::Suspect, ServerState::Suspect]);
    map.look_after().await.unwrap();
    let servers = map.servers(Time::NEVER).await.unwrap();
    assert_eq!(servers[1].state, ServerState::Down);
    assert_eq!(servers[0].lease_left, LEASE / 2);
    assert_eq!(servers[0].space.free, 50);
    assert_eq!(servers[0].groups, 8);
}

#[tokio::test]
async fn a_fence_is_answered_when_every_server_confirmed_it() {
    let (_, map) = solo();
    three_up(&map).await;
    let mut fence = map.fence(Fence(9), Time::NEVER);
    assert!(fence.as_mut().now_or_never().is_none());
    let known = Known { map: 1, fences: 0 };
    let news = map.news(ServerId(1), Incarnation(1), known, Time::NEVER).await.unwrap().unwrap();
    assert_eq!(news.fenced, [Fence(9)]);
    map.confirm(ServerId(1), Incarnation(1), 1, Time::NEVER).await.unwrap();
    map.confirm(ServerId(2), Incarnation(1), 1, Time::NEVER).await.unwrap();
    assert!(fence.as_mut().now_or_never().is_none());
    map.heartbeat(beat(3, 1, news.known, 1), Time::NEVER).await.unwrap();
    assert_eq!(fence.await, Ok(()));
    assert_eq!(map.fence(Fence(9), Time::NEVER).await, Ok(()), "asked again: done already");
}

#[tokio::test]
async fn a_silent_server_is_waited_out_and_cut_off_and_the_others_hear_of_it_first() {
    let (clock, map) = solo();
    three_up(&map).await;
    let mut fence = map.fence(Fence(9), Time::NEVER);
    assert!(fence.as_mut().now_or_never().is_none());
    let known = Known { map: 4, fences: 1 };
    for server in [1, 2] {
        map.heartbeat(beat(server, 1, known, 1), Time::NEVER).await.unwrap();
    }
    clock.advance(LEASE - Duration::from_millis(1));
    assert!(fence.as_mut().now_or_never().is_none());
    for server in [1, 2] {
        map.heartbeat(beat(server, 1, known, 1), Time::NEVER).await.unwrap();
    }
    clock.advance(Duration::from_millis(1));
    assert!(fence.as_mut().now_or_never().is_none(), "the survivors know the old versions only");
    let late = map.heartbeat(beat(3, 1, known, 1), Time::NEVER).await;
    assert_eq!(late.unwrap_err(), MapError::Expired(ServerId(3)));
    for server in [1, 2] {
        let granted = map.heartbeat(beat(server, 1, known, 1), Time::NEVER).await.unwrap();
        assert!(granted.news.chains.iter().all(|chain| !chain.equal));
        map.heartbeat(beat(server, 1, granted.news.known, 1), Time::NEVER).await.unwrap();
    }
    assert_eq!(fence.await, Ok(()));
    let incarnation = map.register(start(3, 2, true), Time::NEVER).await.unwrap();
    assert_eq!(incarnation, Incarnation(2));
    let granted = map.heartbeat(beat(3, 2, Known::default(), 0), Time::NEVER).await.unwrap();
    assert_eq!(granted.news.fenced, [Fence(9)], "no lease without the fences");
}

#[tokio::test]
async fn a_server_that_starts_again_during_a_fence_is_not_cut_off_before_it_could_speak() {
    let (clock, map) = solo();
    three_up(&map).await;
    let mut fence = map.fence(Fence(9), Time::NEVER);
    assert!(fence.as_mut().now_or_never().is_none());
    let known = Known { map: 4, fences: 1 };
    for server in [1, 2] {
        map.heartbeat(beat(server, 1, known, 1), Time::NEVER).await.unwrap();
    }
    // Server 3 is started again when the fence has nearly waited out its last life.
    clock.advance(LEASE - Duration::from_millis(1));
    assert_eq!(map.register(start(3, 2, false), Time::NEVER).await, Ok(Incarnation(2)));
    for server in [1, 2] {
        map.heartbeat(beat(server, 1, known, 1), Time::NEVER).await.unwrap();
    }
    clock.advance(Duration::from_millis(1));
    assert!(fence.as_mut().now_or_never().is_none());
    let granted = map.heartbeat(beat(3, 2, Known::default(), 0), Time::NEVER).await.unwrap();
    map.heartbeat(beat(3, 2, granted.news.known, 1), Time::NEVER).await.unwrap();
    assert_eq!(fence.await, Ok(()));
}

#[tokio::test]
async fn a_fence_that_nobody_confirms_ends_at_its_deadline() {
    let (clock, map) = solo();
    three_up(&map).await;
    let mut fence = map.fence(Fence(9), Time::ZERO + LEASE / 2);
    assert!(fence.as_mut().now_or_never().is_none());
    clock.advance(LEASE / 2);
    assert_eq!(fence.await, Err(MapError::Deadline));
}

#[tokio::test]
async fn waiting_for_news_ends_empty_at_the_deadline_and_full_at_a_change() {
    let (clock, map) = solo();
    three_up(&map).await;
    let known = Known { map: 4, fences: 0 };
    let deadline = Time::ZERO + Duration::from_secs(1);
    let mut news = map.news(ServerId(1), Incarnation(1), known, deadline);
    assert!(news.as_mut().now_or_never().is_none());
    clock.advance(Duration::from_secs(1));
    assert_eq!(news.await, Ok(None));
    let mut chart = map.chart(4, Time::NEVER);
    assert!(chart.as_mut().now_or_never().is_none());
    map.register(start(3, 2, false), Time::NEVER).await.unwrap();
    assert_eq!(chart.await.unwrap().unwrap().version, 5);
}

#[tokio::test]
async fn the_map_answers_the_same_over_the_wire_through_its_leader() {
    let world = World::real();
    let map = MapServer::solo(&world, config());
    let directory = tempfile::tempdir().unwrap();
    let address = world::Address::Unix(directory.path().join("map"));
    let cluster = wire::ClusterId(7);
    let me = wire::Identity { cluster, node: wire::NodeId(1), role: wire::Role::Coordinator };
    let server = wire::Server::new(&world, me).service(MapRpc::serve(&world, map.clone()));
    let serving = server.serve(&address).await.unwrap();
    let other = wire::Identity { cluster, node: wire::NodeId(3), role: wire::Role::Block };
    let nowhere = world::Address::Unix(directory.path().join("nobody"));
    let peers: Vec<(u64, Arc<dyn MapService>)> = vec![
        (2, Arc::new(MapWire::new(&world, other, &nowhere))),
        (1, Arc::new(MapWire::new(&world, other, &address))),
    ];
    let client = MapClient::new(&world, peers);
    let soon = || world.clock.now() + Duration::from_secs(5);
    for server in 1..=3 {
        client.register(start(server, 1, true), soon()).await.unwrap();
    }
    let granted = client.heartbeat(beat(1, 1, Known::default(), 0), soon()).await.unwrap();
    assert_eq!(granted.lease, LEASE);
    assert_eq!(
        granted.news,
        map.heartbeat(beat(1, 1, Known::default(), 0), soon()).await.unwrap().news
    );
    let chart = client.chart(0, soon()).await.unwrap().unwrap();
    assert_eq!(Some(chart), map.chart(0, soon()).await.unwrap());
    for server in 1..=3 {
        let (server, incarnation) = (ServerId(server), Incarnation(1));
        client.confirm_fences(server, incarnation, 1, soon()).await.unwrap();
    }
    client.fence(Fence(9), soon()).await.unwrap();
    let ask = SpaceAsk { spent: 1, holds: 0, least: 2, most: 3 };
    assert_eq!(client.reserve(Fence(10), ask, soon()).await, Ok(3));
    assert_eq!(client.reserve(Fence(9), ask, soon()).await, Ok(0), "it is fenced");
    let servers = client.servers(soon()).await.unwrap();
    assert_eq!(servers.len(), 3);
    assert_eq!(servers[2].state, ServerState::Up);
    let nothing = world.clock.now() + Duration::from_millis(300);
    let known = Known { map: 4, fences: 1 };
    let news = client.news(ServerId(1), Incarnation(1), known, nothing).await;
    assert_eq!(news, Ok(None));
    drop(serving);
}

#[tokio::test]
async fn silent_servers_are_cut_off_then_forsaken_then_replaced() {
    let (clock, map) = solo();
    three_up(&map).await;
    let members = |chart: Chart| -> Vec<u64> {
        chart.chains[0].members.iter().map(|member| member.server.0).collect()
    };
    let chart = || map.chart(0, Time::NEVER);
    clock.advance(LEASE - Duration::from_millis(1));
    map.look_after().await.unwrap();
    assert_eq!(members(chart().await.unwrap().unwrap()), [1, 2, 3], "a lease is waited out");
    for server in [1, 2] {
        map.heartbeat(beat(server, 1, Known::default(), 0), Time::NEVER).await.unwrap();
    }
    clock.advance(Duration::from_millis(1));
    map.look_after().await.unwrap();
    assert_eq!(members(chart().await.unwrap().unwrap()), [1, 2]);
    let late = map.heartbeat(beat(3, 1, Known::default(), 0), Time::NEVER).await;
    assert_eq!(late.unwrap_err(), MapError::Expired(ServerId(3)));
    // The two others start anew; one of them dies at once and is not forsaken before its time.
    for server in [1, 2] {
        map.register(start(server, 2, false), Time::NEVER).await.unwrap();
    }
    clock.advance(LEASE * 2);
    map.heartbeat(beat(1, 2, Known::default(), 0), Time::NEVER).await.unwrap();
    map.look_after().await.unwrap();
    assert_eq!(members(chart().await.unwrap().unwrap()), [1, 2], "it may have the newest bytes");
    // From when it is seen to be down it is given four leases.
    map.look_after().await.unwrap();
    clock.advance(LEASE * 4);
    map.heartbeat(beat(1, 2, Known::default(), 0), Time::NEVER).await.unwrap();
    map.look_after().await.unwrap();
    let chart = chart().await.unwrap().unwrap();
    assert!(chart.chains.iter().all(|chain| chain.members.len() == 1));
    assert!(chart.chains.iter().all(|chain| chain.intact == chain.version));
}
