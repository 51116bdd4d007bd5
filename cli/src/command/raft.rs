//! `plumeria raft`: the consensus groups of the coordinators, seen and changed by an operator. Which
//! node leads is found by asking all that are known, those that a group itself names included.

use std::{collections::BTreeMap, time::Duration};

use replica::{Change, GroupId, Look, Order, Role as State};
use serde_json::{Value, json};
use wire::{Identity, NodeId, Role};
use world::{Address, Time, World};

use crate::{
    args::{Raft, RaftGroup, RaftNode},
    config::Client,
    failure::{Failure, Kind, OrFail as _, Outcome},
    output::Output,
    role::{Remote, groups},
};

/// How long one coordinator may be silent.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two rounds of looking for the leader.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(
    world: &World,
    command: &Raft,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let deadline = world.clock.now() + timeout;
    match command {
        Raft::Status(group) => status(&Operator::new(world, group, deadline)?, group, output).await,
        Raft::Transfer(node) => {
            let operator = Operator::new(world, &node.group, deadline)?;
            let order = |_: &Known| Ok(Order::Transfer(NodeId(node.node)));
            operator.order_all(node, "leads", order, output).await
        }
        Raft::Add(add) => {
            let operator = Operator::new(world, &add.node.group, deadline)?;
            let id = NodeId(add.node.node);
            let order = |known: &Known| {
                let address = add.address.clone().or_else(|| known.addresses.get(&id).cloned());
                let address = address.ok_or_else(|| {
                    Failure::usage(format!(
                        "where is coordinator {id} reached? It is not in the configuration of \
                         this cluster: give --address"
                    ))
                })?;
                Ok(Order::Change(Change::Add { node: id, address: address.to_string() }))
            };
            operator.order_all(&add.node, "is a member", order, output).await
        }
        Raft::Remove(node) => {
            let operator = Operator::new(world, &node.group, deadline)?;
            let order = |_: &Known| Ok(Order::Change(Change::Remove(NodeId(node.node))));
            operator.order_all(node, "is no member any more", order, output).await
        }
    }
}

/// The groups that are meant, with their names.
fn chosen(client: &Client, group: &RaftGroup) -> Outcome<Vec<(GroupId, String)>> {
    let all = groups(client.lock_shards);
    let Some(wanted) = &group.group else { return Ok(all) };
    let is_it = |(id, name): &&(GroupId, String)| name == wanted || id.to_string() == *wanted;
    match all.iter().find(is_it) {
        Some(found) => Ok(vec![found.clone()]),
        None => Err(Failure::usage(format!(
            "there is no group {wanted:?}: the groups are {}",
            all.into_iter().map(|(_, name)| name).collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// What was found out about the coordinators.
#[derive(Default)]
struct Known {
    addresses: BTreeMap<NodeId, Address>,
    looks: BTreeMap<NodeId, Vec<Look>>,
}

impl Known {
    fn look(&self, node: NodeId, group: GroupId) -> Option<&Look> {
        self.looks.get(&node)?.iter().find(|look| look.status.group == group)
    }

    /// Who leads the group, in the newest term that anybody knows of.
    fn leader(&self, group: GroupId) -> Option<&Look> {
        let looks = self.looks.values().flatten();
        let leading = looks.filter(|look| {
            look.status.group == group && matches!(look.status.role, State::Leader { .. })
        });
        leading.max_by_key(|look| look.status.term)
    }
}

/// Somebody who asks the coordinators of one cluster.
struct Operator<'a> {
    world: &'a World,
    client: Client,
    me: Identity,
    deadline: Time,
}

impl<'a> Operator<'a> {
    fn new(world: &'a World, group: &RaftGroup, deadline: Time) -> Outcome<Self> {
        let client = Client::find(&group.cluster)?;
        let me = Remote::new(world, &client, Role::Tool, 0)?.me;
        Ok(Self { world, client, me, deadline })
    }

    /// Asks all coordinators, and those that they name.
    async fn look_around(&self) -> Known {
        let mut known = Known::default();
        let peers = self.client.coordinators.iter();
        let mut unseen: BTreeMap<NodeId, Address> =
            peers.map(|peer| (NodeId(peer.node), peer.address.clone())).collect();
        while let Some((node, address)) = unseen.pop_first() {
            let until = self.deadline.min(self.world.clock.now() + PATIENCE);
            let looks = replica::look(self.world, self.me, &address, until).await;
            known.addresses.insert(node, address);
            let looks = looks.unwrap_or_default();
            for (other, address) in looks.iter().flat_map(|look| &look.book) {
                if let (false, Ok(address)) =
                    (known.addresses.contains_key(other), address.parse::<Address>())
                {
                    unseen.entry(*other).or_insert(address);
                }
            }
            if !looks.is_empty() {
                known.looks.insert(node, looks);
            }
        }
        known
    }

    /// Has an order carried out by each of the chosen groups.
    async fn order_all(
        &self,
        node: &RaftNode,
        done: &str,
        order: impl Fn(&Known) -> Outcome<Order>,
        output: Output,
    ) -> Outcome {
        let mut rows = Vec::new();
        for (group, name) in chosen(&self.client, &node.group)? {
            self.order(group, &name, &order).await?;
            output.line(&format!("{name}: coordinator {} {done}", node.node));
            rows.push(json!({ "group": name, "node": node.node }));
        }
        output.json(&json!({ "done": rows }));
        Ok(())
    }

    /// Asks whoever leads, again while there is an election.
    async fn order(
        &self,
        group: GroupId,
        name: &str,
        order: &impl Fn(&Known) -> Outcome<Order>,
    ) -> Outcome {
        let mut last = None;
        while self.world.clock.now() < self.deadline {
            let known = self.look_around().await;
            let order = order(&known)?;
            let leader = known.leader(group).map(|look| look.status.me);
            if let (Order::Transfer(to), Some(leader)) = (&order, leader)
                && *to == leader
            {
                return Ok(());
            }
            if let Some(address) = leader.and_then(|leader| known.addresses.get(&leader)) {
                let ask = (group, order);
                match replica::order(self.world, self.me, address, ask, self.deadline).await {
                    Ok(Ok(())) => return Ok(()),
                    Ok(Err(replica::Error::NotLeader { .. })) => {}
                    Ok(Err(error)) => {
                        return Err(Failure::new(Kind::Failed, format!("group {name}: {error}")));
                    }
                    // Perhaps it was carried out; asking again does no harm.
                    Err(error) => last = Some(error),
                }
            }
            self.world.clock.sleep(PAUSE).await;
        }
        let silent =
            || format!("no coordinator leads the group {name}, or it did not finish in time");
        match last {
            Some(error) => Err(error).or_fail(Kind::Unreachable, silent),
            None => Err(Failure::new(Kind::Unreachable, silent())),
        }
    }
}

async fn status(operator: &Operator<'_>, group: &RaftGroup, output: Output) -> Outcome {
    let groups = chosen(&operator.client, group)?;
    let known = operator.look_around().await;
    if known.looks.is_empty() {
        return Err(Failure::new(
            Kind::Unreachable,
            "no coordinator answers: is the cluster running?",
        ));
    }
    let shown = groups.iter().map(|(group, name)| group_json(&known, *group, name));
    output.json(&json!({ "groups": shown.collect::<Vec<_>>() }));
    for (group, name) in groups {
        output.heading(&format!("group {name}{}", members(&known, group)));
        let header = ["node", "state", "term", "commit", "applied", "lag", "checkpoint", "address"];
        let rows = known.addresses.keys().map(|node| cells(&known, *node, group));
        output.table(&header, rows.collect());
    }
    Ok(())
}

/// The members, as whoever leads knows them.
fn members(known: &Known, group: GroupId) -> String {
    let Some(Look { status, .. }) = known.leader(group) else {
        return ": no leader".to_owned();
    };
    let list =
        |nodes: &[NodeId]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let mut text = format!(": voters {}", list(&status.voters));
    if !status.outgoing.is_empty() {
        text += &format!(", before {}", list(&status.outgoing));
    }
    if !status.learners.is_empty() {
        text += &format!(", learners {}", list(&status.learners));
    }
    text
}

/// What a node is in a group, in a word.
fn state(known: &Known, node: NodeId, group: GroupId) -> &'static str {
    let Some(Look { status, .. }) = known.look(node, group) else { return "down" };
    match status.role {
        State::Stopped => "stopped",
        State::Leader { .. } => "leader",
        _ if status.rebuilding => "rebuilding",
        State::Candidate => "candidate",
        State::Follower { .. } => {
            let leader = known.leader(group).map_or(status, |leader| &leader.status);
            let votes = leader.voters.contains(&node) || leader.outgoing.contains(&node);
            match (votes, leader.learners.contains(&node)) {
                (true, _) => "follower",
                (false, true) => "learner",
                (false, false) => "no member",
            }
        }
    }
}

/// Entries that are committed and not applied at a node.
fn lag(known: &Known, node: NodeId, group: GroupId) -> Option<u64> {
    let applied = known.look(node, group)?.status.applied;
    Some(known.leader(group)?.status.commit.0.saturating_sub(applied.0))
}

fn cells(known: &Known, node: NodeId, group: GroupId) -> Vec<String> {
    let status = known.look(node, group).map(|look| &look.status);
    let text = |number: Option<u64>| number.map_or_else(|| "-".to_owned(), |n| n.to_string());
    vec![
        node.to_string(),
        state(known, node, group).to_owned(),
        text(status.map(|status| status.term.0)),
        text(status.map(|status| status.commit.0)),
        text(status.map(|status| status.applied.0)),
        text(lag(known, node, group)),
        text(status.map(|status| status.checkpoint.0)),
        known.addresses[&node].to_string(),
    ]
}

fn group_json(known: &Known, group: GroupId, name: &str) -> Value {
    let leader = known.leader(group).map(|look| &look.status);
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect::<Vec<_>>();
    let row = |node: &NodeId| {
        let status = known.look(*node, group).map(|look| &look.status);
        json!({
            "node": node.0,
            "address": known.addresses[node].to_string(),
            "state": state(known, *node, group),
            "term": status.map(|status| status.term.0),
            "last": status.map(|status| status.last.0),
            "commit": status.map(|status| status.commit.0),
            "applied": status.map(|status| status.applied.0),
            "lag": lag(known, *node, group),
            "checkpoint": status.map(|status| status.checkpoint.0),
            "log_bytes": status.map(|status| status.log_bytes),
            "rebuilding": status.map(|status| status.rebuilding),
            "stopped": status.and_then(|status| status.stopped.clone()),
        })
    };
    json!({
        "group": name,
        "leader": leader.map(|status| status.me.0),
        "voters": leader.map(|status| ids(&status.voters)),
        "outgoing": leader.map(|status| ids(&status.outgoing)),
        "learners": leader.map(|status| ids(&status.learners)),
        "nodes": known.addresses.keys().map(row).collect::<Vec<_>>(),
    })
}
