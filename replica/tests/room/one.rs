//! A host that is alone in its group: latency, restart, damage, stop.

use std::{fs, time::Duration};

use crate::common::{Cluster, number};
use crate::faulty;
use replica::{Error, Role};
use wire::NodeId;

const ME: NodeId = NodeId(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_leads_at_once_and_answers() {
    let cluster = Cluster::local(1).await;
    assert_eq!(cluster.add(5).await, 5);
    assert_eq!(cluster.add(7).await, 12);
    let host = cluster.host(ME);
    host.barrier(cluster.soon()).await.unwrap();
    assert_eq!(host.with(|sum| sum.sum), 12);
    let status = host.status();
    assert!(status.role.leads());
    assert_eq!(status.leader, Some(ME));
    assert_eq!(status.applied, status.last);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_is_there_after_a_drop_and_after_a_stop() {
    let mut cluster = Cluster::local(1).await;
    for value in 1..=10 {
        cluster.add(value).await;
    }
    drop(cluster.nodes.remove(&ME));
    cluster.start(ME).await.unwrap();
    assert_eq!(cluster.add(0).await, 55);
    cluster.host(ME).stop().await;
    assert_eq!(*cluster.host(ME).role().borrow(), Role::Stopped);
    let refused = cluster.host(ME).propose(number(1), cluster.soon()).await;
    assert!(matches!(refused, Err(Error::Stopped(_))), "{refused:?}");
    cluster.start(ME).await.unwrap();
    assert_eq!(cluster.add(0).await, 55);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_checkpoint_takes_the_place_of_the_log() {
    let mut cluster = Cluster::empty(1);
    cluster.local = Some(replica::LocalMesh::new(&cluster.world));
    cluster.checkpoint_every = 10;
    cluster.start_all().await;
    for _ in 0..100 {
        cluster.add(1).await;
    }
    let deadline = cluster.soon();
    while cluster.host(ME).status().checkpoint.0 < 60 {
        assert!(cluster.world.clock.now() < deadline, "no checkpoint was taken");
        cluster.add(1).await;
    }
    let total = cluster.add(1).await;
    cluster.host(ME).stop().await;
    cluster.start(ME).await.unwrap();
    assert!(cluster.host(ME).with(|sum| sum.restored));
    assert_eq!(cluster.add(0).await, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_proposals_share_their_syncs() {
    let cluster = Cluster::local(1).await;
    let leader = cluster.leader().await;
    let deadline = cluster.soon();
    let proposals = (0..500).map(|_| {
        let host = cluster.host(leader).clone();
        tokio::spawn(async move { host.propose(number(1), deadline).await })
    });
    for proposal in proposals.collect::<Vec<_>>() {
        proposal.await.unwrap().unwrap();
    }
    assert_eq!(cluster.host(ME).with(|sum| sum.count), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_log_is_refused_by_name_and_a_torn_one_goes_on() {
    let mut cluster = Cluster::local(1).await;
    for _ in 0..5 {
        cluster.add(1).await;
    }
    cluster.host(ME).stop().await;
    let path = cluster.path(ME).join("log-0000000000000000");
    let whole = fs::read(&path).unwrap();
    let mut bytes = whole.clone();
    // In the first record, with many synced behind it.
    bytes[64 + 40] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let refused = cluster.start(ME).await.unwrap_err().to_string();
    assert!(refused.contains("log-0000000000000000 is damaged"), "{refused}");
    // A tail that was being written when the power went.
    let mut bytes = whole;
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 64;
    bytes[end..end + 100].fill(0xaa);
    fs::write(&path, &bytes).unwrap();
    cluster.start(ME).await.unwrap();
    assert_eq!(cluster.add(1).await, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_in_use_is_refused() {
    let mut cluster = Cluster::local(1).await;
    cluster.add(1).await;
    let running = cluster.nodes.remove(&ME).unwrap();
    let refused = cluster.start(ME).await.unwrap_err().to_string();
    assert!(refused.contains("stop it first"), "{refused}");
    drop(running);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passed_is_said() {
    let cluster = Cluster::local(1).await;
    cluster.leader().await;
    let past = cluster.world.clock.now();
    let result = cluster.host(ME).propose(number(1), past).await;
    assert!(matches!(result, Err(Error::Deadline) | Ok(_)), "{result:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_stops_the_node_and_is_not_tried_again() {
    let mut cluster = Cluster::empty(1);
    cluster.local = Some(replica::LocalMesh::new(&cluster.world));
    let fault = faulty::install(&mut cluster.world);
    cluster.start_all().await;
    cluster.add(1).await;
    fault.fail_syncs();
    let failed = cluster.host(ME).propose(number(1), cluster.soon()).await.unwrap_err();
    assert!(matches!(failed, Error::Stopped(_)), "{failed}");
    assert!(failed.to_string().contains("log-0000000000000000"), "{failed}");
    let status = cluster.host(ME).status();
    assert_eq!((status.role, status.leader), (Role::Stopped, None));
    assert!(status.stopped.unwrap().contains("log-0000000000000000"));
    let tried = fault.syncs();
    let refused = cluster.host(ME).propose(number(1), cluster.soon()).await;
    assert!(matches!(refused, Err(Error::Stopped(_))), "{refused:?}");
    assert_eq!(fault.syncs(), tried);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panicking_machine_stops_the_node_instead_of_hanging_it() {
    let cluster = Cluster::local(1).await;
    cluster.add(1).await;
    // Too short for the machine, which panics.
    let short = bytes::Bytes::from_static(b"short");
    let failed = cluster.host(ME).propose(short, cluster.soon()).await;
    assert!(matches!(failed, Err(Error::Stopped(_))), "{failed:?}");
    let mut role = cluster.host(ME).role();
    role.wait_for(|role| *role == Role::Stopped).await.unwrap();
    assert!(cluster.host(ME).status().stopped.unwrap().contains("panicked"));
    cluster.host(ME).stop().await;
}

/// Not a test of speed, but a look at it: `--run-ignored only --no-capture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints numbers"]
async fn latency_and_rate() {
    for size in [1, 3] {
        let cluster = Cluster::local(size).await;
        let leader = cluster.leader().await;
        let host = cluster.host(leader).clone();
        let deadline = cluster.world.clock.now() + Duration::from_secs(60);
        let start = cluster.world.clock.now();
        for _ in 0..1000 {
            host.propose(number(1), deadline).await.unwrap();
        }
        let each = cluster.world.clock.now().since(start) / 1000;
        let start = cluster.world.clock.now();
        let clients = (0..256).map(|_| {
            let host = host.clone();
            tokio::spawn(async move {
                for _ in 0..100 {
                    host.propose(number(1), deadline).await.unwrap();
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
        let all = cluster.world.clock.now().since(start);
        println!(
            "{size} nodes: {each:?} a command; 256 clients: {:.0}/s",
            25600.0 / all.as_secs_f64()
        );
    }
}
