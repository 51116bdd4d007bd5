//! The comparison: each workload on both file systems in turn, in interleaved pairs; medians and
//! ratios are told, and the messages that the unpacking cost.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{cluster::Cluster, tree, workload};

/// How to compare.
#[derive(Args)]
pub(crate) struct Options {
    /// Pairs of runs; the median counts.
    #[arg(long, default_value_t = 5)]
    pairs: usize,
    /// Files of the create workload.
    #[arg(long, default_value_t = 5_000)]
    files: usize,
    /// A directory on the disk to measure; a new one below it is used and removed.
    #[arg(long, default_value = "/var/tmp")]
    dir: PathBuf,
    /// One JSON line a result.
    #[arg(long)]
    json: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { pairs: 5, files: 5_000, dir: PathBuf::from("/var/tmp"), json: false }
    }
}

/// The times of one workload on both file systems.
#[derive(Default)]
struct Series {
    ours: Vec<Duration>,
    theirs: Vec<Duration>,
}

/// The counters of `plumeria status --json`, summed over mounts.
#[derive(Clone, Copy, Default)]
struct Counters {
    lock_messages: u64,
    disk_requests: u64,
    written_bytes: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let root = options.dir.join(format!("plumeria-bench-{}", std::process::id()));
    std::fs::create_dir_all(&root).with_context(|| format!("make {}", root.display()))?;
    let tar = root.join("tree.tar");
    let packed = tree::pack(&tar, 3_300)?;
    let cluster = Cluster::start(root)?;
    let (mut create, mut untar) = (Series::default(), Series::default());
    let mut cost = Vec::new();
    for pair in 0..options.pairs {
        let (ours, theirs) = (cluster.mounted(), cluster.bound());
        let name = format!("create-{pair}");
        alternate(pair, &mut create, &mut |us| {
            workload::create(&if us { &ours } else { &theirs }.join(&name), options.files)
        })?;
        let name = format!("untar-{pair}");
        let before = counters(&cluster)?;
        let mut after = before;
        alternate(pair, &mut untar, &mut |us| {
            let took = workload::untar(&tar, &if us { &ours } else { &theirs }.join(&name))?;
            if us {
                after = counters(&cluster)?;
            }
            Ok(took)
        })?;
        cost.push(after.lock_messages.saturating_sub(before.lock_messages));
        if !options.json {
            println!("pair {} of {} done", pair + 1, options.pairs);
        }
    }
    let rate = options.files as f64;
    report(options, "create 4 KiB files, 1 process, files/s", &create, |time| {
        rate / time.as_secs_f64()
    });
    let title = format!("unpack {} files, {} bytes, seconds", packed.files, packed.bytes);
    report(options, &title, &untar, |time| time.as_secs_f64());
    cost.sort_unstable();
    let total = counters(&cluster)?;
    say(
        options,
        "lock-plane messages of one unpacking (median)",
        cost[cost.len() / 2] as f64,
        None,
    );
    say(options, "data-plane requests in all", total.disk_requests as f64, None);
    say(options, "bytes written to the virtual disk in all", total.written_bytes as f64, None);
    Ok(())
}

/// Runs both; who goes first changes from pair to pair.
fn alternate(
    pair: usize,
    series: &mut Series,
    run: &mut dyn FnMut(bool) -> Result<Duration>,
) -> Result<()> {
    for us in if pair.is_multiple_of(2) { [true, false] } else { [false, true] } {
        let took = run(us)?;
        if us { &mut series.ours } else { &mut series.theirs }.push(took);
    }
    Ok(())
}

fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

fn report(options: &Options, title: &str, series: &Series, unit: impl Fn(Duration) -> f64) {
    let (ours, theirs) = (median(&series.ours), median(&series.theirs));
    let faster = theirs.as_secs_f64() / ours.as_secs_f64();
    say(options, title, unit(ours), Some((unit(theirs), faster)));
}

fn say(options: &Options, title: &str, ours: f64, bindfs: Option<(f64, f64)>) {
    if options.json {
        let (theirs, faster) = bindfs.unzip();
        println!(
            "{}",
            serde_json::json!({"what": title, "plumeria": ours, "bindfs": theirs, "times_faster": faster})
        );
    } else if let Some((theirs, faster)) = bindfs {
        println!("{title}: {ours:.2} (bindfs {theirs:.2}): {faster:.2} times as fast");
    } else {
        println!("{title}: {ours}");
    }
}

fn counters(cluster: &Cluster) -> Result<Counters> {
    let status = cluster.status()?;
    let mounts = status["mounts"].as_array().context("the status names no mounts")?;
    let sum = |key: &str| mounts.iter().filter_map(|mount| mount["numbers"][key].as_u64()).sum();
    Ok(Counters {
        lock_messages: sum("lock_messages"),
        disk_requests: sum("disk_requests"),
        written_bytes: sum("written_bytes"),
    })
}
