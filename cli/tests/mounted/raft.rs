//! `plumeria raft` on real coordinators: who leads, handing on, adding and removing a coordinator while
//! the cluster is mounted and written to.

use std::{
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::Value;

use crate::harness::{Cluster, PROGRAM, eventually, plumeria, said};

const TIMEOUT: &str = "20s";

/// A coordinator that a test started; killed when it is dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn groups(cluster: &Cluster) -> Value {
    let data = cluster.text("data");
    cluster.json(&["raft", "status", &data])[0]["groups"].clone()
}

fn node(group: &Value, id: u64) -> Value {
    let nodes = group["nodes"].as_array().unwrap();
    nodes.iter().find(|node| node["node"] == id).cloned().unwrap_or_default()
}

fn both_led(cluster: &Cluster) -> Value {
    eventually(Duration::from_secs(20), || {
        let groups = groups(cluster);
        let led = groups.as_array().unwrap().iter().all(|group| group["leader"].is_u64());
        if led { Ok(groups) } else { Err(groups.to_string()) }
    })
}

#[test]
fn every_node_of_every_group_is_shown_and_leadership_is_handed_on() {
    let cluster = Cluster::new();
    cluster.start(&["--coordinators", "3"]);
    let data = cluster.text("data");
    let status = both_led(&cluster);
    for group in status.as_array().unwrap() {
        assert_eq!(group["voters"], serde_json::json!([1, 2, 3]));
        assert_eq!(group["nodes"].as_array().unwrap().len(), 3);
        let leader = group["leader"].as_u64().unwrap();
        assert_eq!(node(group, leader)["state"], "leader");
    }
    let name = status[0]["group"].as_str().unwrap().to_owned();
    let next = status[0]["leader"].as_u64().unwrap() % 3 + 1;
    cluster.run(&[
        "raft",
        "transfer",
        &data,
        &next.to_string(),
        "--group",
        &name,
        "--timeout",
        TIMEOUT,
    ]);
    eventually(Duration::from_secs(10), || {
        let now = groups(&cluster)[0]["leader"].clone();
        if now == next { Ok(()) } else { Err(format!("{now} leads, not {next}")) }
    });
    fs::write(cluster.path("mnt/after"), "goes on").unwrap();
    let unknown = plumeria(&["raft", "status", &data, "--group", "nobody"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", said(&unknown));
    let table = cluster.run(&["raft", "status", &data]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("voters 1 2 3") && table.contains("leader"), "{table}");
}

#[test]
fn a_coordinator_is_added_and_another_removed_while_the_cluster_is_written_to() {
    let cluster = Cluster::new();
    cluster.start(&["--processes", "--coordinators", "3", "--lease", "4s"]);
    let data = cluster.text("data");
    both_led(&cluster);
    fs::write(cluster.path("mnt/before"), "content").unwrap();
    // As an operator would: the configuration of another one, with its own number and directory.
    let example = fs::read_to_string(cluster.path("data/run/coordinator-1.toml")).unwrap();
    let mut config: toml::Table = example.parse().unwrap();
    let address = format!("unix:{}", cluster.text("data/run/c4.sock"));
    config.insert("node".into(), 4.into());
    config.insert("dir".into(), cluster.text("fourth").into());
    config.insert("joining".into(), true.into());
    let mut own = toml::Table::new();
    own.insert("node".into(), 4.into());
    own.insert("address".into(), address.clone().into());
    let client = config["client"].as_table_mut().unwrap();
    client["coordinators"].as_array_mut().unwrap().push(own.into());
    let file = cluster.path("fourth.toml");
    fs::write(&file, config.to_string()).unwrap();
    let start = || {
        let mut command = Command::new(PROGRAM);
        command.args(["coordinator", "--config"]).arg(&file).stdout(Stdio::null());
        Started(command.spawn().unwrap())
    };
    let started = start();
    cluster.run(&["raft", "add", &data, "4", "--address", &address, "--timeout", TIMEOUT]);
    for group in both_led(&cluster).as_array().unwrap() {
        assert_eq!(group["voters"], serde_json::json!([1, 2, 3, 4]), "{group}");
    }
    // Again, which changes nothing.
    cluster.run(&["raft", "add", &data, "4", "--address", &address, "--timeout", TIMEOUT]);
    cluster.run(&["raft", "remove", &data, "1", "--timeout", TIMEOUT]);
    for group in both_led(&cluster).as_array().unwrap() {
        assert_eq!(group["voters"], serde_json::json!([2, 3, 4]), "{group}");
        assert_ne!(group["leader"], 1, "{group}");
    }
    // The mount knows coordinators 1 to 3: one of those is to lead while the fourth is away.
    cluster.run(&["raft", "transfer", &data, "2", "--timeout", TIMEOUT]);
    // A restart reads the group from its own directory, not from the configuration.
    drop(started);
    let _started = start();
    eventually(Duration::from_secs(20), || {
        let groups = groups(&cluster);
        let good = groups.as_array().unwrap().iter().all(|group| {
            let state = node(group, 4)["state"].clone();
            group["voters"] == serde_json::json!([2, 3, 4])
                && (state == "follower" || state == "leader")
        });
        if good { Ok(()) } else { Err(groups.to_string()) }
    });
    assert_eq!(fs::read_to_string(cluster.path("mnt/before")).unwrap(), "content");
    fs::write(cluster.path("mnt/after"), "goes on").unwrap();
}
