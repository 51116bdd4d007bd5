//! Three hosts: replication, loss of the leader, catching up, over both transports.

use crate::common::{Cluster, number};
use replica::Error;
use wire::NodeId;

async fn all_apply_the_same(cluster: &Cluster) {
    for value in 1..=20 {
        cluster.add(value).await;
    }
    for node in 1..=3 {
        cluster.applied(NodeId(node), 20).await;
        assert_eq!(cluster.host(NodeId(node)).with(|sum| sum.sum), 210);
    }
}

async fn goes_on_without_its_leader(cluster: &mut Cluster) {
    cluster.add(1).await;
    let leader = cluster.leader().await;
    drop(cluster.nodes.remove(&leader));
    assert_eq!(cluster.add(2).await, 3, "the next leader knows what was acknowledged");
    let second = cluster.leader().await;
    assert_ne!(second, leader);
    cluster.host(second).barrier(cluster.soon()).await.unwrap();
    cluster.start(leader).await.unwrap();
    cluster.applied(leader, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_of_a_process_apply_the_same() {
    all_apply_the_same(&Cluster::local(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_apply_the_same_over_sockets() {
    all_apply_the_same(&Cluster::sockets(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_in_a_process_goes_on_without_its_leader() {
    goes_on_without_its_leader(&mut Cluster::local(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_group_goes_on_without_its_leader_over_sockets() {
    goes_on_without_its_leader(&mut Cluster::sockets(3).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::local(3).await;
    cluster.add(1).await;
    let leader = cluster.leader().await;
    let follower = NodeId(leader.0 % 3 + 1);
    cluster.applied(follower, 1).await;
    let refused = cluster.host(follower).propose(number(1), cluster.soon()).await;
    assert_eq!(refused, Err(Error::NotLeader { leader: Some(leader) }));
    let refused = cluster.host(follower).barrier(cluster.soon()).await;
    assert_eq!(refused, Err(Error::NotLeader { leader: Some(leader) }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_off_leader_answers_no_barrier_and_the_others_go_on() {
    let mut cluster = Cluster::local(3).await;
    cluster.add(1).await;
    let old = cluster.leader().await;
    cluster.local.as_ref().unwrap().cut(old);
    let running = cluster.nodes.remove(&old).unwrap();
    let barrier = running.host.barrier(cluster.soon()).await;
    assert!(matches!(barrier, Err(Error::NotLeader { .. })), "{barrier:?}");
    assert_eq!(cluster.add(2).await, 3);
    cluster.local.as_ref().unwrap().heal(old);
    cluster.nodes.insert(old, running);
    cluster.applied(old, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_lags_far_gets_the_checkpoint() {
    let mut cluster = Cluster::empty(3);
    cluster.checkpoint_every = 20;
    cluster.start_all().await;
    cluster.add(1).await;
    let leader = cluster.leader().await;
    let lagging = NodeId(leader.0 % 3 + 1);
    cluster.applied(lagging, 1).await;
    cluster.host(lagging).stop().await;
    cluster.nodes.remove(&lagging);
    let deadline = cluster.soon();
    let mut count = 1;
    while cluster.host(cluster.leader().await).status().checkpoint.0 < 100 {
        assert!(cluster.world.clock.now() < deadline, "no checkpoint was taken");
        cluster.add(1).await;
        count += 1;
    }
    cluster.start(lagging).await.unwrap();
    cluster.applied(lagging, count).await;
    assert!(cluster.host(lagging).with(|sum| sum.restored), "by a checkpoint, not by the log");
    // And its directory, checkpoint and log after it, is sound.
    cluster.add(1).await;
    cluster.applied(lagging, count + 1).await;
    cluster.host(lagging).stop().await;
    cluster.nodes.remove(&lagging);
    cluster.start(lagging).await.unwrap();
    cluster.applied(lagging, count + 1).await;
}
