//! Bad input: one clear sentence each, the right exit code, nothing damaged.

use std::fs;

use crate::harness::{Cluster, plumeria, said};

/// Runs `plumeria` and expects an exit code and a word in what it says.
pub(crate) fn refused(arguments: &[&str], code: i32, word: &str) {
    let output = plumeria(arguments);
    assert_eq!(output.status.code(), Some(code), "plumeria {arguments:?}: {}", said(&output));
    assert!(
        said(&output).contains(word),
        "plumeria {arguments:?} does not say {word:?}: {}",
        said(&output)
    );
}

#[test]
fn unknown_flags_and_commands_are_usage_errors() {
    refused(&["dev", "--no-such-flag"], 2, "--no-such-flag");
    refused(&["no-such-command"], 2, "no-such-command");
    refused(&["status", "--timeout", "soon", "x"], 2, "soon");
}

#[test]
fn help_explains_and_succeeds() {
    for command in [&["--help"][..], &["dev", "--help"], &["mr", "run", "wordcount", "--help"]] {
        let output = plumeria(command);
        assert!(output.status.success() && output.stdout.len() > 200, "{}", said(&output));
    }
}

#[test]
fn a_directory_with_foreign_content_is_not_touched() {
    let cluster = Cluster::new();
    fs::create_dir(cluster.path("data")).unwrap();
    fs::write(cluster.path("data/precious"), "keep").unwrap();
    refused(&["dev", &cluster.text("data"), &cluster.text("mnt")], 2, "neither empty");
    assert_eq!(fs::read_dir(cluster.path("data")).unwrap().count(), 1);
}

#[test]
fn another_format_version_is_refused_and_left_alone() {
    let cluster = Cluster::new();
    fs::create_dir(cluster.path("data")).unwrap();
    let layout = "format = 99\nfrom = \"the future\"\n";
    fs::write(cluster.path("data/plumeria.toml"), layout).unwrap();
    refused(&["dev", &cluster.text("data"), &cluster.text("mnt")], 2, "format version 99");
    assert_eq!(fs::read_to_string(cluster.path("data/plumeria.toml")).unwrap(), layout);
}

#[test]
fn a_missing_mount_point_or_cluster_is_named() {
    let cluster = Cluster::new();
    let missing = cluster.text("nowhere");
    refused(&["dev", &cluster.text("data"), &missing], 2, &missing);
    refused(&["mount", &missing, &cluster.text("mnt")], 2, &missing);
    refused(&["status", &missing], 2, &missing);
    refused(&["stop", &missing], 2, &missing);
    refused(&["umount", &cluster.text("mnt")], 2, "no mount point");
}

#[test]
fn impossible_shapes_of_a_cluster_are_refused() {
    let cluster = Cluster::new();
    let (data, mnt) = (cluster.text("data"), cluster.text("mnt"));
    refused(&["dev", &data, &mnt, "--coordinators", "2"], 2, "--coordinators");
    refused(&["dev", &data, &mnt, "--replicas", "4"], 2, "--replicas");
    refused(&["dev", &data, &mnt, "--lease", "1s"], 2, "--lease");
}

#[test]
fn a_configuration_with_unknown_keys_is_refused() {
    let cluster = Cluster::new();
    let file = cluster.text("block.toml");
    fs::write(&file, "nod = 3\n").unwrap();
    refused(&["block", "--config", &file], 2, &file);
    refused(&["coordinator", "--config", &cluster.text("missing.toml")], 2, "missing.toml");
}

#[test]
fn errors_are_json_on_request() {
    let output = plumeria(&["status", "--json", "/no/such/cluster"]);
    let error: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["exit_code"], 2);
    assert!(error["error"].as_str().unwrap().contains("/no/such/cluster"));
}

#[test]
fn a_busy_mount_point_or_data_directory_is_refused_and_goes_on_undisturbed() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    fs::write(cluster.path("mnt/file"), "content").unwrap();
    refused(&["dev", &cluster.text("other"), &cluster.text("mnt")], 2, "already mounted");
    refused(&["mount", &cluster.text("data"), &cluster.text("mnt")], 2, "already mounted");
    refused(&["dev", &cluster.text("data"), &cluster.text("mnt2")], 1, "in use by another process");
    assert_eq!(fs::read_to_string(cluster.path("mnt/file")).unwrap(), "content");
}

#[test]
fn the_disk_of_another_cluster_is_refused() {
    let cluster = Cluster::new();
    let (mine, other) = (cluster.text("data"), cluster.text("other"));
    cluster.start(&[]);
    cluster.stop();
    cluster.run(&["dev", &other, &cluster.text("mnt"), "--detach"]);
    cluster.run(&["stop", &other]);
    fs::rename(cluster.path("data/block-12"), cluster.path("kept")).unwrap();
    fs::rename(cluster.path("other/block-12"), cluster.path("data/block-12")).unwrap();
    refused(&["dev", &mine, &cluster.text("mnt")], 1, "belongs to cluster");
    fs::rename(cluster.path("data/block-12"), cluster.path("other/block-12")).unwrap();
    fs::rename(cluster.path("kept"), cluster.path("data/block-12")).unwrap();
    cluster.start(&[]);
}

#[test]
fn a_port_in_use_and_an_open_address_are_refused() {
    let cluster = Cluster::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let config = |address: &str| {
        let file = cluster.path("coordinator.toml");
        let text = format!(
            "node = 1\ndir = \"{}\"\nreplicas = 1\nservers = [11]\n[client]\n\
             cluster = \"00000000000000000000000000000001\"\nlease = \"4s\"\n\
             coordinators = [{{ node = 1, address = \"{address}\" }}]\n",
            cluster.text("coordinator")
        );
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let address = taken.local_addr().unwrap().to_string();
    refused(&["coordinator", "--config", &config(&address)], 1, &address);
    refused(&["coordinator", "--config", &config("192.0.2.1:7000")], 2, "insecure");
}
