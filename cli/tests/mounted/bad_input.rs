//! Bad input: one clear sentence each, the right exit code, nothing damaged.

use std::fs;

use crate::harness::{Cluster, plumeria, said};

/// Runs `plumeria` and expects an exit code and a word in what it says.
fn refused(arguments: &[&str], code: i32, word: &str) {
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
