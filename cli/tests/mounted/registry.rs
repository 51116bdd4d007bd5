//! `plumeria registry` on a mounted cluster, and who registers there by itself.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::Duration,
};

use crate::{
    bad_input::refused,
    harness::{Cluster, PROGRAM, eventually, kill, plumeria, said},
};

/// The nodes that `plumeria status` lists as registered.
fn registered(cluster: &Cluster) -> Vec<String> {
    let status = cluster.status();
    let rows = status["registered"].as_array().unwrap().iter();
    rows.map(|row| row["node"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn nodes_are_created_read_changed_listed_and_deleted() {
    let cluster = Cluster::new();
    cluster.start(&["--coordinators", "3"]);
    let data = cluster.text("data");
    let run = |rest: &[&str]| {
        let arguments = [&["registry", rest[0], &data], &rest[1..]].concat();
        String::from_utf8(cluster.run(&arguments).stdout).unwrap()
    };
    assert_eq!(run(&["create", "/app/config", "one", "--parents"]), "/app/config\n");
    assert_eq!(run(&["get", "/app/config"]), "one\n");
    assert_eq!(run(&["set", "/app/config", "two", "--if-version", "0"]), "version 1\n");
    assert_eq!(run(&["create", "/app/n-", "--sequential"]), "/app/n-0000000000\n");
    let node = cluster.json(&["registry", "get", &data, "/app/config"]).remove(0);
    assert_eq!((&node["data"], &node["version"]), (&"two".into(), &1.into()));
    let nodes = cluster.json(&["registry", "ls", &data, "/app"]).remove(0);
    let names = nodes["nodes"].as_array().unwrap().iter().map(|node| node["path"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["/app/config", "/app/n-0000000000"]);
    let table = run(&["ls", "/app"]);
    assert!(table.contains("version") && table.contains("/app/config"), "{table}");
    // It is in the log of the group, not in one coordinator.
    cluster.stop();
    cluster.start(&[]);
    assert_eq!(run(&["get", "/app/config"]), "two\n");
    refused(&["registry", "set", &data, "/app/config", "x", "--if-version", "0"], 1, "version 1");
    refused(&["registry", "delete", &data, "/app"], 1, "has children");
    refused(&["registry", "create", &data, "/app/config"], 1, "/app/config");
    refused(&["registry", "create", &data, "/none/below"], 1, "/none");
    refused(&["registry", "get", &data, "/nothing"], 1, "no registry node /nothing");
    refused(&["registry", "ls", &data, "/nothing"], 1, "no registry node /nothing");
    refused(&["registry", "get", &data, "nothing"], 2, "nothing");
    assert_eq!(run(&["delete", "/app/config"]), "");
    refused(&["registry", "get", &data, "/app/config"], 1, "no registry node /app/config");
}

#[test]
fn a_watch_prints_what_happens_to_a_node_in_order() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    let data = cluster.text("data");
    let mut watching = Command::new(PROGRAM)
        .args(["registry", "watch", &data, "/w", "--count", "3", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    let mut lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()));
    let first = lines.next().unwrap().unwrap();
    assert_eq!(first["happened"], "watching", "from here on nothing is missed");
    cluster.run(&["registry", "create", &data, "/w"]);
    cluster.run(&["registry", "set", &data, "/w", "x"]);
    cluster.run(&["registry", "delete", &data, "/w"]);
    let mut told: Vec<String> = Vec::new();
    for change in lines {
        let change = change.unwrap();
        assert_eq!(change["path"], "/w");
        told.push(change["happened"].as_str().unwrap().to_owned());
    }
    assert!(watching.wait().unwrap().success());
    assert_eq!(told, ["created", "set", "deleted"]);
    refused(&["registry", "watch", &data, "/w", "--timeout", "1s"], 1, "deadline");
}

#[test]
fn mounts_and_workers_are_registered_as_long_as_they_live() {
    let cluster = Cluster::new();
    cluster.start(&["--lease", "2s"]);
    let first = registered(&cluster);
    let of =
        |group: &str, nodes: &[String]| nodes.iter().filter(|node| node.starts_with(group)).count();
    assert_eq!((of("/mounts/", &first), of("/workers/", &first)), (1, 2), "{first:?}");
    let pid = cluster.mount_again();
    let both = registered(&cluster);
    assert_eq!(of("/mounts/", &both), 2, "{both:?}");
    let table = plumeria(&["status", &cluster.text("data")]);
    assert!(said(&table).contains(&cluster.text("mnt2")), "{}", said(&table));
    kill(pid);
    eventually(Duration::from_secs(10), || {
        let left = registered(&cluster);
        if left == first { Ok(()) } else { Err(format!("{left:?}")) }
    });
    fs::write(cluster.path("mnt/after"), "goes on").unwrap();
}

#[test]
fn workers_in_processes_of_their_own_are_registered_too() {
    let cluster = Cluster::new();
    cluster.start(&["--processes"]);
    let there = eventually(Duration::from_secs(20), || {
        let there = registered(&cluster);
        if there.len() == 3 { Ok(there) } else { Err(format!("{there:?}")) }
    });
    assert!(there.iter().any(|node| node.starts_with("/mounts/")), "{there:?}");
}
