//! Groups that change: nodes added and removed, leadership handed on, reads at followers, and nodes
//! whose disk cannot be trusted any more.

use std::fs;

use crate::common::{Cluster, number};
use replica::{Change, Error, ReadMode, Status};
use wire::NodeId;

/// Waits until `done` holds of a node.
async fn until(cluster: &Cluster, node: NodeId, what: &str, done: impl Fn(&Status) -> bool) {
    let deadline = cluster.soon();
    loop {
        let status = cluster.host(node).status();
        if done(&status) {
            return;
        }
        assert!(cluster.world.clock.now() < deadline, "not {what}: {status:?}");
        cluster.world.clock.sleep(std::time::Duration::from_millis(5)).await;
    }
}

/// Asks whoever leads for a change until it is done.
async fn change(cluster: &Cluster, change: Change) {
    let deadline = cluster.soon();
    loop {
        let leader = cluster.leader().await;
        match cluster.host(leader).change(change.clone(), deadline).await {
            Ok(()) => return,
            Err(Error::NotLeader { .. } | Error::Busy(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

fn ids(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_added_and_another_removed_and_restarts_know_the_new_group() {
    let mut cluster = Cluster::sockets(3).await;
    for _ in 0..20 {
        cluster.add(1).await;
    }
    let new = NodeId(4);
    cluster.start_joining(new).await;
    let address = cluster.address(new).to_string();
    change(&cluster, Change::Add { node: new, address }).await;
    cluster.applied(new, 20).await;
    let leader = cluster.leader().await;
    assert_eq!(cluster.host(leader).status().voters, ids(&[1, 2, 3, 4]));
    // One of the first goes; the rest is a majority of four and of three.
    let gone = NodeId(leader.0 % 3 + 1);
    change(&cluster, Change::Remove(gone)).await;
    cluster.host(gone).stop().await;
    cluster.nodes.remove(&gone);
    cluster.add(1).await;
    // All others start again, from their own directories, knowing of the files they began with.
    let rest: Vec<_> = cluster.nodes.keys().copied().collect();
    for node in &rest {
        cluster.host(*node).stop().await;
    }
    cluster.nodes.clear();
    for node in &rest {
        cluster.start(*node).await.unwrap();
    }
    assert_eq!(cluster.add(1).await, 22);
    for node in &rest {
        cluster.applied(*node, 22).await;
        assert_eq!(cluster.host(*node).status().voters, rest);
    }
    // The new one counts: with it and one other, three nodes decide.
    let other = *rest.iter().find(|node| **node != new).unwrap();
    drop(cluster.nodes.remove(&other));
    assert_eq!(cluster.add(1).await, 23);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leadership_is_handed_on_and_nothing_is_lost() {
    let cluster = Cluster::local(3).await;
    cluster.add(1).await;
    for _ in 0..3 {
        let old = cluster.leader().await;
        let new = NodeId(old.0 % 3 + 1);
        cluster.host(old).transfer(new, cluster.soon()).await.unwrap();
        let mut role = cluster.host(new).role();
        let leads = cluster.world.until(cluster.soon(), role.wait_for(|role| role.leads())).await;
        leads.expect("it takes over").unwrap();
        cluster.add(1).await;
    }
    assert_eq!(cluster.add(0).await, 4);
    let leader = cluster.leader().await;
    let nobody = cluster.host(leader).transfer(NodeId(77), cluster.soon()).await;
    assert!(matches!(nobody, Err(Error::Unchanged(_))), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_answers_reads_that_show_no_past() {
    let cluster = Cluster::local(3).await;
    for round in 1..=50 {
        assert_eq!(cluster.add(1).await, round);
        for node in 1..=3 {
            let mode = if round % 2 == 0 { ReadMode::Lease } else { ReadMode::Quorum };
            let host = cluster.host(NodeId(node));
            match host.read(mode, cluster.soon()).await {
                Ok(()) => assert!(host.with(|sum| sum.sum) >= round, "node {node} shows the past"),
                Err(Error::NotLeader { .. }) => assert!(round < 3, "no leader is known"),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

/// Stops one follower of three, has `harm` done to its directory, and starts it again.
async fn harmed(harm: impl FnOnce(&std::path::Path)) -> (Cluster, NodeId) {
    let mut cluster = Cluster::empty(3);
    cluster.local = Some(replica::LocalMesh::new(&cluster.world));
    cluster.checkpoint_every = 50;
    cluster.start_all().await;
    for _ in 0..200 {
        cluster.add(1).await;
    }
    let victim = NodeId(cluster.leader().await.0 % 3 + 1);
    cluster.applied(victim, 200).await;
    until(&cluster, victim, "checkpointed", |status| status.checkpoint.0 >= 100).await;
    cluster.host(victim).stop().await;
    cluster.nodes.remove(&victim);
    harm(&cluster.path(victim));
    // Nobody reaches it until the test has looked at it.
    cluster.local.as_ref().unwrap().cut(victim);
    cluster.start(victim).await.unwrap();
    (cluster, victim)
}

/// Damages the middle of the log.
fn spoil_log(dir: &std::path::Path) {
    let path = dir.join("log-0000000000000000");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[end / 2] ^= 1;
    fs::write(&path, bytes).unwrap();
}

async fn is_rebuilt(mut cluster: Cluster, victim: NodeId) {
    assert!(cluster.host(victim).status().rebuilding, "it may not vote yet");
    cluster.local.as_ref().unwrap().heal(victim);
    cluster.add(1).await;
    until(&cluster, victim, "rebuilt", |status| !status.rebuilding).await;
    cluster.applied(victim, 201).await;
    // It counts again: with it, two of three decide.
    let leader = cluster.leader().await;
    let other = if leader == victim { NodeId(victim.0 % 3 + 1) } else { leader };
    drop(cluster.nodes.remove(&other));
    assert_eq!(cluster.add(1).await, 202);
    // And after a restart it is a node like any other.
    cluster.host(victim).stop().await;
    cluster.nodes.remove(&victim);
    cluster.start(victim).await.unwrap();
    assert!(!cluster.host(victim).status().rebuilding);
    assert_eq!(cluster.add(1).await, 203);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_damaged_log_is_rebuilt_by_its_peers() {
    let (cluster, victim) = harmed(spoil_log).await;
    assert!(
        cluster.path(victim).join("damaged-0/log-0000000000000000").exists(),
        "kept to look at"
    );
    is_rebuilt(cluster, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_damaged_checkpoint_is_rebuilt_by_its_peers() {
    let (cluster, victim) = harmed(|dir| {
        let path = dir.join("group-1-checkpoint");
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(&path, bytes).unwrap();
    })
    .await;
    is_rebuilt(cluster, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proposal_without_a_majority_is_not_answered() {
    let mut cluster = Cluster::local(3).await;
    cluster.add(1).await;
    let leader = cluster.leader().await;
    let lonely = cluster.nodes.remove(&leader).unwrap();
    cluster.nodes.clear();
    let soon = cluster.world.clock.now() + std::time::Duration::from_millis(300);
    let result = lonely.host.propose(number(1), soon).await;
    assert!(matches!(result, Err(Error::Deadline | Error::NotLeader { .. })), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_emptied_node_does_not_vote_before_it_was_rebuilt() {
    let (cluster, victim) = harmed(|dir| fs::remove_dir_all(dir).unwrap()).await;
    is_rebuilt(cluster, victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn emptied_nodes_do_not_form_a_group_that_forgot_everything() {
    let mut cluster = Cluster::local(3).await;
    for _ in 0..10 {
        cluster.add(1).await;
    }
    let leader = cluster.leader().await;
    for node in (1..=3).map(NodeId) {
        cluster.host(node).stop().await;
        cluster.nodes.remove(&node);
        if node != leader {
            fs::remove_dir_all(cluster.path(node)).unwrap();
        }
    }
    // Two of three have forgotten all; alone they cannot know whether there was anything.
    let emptied: Vec<_> = (1..=3).map(NodeId).filter(|node| *node != leader).collect();
    for node in &emptied {
        cluster.start(*node).await.unwrap();
    }
    cluster.world.clock.sleep(std::time::Duration::from_millis(1500)).await;
    // With the third, which remembers: still none, because a majority has forgotten its promises.
    cluster.start(leader).await.unwrap();
    cluster.world.clock.sleep(std::time::Duration::from_millis(1500)).await;
    for node in &emptied {
        let status = cluster.host(*node).status();
        assert!(status.rebuilding && status.leader.is_none(), "{status:?}");
    }
    assert!(!cluster.host(leader).status().role.leads());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_voters_that_lost_its_disk_says_that_nobody_can_rebuild_it() {
    for harm in [spoil_log, |dir: &std::path::Path| fs::remove_dir_all(dir).unwrap()] {
        let mut cluster = Cluster::local(2).await;
        for _ in 0..20 {
            cluster.add(1).await;
        }
        let victim = NodeId(cluster.leader().await.0 % 2 + 1);
        cluster.host(victim).stop().await;
        cluster.nodes.remove(&victim);
        harm(&cluster.path(victim));
        cluster.start(victim).await.unwrap();
        until(&cluster, victim, "stopped", |status| status.stopped.is_some()).await;
        let why = cluster.host(victim).status().stopped.unwrap();
        assert!(
            why.contains("one of two voters") && why.contains("copy of its directory"),
            "{why}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_joined_and_was_emptied_does_not_vote_as_if_it_were_new() {
    let mut cluster = Cluster::local(3).await;
    let new = NodeId(4);
    cluster.start_joining(new).await;
    change(&cluster, Change::Add { node: new, address: "unix:/nowhere".to_owned() }).await;
    cluster.add(1).await;
    cluster.applied(new, 1).await;
    assert!(!cluster.host(new).status().rebuilding, "it was brought up to date");
    cluster.host(new).stop().await;
    cluster.nodes.remove(&new);
    fs::remove_dir_all(cluster.path(new)).unwrap();
    cluster.local.as_ref().unwrap().cut(new);
    cluster.start(new).await.unwrap();
    assert!(cluster.host(new).status().rebuilding, "it may have promised what it forgot");
    cluster.local.as_ref().unwrap().heal(new);
    until(&cluster, new, "rebuilt", |status| !status.rebuilding).await;
    cluster.applied(new, 1).await;
}
