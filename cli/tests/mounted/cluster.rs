//! Real clusters, mounted: what a user does first, and what an operator does to it.

use std::{fs, io::Write as _, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

use crate::harness::{Cluster, PROGRAM, eventually, is_mounted, kill, plumeria, said};

/// Creates a file and makes it and its name durable.
fn write_durably(path: &Path, content: &[u8]) {
    let mut file = fs::File::create_new(path).unwrap();
    file.write_all(content).unwrap();
    file.sync_all().unwrap();
    fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn two_mounts_see_each_others_changes_at_once() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let (one, two) = (cluster.path("mnt"), cluster.path("mnt2"));
    assert_eq!(fs::metadata(two.join("a")).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    for round in 0..20 {
        fs::write(one.join("a"), format!("one {round}")).unwrap();
        assert_eq!(fs::read_to_string(two.join("a")).unwrap(), format!("one {round}"));
        fs::write(two.join("a"), format!("and two {round}")).unwrap();
        assert_eq!(fs::read_to_string(one.join("a")).unwrap(), format!("and two {round}"));
    }
    fs::create_dir(two.join("dir")).unwrap();
    fs::rename(one.join("a"), one.join("dir/b")).unwrap();
    assert_eq!(names(&two), ["dir"]);
    assert_eq!(names(&two.join("dir")), ["b"]);
    std::os::unix::fs::symlink("dir/b", two.join("link")).unwrap();
    assert_eq!(fs::read_link(one.join("link")).unwrap(), Path::new("dir/b"));
    fs::hard_link(one.join("dir/b"), one.join("c")).unwrap();
    assert_eq!(fs::metadata(two.join("c")).unwrap().nlink(), 2);
    fs::File::options().write(true).open(two.join("c")).unwrap().set_len(3).unwrap();
    assert_eq!(fs::read_to_string(one.join("dir/b")).unwrap(), "and");
    fs::remove_file(one.join("c")).unwrap();
    fs::remove_file(one.join("dir/b")).unwrap();
    fs::remove_dir(two.join("dir")).unwrap();
    assert_eq!(names(&one), ["link"]);
}

#[test]
fn a_stopped_cluster_has_everything_when_it_starts_again() {
    let cluster = Cluster::new();
    cluster.start(&["--coordinators", "3"]);
    let mnt = cluster.path("mnt");
    fs::create_dir_all(mnt.join("deep/er")).unwrap();
    let large: Vec<u8> = (0..5_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(mnt.join("deep/large"), &large).unwrap();
    for number in 0..300 {
        fs::write(mnt.join(format!("deep/er/{number}")), format!("content of {number}")).unwrap();
    }
    cluster.stop();
    assert!(!is_mounted(&mnt));
    let output =
        cluster.run(&["dev", &cluster.text("data"), &cluster.text("mnt"), "--detach", "--json"]);
    assert!(output.status.success());
    assert_eq!(names(&mnt.join("deep/er")).len(), 300);
    assert!(fs::read(mnt.join("deep/large")).unwrap() == large, "the large file is not the same");
    for number in 0..300 {
        let content = fs::read_to_string(mnt.join(format!("deep/er/{number}"))).unwrap();
        assert_eq!(content, format!("content of {number}"));
    }
    cluster.run(&["fsck", &cluster.text("data")]);
}

#[test]
fn what_was_fsynced_survives_a_kill_of_the_whole_cluster() {
    let cluster = Cluster::new();
    cluster.start(&["--lease", "4s"]);
    let mnt = cluster.path("mnt");
    fs::create_dir(mnt.join("d")).unwrap();
    for number in 0..30_u32 {
        write_durably(
            &mnt.join(format!("d/{number}")),
            &vec![number as u8; 3_000 * number as usize],
        );
    }
    fs::write(mnt.join("d/not-synced"), "perhaps").unwrap();
    kill(cluster.pid("dev"));
    eventually(Duration::from_secs(5), || {
        match plumeria(&["umount", "--force", &cluster.text("mnt")]) {
            output if output.status.success() || !is_mounted(&mnt) => Ok(()),
            output => Err(said(&output)),
        }
    });
    cluster.start(&[]);
    for number in 0..30_u32 {
        let content = fs::read(mnt.join(format!("d/{number}"))).unwrap();
        assert!(
            content == vec![number as u8; 3_000 * number as usize],
            "file {number} is not whole"
        );
    }
    fs::write(mnt.join("d/after"), "goes on").unwrap();
    cluster.stop();
    cluster.start(&[]);
    cluster.run(&["fsck", &cluster.text("data")]);
    assert_eq!(fs::read_to_string(mnt.join("d/after")).unwrap(), "goes on");
}

#[test]
fn a_killed_mount_is_recovered_by_another_which_goes_on() {
    let cluster = Cluster::new();
    cluster.start(&["--processes", "--lease", "2s"]);
    let victim = cluster.mount_again();
    let (one, two) = (cluster.path("mnt"), cluster.path("mnt2"));
    fs::create_dir(two.join("d")).unwrap();
    for number in 0..20_u32 {
        write_durably(&two.join(format!("d/{number}")), &vec![7; 5_000]);
    }
    kill(victim);
    for number in 0..20_u32 {
        let content = fs::read(one.join(format!("d/{number}"))).unwrap();
        assert!(content == vec![7; 5_000], "file {number} is not whole");
    }
    fs::write(one.join("d/after"), "goes on").unwrap();
    let mounts = cluster.status()["mounts"].as_array().unwrap().len();
    assert_eq!(mounts, 1, "the dead mount is still listed");
    assert!(plumeria(&["umount", "--force", &cluster.text("mnt2")]).status.success());
    cluster.run(&["fsck", &cluster.text("data")]);
}

#[test]
fn a_mount_helper_mounts_as_fstab_says_and_a_synchronous_mount_loses_nothing_that_was_answered() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    let helper = cluster.path("mount.fuse.plumeria");
    std::os::unix::fs::symlink(PROGRAM, &helper).unwrap();
    let source = cluster.text("data/run/client.toml");
    let mount = |options: &str| {
        let mut command = std::process::Command::new(&helper);
        command.args([&source, &cluster.text("mnt2"), "-n", "-o", options, "-t", "fuse.plumeria"]);
        command.output().unwrap()
    };
    let refused = mount("rw,what-is-this");
    assert!(!refused.status.success() && !is_mounted(&cluster.path("mnt2")), "{}", said(&refused));
    let output = mount("defaults,_netdev,sync,nosuid,x-systemd.automount");
    assert!(output.status.success(), "{}", said(&output));
    let table = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = table.lines().find(|line| line.contains(&cluster.text("mnt2"))).unwrap();
    assert!(line.contains("fuse.plumeria") && line.contains("nosuid"), "{line}");

    let two = cluster.path("mnt2");
    fs::create_dir(two.join("dir")).unwrap();
    fs::write(two.join("dir/file"), "answered, so it is there").unwrap();
    fs::write(two.join("old"), "cut off here").unwrap();
    fs::rename(two.join("old"), two.join("new")).unwrap();
    fs::File::options().write(true).open(two.join("new")).unwrap().set_len(7).unwrap();
    kill(cluster.pid("mount-mnt2"));
    let one = cluster.path("mnt");
    eventually(Duration::from_secs(60), || {
        fs::read_to_string(one.join("dir/file")).map_err(|error| error.to_string())
    });
    assert_eq!(fs::read_to_string(one.join("dir/file")).unwrap(), "answered, so it is there");
    assert_eq!(fs::read_to_string(one.join("new")).unwrap(), "cut off");
    assert_eq!(names(&one), ["dir", "new"]);
    let _ = std::process::Command::new("umount").arg("-l").arg(&two).status();

    let output = mount("ro");
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(two.join("new")).unwrap(), "cut off");
    let refused = fs::write(two.join("new"), "x").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    cluster.run(&["umount", &cluster.text("mnt2")]);
}

#[test]
fn a_killed_block_server_is_a_pause_and_everything_goes_on_when_it_is_back() {
    let cluster = Cluster::new();
    cluster.start(&["--processes", "--lease", "3s"]);
    let mnt = cluster.path("mnt");
    write_durably(&mnt.join("before"), &vec![1; 100_000]);
    kill(cluster.pid("block-12"));
    // The supervisor starts it again; the write waits meanwhile.
    write_durably(&mnt.join("meanwhile"), &vec![2; 100_000]);
    assert!(fs::read(mnt.join("before")).unwrap() == vec![1; 100_000]);
    assert!(fs::read(mnt.join("meanwhile")).unwrap() == vec![2; 100_000]);
    cluster.stop();
    cluster.start(&[]);
    assert!(fs::read(mnt.join("meanwhile")).unwrap() == vec![2; 100_000]);
}

#[test]
fn a_block_server_is_added_and_another_drained_and_removed_under_a_mount() {
    let cluster = Cluster::new();
    cluster.start(&["--processes", "--lease", "3s"]);
    let (mnt, data) = (cluster.path("mnt"), cluster.text("data"));
    write_durably(&mnt.join("before"), &vec![1; 5_000_000]);
    let state = |node: u64| -> Result<serde_json::Value, String> {
        let output = cluster.run(&["server", "ls", "--json", &data]);
        let all: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let rows = all["block_servers"].as_array().unwrap();
        let row = rows.iter().find(|row| row["node"] == node).cloned();
        row.ok_or_else(|| format!("there is no server {node}: {all}"))
    };
    let refused = plumeria(&["server", "drain", &data, "12"]);
    assert_eq!(refused.status.code(), Some(1), "three copies need three servers");
    cluster.run(&["server", "add", &data, "14"]);
    eventually(Duration::from_secs(60), || match state(14)? {
        // 64 groups, three copies, four servers: an equal share is 48.
        row if row["groups"].as_u64() >= Some(48) && row["missing_groups"] == 0 => Ok(()),
        row => Err(format!("server 14 has no equal share yet: {row}")),
    });
    cluster.run(&["server", "drain", &data, "12", "--timeout", "60s"]);
    assert_eq!(state(12).unwrap()["groups"], 0);
    write_durably(&mnt.join("meanwhile"), &vec![2; 5_000_000]);
    cluster.run(&["server", "remove", &data, "12"]);
    assert!(state(12).is_err());
    assert!(fs::read(mnt.join("before")).unwrap() == vec![1; 5_000_000]);
    cluster.stop();
    cluster.start(&[]);
    assert!(fs::read(mnt.join("before")).unwrap() == vec![1; 5_000_000]);
    assert!(fs::read(mnt.join("meanwhile")).unwrap() == vec![2; 5_000_000]);
}

#[test]
fn stop_refuses_while_another_mount_lives_and_names_it() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    cluster.mount_again();
    let output = plumeria(&["stop", &cluster.text("data")]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("mnt2"), "{}", said(&output));
    assert!(is_mounted(&cluster.path("mnt")));
    cluster.run(&["umount", &cluster.text("mnt2")]);
    cluster.stop();
    assert!(!is_mounted(&cluster.path("mnt")));
}

#[test]
fn unpacking_costs_the_lock_plane_almost_nothing() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    let messages = || {
        let status = cluster.status();
        status["mounts"][0]["numbers"]["lock_messages"].as_u64().expect("the counter is exported")
    };
    let before = messages();
    for number in 0..1_000 {
        let dir = cluster.path(&format!("mnt/d{}", number / 100));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(format!("f{number}")), "x".repeat(number)).unwrap();
        fs::rename(dir.join(format!("f{number}")), dir.join(format!("g{number}"))).unwrap();
    }
    let spent = messages() - before;
    assert!(
        spent < 50,
        "{spent} lock-plane messages for 3,000 operations in directories of its own"
    );
}

#[test]
fn word_count_equals_a_count_on_local_files() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    let dir = cluster.path("mnt/texts");
    fs::create_dir_all(dir.join("sub")).unwrap();
    let mut expected = std::collections::BTreeMap::<String, u64>::new();
    for number in 0..200_u64 {
        let words: Vec<String> =
            (0..500).map(|word| format!("w{}", (word * number) % 97)).collect();
        for word in &words {
            *expected.entry(word.clone()).or_default() += 1;
        }
        let place = if number % 3 == 0 { "sub/" } else { "" };
        fs::write(
            dir.join(format!("{place}t{number}")),
            words.join(if number % 2 == 0 { " \n" } else { "\t" }),
        )
        .unwrap();
    }
    let output = cluster.text("mnt/out");
    cluster.run(&["mr", "run", "wordcount", &cluster.text("mnt/texts"), &output]);
    let mut counted = std::collections::BTreeMap::new();
    for name in names(Path::new(&output)).iter().filter(|name| name.starts_with("part-")) {
        for line in fs::read_to_string(Path::new(&output).join(name)).unwrap().lines() {
            let (word, count) = line.split_once('\t').unwrap();
            assert_eq!(counted.insert(word.to_owned(), count.parse::<u64>().unwrap()), None);
        }
    }
    assert_eq!(counted, expected);
    assert_eq!(fs::metadata(Path::new(&output).join("_SUCCESS")).unwrap().len(), 0);
    let again = plumeria(&["mr", "run", "wordcount", &cluster.text("mnt/texts"), &output]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("exists"), "{}", said(&again));
}
