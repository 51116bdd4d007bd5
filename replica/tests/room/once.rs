//! A call takes effect once, whatever happens between its tries.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::common::{Cluster, number};
use async_trait::async_trait;
use bytes::Bytes;
use replica::{CallNumber, Caller, Client, ClientId, Door, Error, Host};
use wire::NodeId;
use world::Time;

fn caller(client: ClientId, number: u64, floor: u64) -> Caller {
    Caller { client, number: CallNumber(number), floor: CallNumber(floor) }
}

async fn try_call(cluster: &Cluster, caller: Caller, value: u64) -> Result<u64, Error> {
    loop {
        let leader = cluster.leader().await;
        let call = cluster.host(leader).propose_once(caller, number(value), cluster.soon());
        match call.await {
            Ok(reply) => return Ok(u64::from_le_bytes(reply[..].try_into().unwrap())),
            Err(Error::NotLeader { .. }) => {}
            Err(error) => return Err(error),
        }
    }
}

async fn enrol(cluster: &Cluster) -> ClientId {
    let leader = cluster.leader().await;
    cluster.host(leader).enrol(cluster.soon()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_call_gets_the_first_reply_also_from_the_next_leader() {
    let mut cluster = Cluster::local(3).await;
    let client = enrol(&cluster).await;
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10));
    assert_eq!(cluster.add(5).await, 15);
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10));
    let old = cluster.leader().await;
    drop(cluster.nodes.remove(&old));
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10));
    assert_eq!(cluster.add(0).await, 15, "it was applied once");
    assert_eq!(try_call(&cluster, caller(client, 2, 2), 1).await, Ok(16));
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Err(Error::Spent));
    let nobody = caller(ClientId(u64::MAX), 1, 1);
    assert_eq!(try_call(&cluster, nobody, 10).await, Err(Error::Expired));
    assert_eq!(cluster.add(0).await, 16, "what was refused was not applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_call_gets_the_first_reply_after_a_restart_and_after_a_checkpoint() {
    const ME: NodeId = NodeId(1);
    let mut cluster = Cluster::empty(1);
    cluster.local = Some(replica::LocalMesh::new(&cluster.world));
    cluster.checkpoint_every = 10;
    cluster.start_all().await;
    let client = enrol(&cluster).await;
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10));
    cluster.host(ME).stop().await;
    cluster.start(ME).await.unwrap();
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10), "by the log");
    let deadline = cluster.soon();
    while cluster.host(ME).status().checkpoint.0 < 30 {
        assert!(cluster.world.clock.now() < deadline, "no checkpoint was taken");
        cluster.add(1).await;
    }
    let total = cluster.add(0).await;
    cluster.host(ME).stop().await;
    cluster.start(ME).await.unwrap();
    assert!(cluster.host(ME).with(|sum| sum.restored));
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10), "by the checkpoint");
    assert_eq!(cluster.add(0).await, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_sent_a_checkpoint_knows_the_replies_too() {
    let mut cluster = Cluster::empty(3);
    cluster.local = Some(replica::LocalMesh::new(&cluster.world));
    cluster.checkpoint_every = 20;
    cluster.start_all().await;
    let client = enrol(&cluster).await;
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10));
    let leader = cluster.leader().await;
    let lagging = NodeId(leader.0 % 3 + 1);
    cluster.host(lagging).stop().await;
    cluster.nodes.remove(&lagging);
    let deadline = cluster.soon();
    while cluster.host(cluster.leader().await).status().checkpoint.0 < 100 {
        assert!(cluster.world.clock.now() < deadline, "no checkpoint was taken");
        cluster.add(1).await;
    }
    let total = cluster.add(0).await;
    cluster.start(lagging).await.unwrap();
    let mut applied = cluster.host(lagging).applied();
    let target = cluster.host(cluster.leader().await).status().commit;
    applied.wait_for(|index| *index >= target).await.unwrap();
    assert!(cluster.host(lagging).with(|sum| sum.restored), "by a checkpoint, not by the log");
    // Only it and one other are left: whoever leads answers from what it was sent, or will be.
    let third = NodeId(6 - leader.0 - lagging.0);
    drop(cluster.nodes.remove(&leader));
    while cluster.leader().await != lagging {
        let leads = cluster.leader().await;
        drop(cluster.nodes.remove(&leads));
        cluster.start(leads).await.unwrap();
        assert_eq!(leads, third);
        assert!(cluster.world.clock.now() < deadline, "it never leads");
    }
    assert_eq!(try_call(&cluster, caller(client, 1, 1), 10).await, Ok(10));
    assert_eq!(cluster.add(0).await, total);
}

/// A way to a host that loses every third answer, after the command has happened.
struct Lossy {
    host: Host<crate::common::Sum>,
    count: AtomicU64,
}

#[async_trait]
impl Door for Lossy {
    async fn enrol(&self, deadline: Time) -> Result<ClientId, Error> {
        self.host.enrol(deadline).await
    }

    async fn call(&self, caller: Caller, command: Bytes, deadline: Time) -> Result<Bytes, Error> {
        let answer = self.host.propose_once(caller, command, deadline).await?;
        match self.count.fetch_add(1, Ordering::Relaxed) % 3 {
            0 => Err(Error::Deadline),
            _ => Ok(answer),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_loses_answers_has_each_command_done_once() {
    let cluster = Cluster::local(3).await;
    let doors = cluster.nodes.iter().map(|(node, running)| {
        let door = Lossy { host: running.host.clone(), count: AtomicU64::new(0) };
        (*node, Arc::new(door) as Arc<dyn Door>)
    });
    let client = Arc::new(Client::new(&cluster.world, doors.collect()));
    let deadline = cluster.soon();
    let calls = (0..300).map(|_| {
        let client = client.clone();
        tokio::spawn(async move { client.call(number(1), deadline).await })
    });
    let mut replies = BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        let reply = call.await.unwrap().unwrap();
        replies.insert(u64::from_le_bytes(reply[..].try_into().unwrap()));
    }
    assert_eq!(replies, (1..=300).collect(), "each has its own place in the sum");
    assert_eq!(cluster.add(0).await, 300);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_follows_a_change_of_leader() {
    let mut cluster = Cluster::local(3).await;
    let doors = cluster.nodes.iter().map(|(node, running)| {
        let door: Arc<dyn Door> = Arc::new(running.host.clone());
        (*node, door)
    });
    let client = Client::new(&cluster.world, doors.collect());
    for value in 1..=5 {
        client.call(number(value), cluster.soon()).await.unwrap();
    }
    let old = cluster.leader().await;
    cluster.host(old).stop().await;
    cluster.nodes.remove(&old);
    let reply = client.call(number(6), cluster.soon()).await.unwrap();
    assert_eq!(u64::from_le_bytes(reply[..].try_into().unwrap()), 21);
}
