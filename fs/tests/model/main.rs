//! The file system against a reference model: random operations on one mount, on two mounts that
//! take each other's locks away, and with mounts and disks that die in between. What every
//! operation answers must be what the model answers; what a recovery leaves must be a state that
//! the model passed through, with everything in it that was synced; and the volume must pass fsck.
//!
//! `PLUMERIA_MODEL_RUNS` sets how many sequences of operations each test runs, and
//! `PLUMERIA_MODEL_SEED` the first; a failure names the seed.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "tests may panic and talk")]

mod cluster;
mod crash;
mod drive;
mod model;
mod plan;
mod shared;

use std::time::Duration;

use cluster::Cluster;
use crash::History;
use drive::Player;
use plan::{Dice, Plan};
use world::World;

const OPERATIONS: u32 = 100;

fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let first = number("PLUMERIA_MODEL_SEED").unwrap_or(0);
    first..first + number("PLUMERIA_MODEL_RUNS").unwrap_or(default)
}

/// Runs one sequence; a panic in it tells the seed, and so does one that does not end.
async fn one(name: &str, seed: u64, sequence: impl Future<Output = ()>) {
    struct Seed<'a>(&'a str, u64);
    impl Drop for Seed<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}: failed with seed {}", self.0, self.1);
            }
        }
    }
    let _seed = Seed(name, seed);
    let world = World::real();
    let deadline = world.clock.now() + Duration::from_secs(60);
    let ended = world.until(deadline, sequence).await;
    assert!(ended.is_ok(), "the sequence did not end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_mount_does_what_the_model_does() {
    for seed in seeds(40) {
        one("one mount", seed, async {
            let cluster = Cluster::new(seed).await;
            let mut player = Player::new(vec![cluster.mount("a").await]);
            let mut dice = Dice(seed);
            for _ in 0..OPERATIONS {
                let plan = Plan::roll(&mut dice, &player.model, 1);
                player.play(0, &plan).await;
            }
            player.compare_all().await;
            player.close().await;
            cluster.check().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mounts_in_turn_do_what_the_model_does() {
    for seed in seeds(30) {
        one("two mounts", seed, async {
            let cluster = Cluster::new(seed).await;
            let mut player = Player::new(vec![cluster.mount("a").await, cluster.mount("b").await]);
            let mut dice = Dice(seed ^ 0xabcd);
            for _ in 0..OPERATIONS {
                let who = dice.below(2) as usize;
                let plan = Plan::roll(&mut dice, &player.model, 2);
                player.play(who, &plan).await;
            }
            player.compare_all().await;
            player.close().await;
            cluster.check().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_synced_survives_a_mount_and_all_power() {
    for seed in seeds(10) {
        one("crash", seed, async {
            let cluster = Cluster::new(seed).await;
            let mut dice = Dice(seed ^ 0x1234);
            let mut player = Player::new(vec![cluster.mount("a").await]);
            for life in 0..3 {
                player.history = Some(History::begin(&player.model, 0));
                for _ in 0..dice.below(u64::from(OPERATIONS)) {
                    let plan = Plan::roll(&mut dice, &player.model, 1);
                    player.play(0, &plan).await;
                }
                let power = dice.below(2) == 0;
                let (mounts, history) = player.die();
                let next = cluster.crash(mounts, power.then(|| dice.roll())).await;
                let model = history.judge(&next, life).await;
                player = Player::with_model(vec![next], model);
            }
            player.compare_all().await;
            player.close().await;
            cluster.check().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_that_dies_takes_only_its_own_latest_work_with_it() {
    for seed in seeds(5) {
        one("one of two dies", seed, async {
            let cluster = Cluster::new(seed).await;
            let mut dice = Dice(seed ^ 0x4321);
            let (a, b) = (cluster.mount("a").await, cluster.mount("b").await);
            let mut player = Player::new(vec![a, b]);
            for life in 0..3 {
                player.history = Some(History::begin(&player.model, 1));
                for _ in 0..dice.below(u64::from(OPERATIONS)) {
                    let who = dice.below(2) as usize;
                    let plan = Plan::roll(&mut dice, &player.model, 2);
                    player.play(who, &plan).await;
                }
                let (mut mounts, history) = player.die();
                let dead = mounts.split_off(1);
                mounts.push(cluster.crash(dead, None).await);
                let model = history.judge(&mounts[(life as usize) % 2], life).await;
                player = Player::with_model(mounts, model);
            }
            player.compare_all().await;
            player.close().await;
            cluster.check().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_cut_off_at_any_write_leaves_a_state_of_the_model() {
    for seed in seeds(12) {
        one("cut", seed, async {
            let cluster = Cluster::new(seed).await;
            let mut dice = Dice(seed ^ 0x77_1234);
            let mount = cluster.mount_with("a", Duration::from_millis(300)).await;
            let mut player = Player::new(vec![mount]);
            player.history = Some(History::begin(&player.model, 0));
            cluster.disk.break_after(dice.below(60));
            for _ in 0..OPERATIONS {
                let plan = Plan::roll(&mut dice, &player.model, 1);
                // An operation that fails for the disk's sake may or may not have happened.
                if !player.play(0, &plan).await {
                    break;
                }
            }
            let (mounts, history) = player.die();
            let next = cluster.crash(mounts, Some(dice.roll())).await;
            let model = history.judge(&next, 0).await;
            let mut player = Player::with_model(vec![next], model);
            for _ in 0..OPERATIONS / 4 {
                let plan = Plan::roll(&mut dice, &player.model, 1);
                player.play(0, &plan).await;
            }
            player.compare_all().await;
            player.close().await;
            cluster.check().await;
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_mounts_at_one_time_each_see_their_own_names_right() {
    for seed in seeds(8) {
        one("at one time", seed, shared::run(seed)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_target_is_durable_with_its_directory() {
    let cluster = Cluster::new(2).await;
    let mount = cluster.mount("a").await;
    let target = vec![b't'; 3000];
    let link = fs::Node::symlink(target.clone().into());
    let caller = fs::Caller::default();
    let made = mount.fs.make(fs::InodeNo::ROOT, b"link", link, caller).await.unwrap();
    mount.fs.fsyncdir(fs::InodeNo::ROOT).await.unwrap();
    let next = cluster.crash(vec![mount], Some(1)).await;
    let found = next.fs.readlink(made.attributes.ino).await.unwrap();
    assert_eq!(found, target);
    next.fs.close().await.unwrap();
    cluster.check().await;
}
