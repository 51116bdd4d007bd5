//! `plumeria locks` and `plumeria sessions` on a mounted cluster: who holds, who waits for whom, since
//! when, and what becomes of a session that dies.

use std::{fs, thread, time::Duration};

use serde_json::Value;

use crate::harness::{Cluster, Frozen, eventually, kill};

fn sessions(cluster: &Cluster) -> Vec<Value> {
    let rows = cluster.json(&["sessions", &cluster.text("data")]).remove(0);
    rows["sessions"].as_array().unwrap().clone()
}

/// The session of the mount on `mnt2`.
fn second(cluster: &Cluster) -> Value {
    let owner = format!("mount {}", cluster.text("mnt2"));
    let found = sessions(cluster).into_iter().find(|row| row["owner"] == owner);
    found.unwrap_or_else(|| panic!("no session of {owner}"))
}

#[test]
fn who_holds_a_lock_and_who_waits_for_it_is_shown_with_times() {
    let cluster = Cluster::new();
    cluster.start(&[]);
    let pid = cluster.mount_again();
    fs::write(cluster.path("mnt2/file"), "of the second").unwrap();
    let row = second(&cluster);
    let holder = row["session"].as_u64().unwrap();
    assert_eq!((&row["kind"], &row["state"]), (&"mount".into(), &"live".into()));
    assert!(row["spans"].as_u64().unwrap() > 0 && row["names"].as_u64() > row["spans"].as_u64());
    let left = row["lease_left_ms"].as_u64().unwrap();
    assert!((10_000..=30_000).contains(&left), "{left} ms are left of a lease of 30 s");
    let data = cluster.text("data");
    let locks = cluster.json(&["locks", &data]).remove(0);
    assert!(locks["waiters"].as_array().unwrap().is_empty(), "{locks}");
    let held = locks["locks"].as_array().unwrap().iter().find(|lock| {
        lock["owners"][0]["session"] == holder && lock["owners"][0]["mode"] == "exclusive"
    });
    let held = held.unwrap_or_else(|| panic!("{holder} holds nothing of {locks}"));
    assert!(held["held_ms"].is_u64() && held["owners"][0]["grant"].as_u64() > Some(0), "{held}");

    let frozen = Frozen::new(pid);
    let file = cluster.path("mnt/file");
    let reader = thread::spawn(move || fs::read_to_string(file));
    let waiter = eventually(Duration::from_secs(10), || {
        let locks = cluster.json(&["locks", &data]).remove(0);
        let waiter = locks["waiters"][0].clone();
        if waiter.is_object() { Ok(waiter) } else { Err(locks.to_string()) }
    });
    assert_eq!(waiter["for"], serde_json::json!([holder]), "{waiter}");
    assert_ne!(waiter["session"], holder);
    eventually(Duration::from_secs(10), || {
        let locks = cluster.json(&["locks", &data]).remove(0);
        let waited = locks["waiters"][0]["waited_ms"].as_u64();
        if waited > Some(300) { Ok(()) } else { Err(locks.to_string()) }
    });
    let table = cluster.run(&["locks", &data]).stdout;
    let table = String::from_utf8(table).unwrap();
    for word in ["held\n", "waiting\n", "exclusive", "waits for"] {
        assert!(table.contains(word), "no {word:?} in {table}");
    }
    drop(frozen);
    assert_eq!(reader.join().unwrap().unwrap(), "of the second");
    let locks = cluster.json(&["locks", &data]).remove(0);
    assert!(locks["waiters"].as_array().unwrap().is_empty(), "{locks}");
}

#[test]
fn a_dead_mount_is_seen_to_expire_and_is_gone_once_it_is_recovered() {
    let cluster = Cluster::new();
    cluster.start(&["--lease", "2s"]);
    let pid = cluster.mount_again();
    fs::write(cluster.path("mnt2/file"), "not flushed").unwrap();
    let session = second(&cluster)["session"].clone();
    kill(pid);
    eventually(Duration::from_secs(10), || {
        let rows = sessions(&cluster);
        let there = rows.iter().any(|row| row["session"] == session);
        if there { Err(format!("{rows:?}")) } else { Ok(()) }
    });
    let table =
        String::from_utf8(cluster.run(&["sessions", &cluster.text("data")]).stdout).unwrap();
    assert!(table.contains("lease left") && table.contains("dev mount"), "{table}");
}

#[test]
fn a_cluster_with_several_lock_shards_is_checked_while_two_mounts_use_it() {
    let cluster = Cluster::new();
    cluster.start(&["--lock-shards", "3"]);
    cluster.mount_again();
    for (mount, count) in [("mnt", 40), ("mnt2", 60)] {
        fs::create_dir(cluster.path(mount).join(format!("of-{mount}"))).unwrap();
        for number in 0..count {
            let file = cluster.path(mount).join(format!("of-{mount}/{number}"));
            fs::write(file, format!("{number} of {mount}, never synced")).unwrap();
        }
    }
    let data = cluster.text("data");
    let report = cluster.json(&["fsck", &data]).remove(0);
    assert_eq!((&report["clean"], &report["files"]), (&true.into(), &100.into()), "{report}");
    // Both go on, each in the other's directory.
    fs::write(cluster.path("mnt/of-mnt2/more"), "more").unwrap();
    fs::rename(cluster.path("mnt2/of-mnt/7"), cluster.path("mnt2/of-mnt2/seven")).unwrap();
    let report = cluster.json(&["fsck", &data]).remove(0);
    assert_eq!((&report["clean"], &report["files"]), (&true.into(), &101.into()), "{report}");
    assert_eq!(fs::read_to_string(cluster.path("mnt/of-mnt2/more")).unwrap(), "more");
}
