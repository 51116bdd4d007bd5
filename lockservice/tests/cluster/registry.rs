//! The registry of three coordinators, and one over a socket: clients that move never see the past.

use std::sync::Arc;

use lockservice::{
    Clerk, Locks, clerk,
    registry::{Happened, Make, NodePath, Scope},
};
use world::World;

use crate::harness::{Cluster, LEASE, config};

fn path(text: &str) -> NodePath {
    NodePath::new(text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_moves_between_coordinators_never_sees_the_past() {
    let cluster = Cluster::start(3, LEASE).await;
    let (a, _) = cluster.join(cluster.router(), "a").await;
    let (b, _) = cluster.join(cluster.router(), "b").await;
    let (writer, reader) = (a.registry(), b.registry());
    let node = path("/n");
    writer.create(&node, "0", Make::default()).await.unwrap();
    reader.sync().await.unwrap();
    let watch = reader.watch(&node, Scope::Node).await.unwrap();
    let (mut seen, mut told) = (0, 0);
    for round in 1..=40_u64 {
        let set = writer.set(&node, round.to_string(), None);
        reader.read_from(Arc::clone(&cluster.nodes[round as usize % 3].server) as _);
        let version = reader.get(&node).await.unwrap().unwrap().stat.version;
        assert!(version >= seen, "{version} after {seen}");
        set.await.unwrap();
        reader.sync().await.unwrap();
        seen = reader.get(&node).await.unwrap().unwrap().stat.version;
        assert_eq!(seen, round, "a sync shows what was written before it");
        while let Some(change) = watch.ready() {
            told += u64::from(matches!(change.happened, Happened::Set | Happened::Resumed));
        }
        assert!(told >= 1, "the watch moved along");
    }
    a.close().await.unwrap();
    b.close().await.unwrap();
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_registry_works_the_same_over_a_socket() {
    let cluster = Cluster::start(1, LEASE).await;
    let far = Arc::new(cluster.serve().await);
    let apart = Arc::clone(&far);
    let (world, near) = (cluster.world.clone(), far.reach(&cluster.world));
    let reach = move |world: &World| apart.reach(world);
    let clerk = Clerk::open_apart(world, near, config("far"), reach).await.unwrap();
    clerk.attach(Arc::new(clerk::Nothing), None);
    let registry = clerk.registry();
    let make = Make { ephemeral: true, sequential: true };
    registry.ensure(&path("/a/b")).await.unwrap();
    let watch = registry.watch(&path("/a/b"), Scope::Children).await.unwrap();
    let made = registry.create(&path("/a/b/n-"), "data", make).await.unwrap();
    assert_eq!(made, path("/a/b/n-0000000000"));
    let node = registry.get(&made).await.unwrap().unwrap();
    assert_eq!((&node.data[..], node.stat.owner), (&b"data"[..], Some(registry.session())));
    assert_eq!(watch.ready().map(|change| change.happened), Some(Happened::Created));
    let refused = registry.delete(&path("/a"), None).await.unwrap_err();
    assert!(refused.to_string().contains("has children"), "{refused}");
    let late = registry.set(&made, "x", Some(9)).await.unwrap_err();
    assert!(late.to_string().contains("version 0"), "{late}");
    assert_eq!(registry.children(&path("/a/b")).await.unwrap(), ["n-0000000000"]);
    // Longer than the lease: it is renewed by the thread that has a connection of its own.
    tokio::time::sleep(LEASE * 3 / 2).await;
    assert_eq!(registry.children(&path("/a/b")).await.unwrap(), ["n-0000000000"]);
    clerk.close().await.unwrap();
    cluster.stop().await;
}
