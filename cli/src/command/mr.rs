//! `plumeria mr`: runs a MapReduce job and shows how far it is.

use std::{
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use mapreduce::{JobKind, JobSpec, Phase, Place, Progress, Summary};
use tokio::sync::watch;
use world::World;

use crate::{
    args::{Job, Wordcount},
    config::Client,
    failure::{Failure, Kind, OrFail as _, Outcome},
    mounts,
    output::{self, Output},
    role::{FileSystem, Remote, Tie},
};

pub(crate) async fn run(world: &World, job: &Job, timeout: Duration, output: Output) -> Outcome {
    match job {
        Job::Wordcount(wordcount) => count(world, wordcount, timeout, output).await,
    }
}

async fn count(world: &World, job: &Wordcount, timeout: Duration, output: Output) -> Outcome {
    let place = locate(&job.output)?;
    let mut inputs = Vec::new();
    for input in &job.inputs {
        let found = locate(input)?;
        if found.mount.source != place.mount.source {
            return Err(Failure::usage(format!(
                "{} and {} are not of one cluster",
                input.display(),
                job.output.display()
            )));
        }
        inputs.push(found.inside);
    }
    let cluster = job.cluster.clone().unwrap_or_else(|| place.mount.source.display().to_string());
    let client = Client::find(&cluster)?;
    let workers: Vec<Place> =
        client.workers.iter().map(|peer| Place::from(&peer.address)).collect();
    if workers.is_empty() {
        return Err(Failure::new(
            Kind::Failed,
            "the cluster has no workers: start some with `plumeria worker`",
        ));
    }
    let spec = JobSpec {
        kind: JobKind::WordCount,
        inputs,
        output: place.inside,
        reduces: job.reduces,
        hidden: job.all_files,
        ..JobSpec::default()
    };
    let access = Remote::new(world, &client, wire::Role::Tool, 0)?.access(world);
    let file_system = FileSystem::open(world, &access, Tie::tool("mr"), false, timeout).await?;
    let (sender, receiver) = watch::channel(Progress::default());
    let bar = world.spawn("progress", show(receiver, output));
    let done =
        mapreduce::run(world, file_system.fs.clone(), &access.peers, &workers, spec, &sender).await;
    bar.abort();
    file_system.close(world, timeout).await?;
    let summary = done.or_fail(Kind::Failed, || "the job failed".into())?;
    tell(&summary, &job.output, output);
    Ok(())
}

/// A path of this machine, as the mount that holds it and the path inside of it.
struct Located {
    mount: mounts::Ours,
    inside: String,
}

/// Where `path` is; its last part need not exist.
fn locate(path: &Path) -> Outcome<Located> {
    let shown = path.display();
    let resolved: PathBuf = match path.canonicalize() {
        Ok(resolved) => resolved,
        Err(_) => {
            let absolute =
                std::path::absolute(path).or_fail(Kind::Usage, || format!("{shown} is no path"))?;
            let (Some(parent), Some(name)) = (absolute.parent(), absolute.file_name()) else {
                return Err(Failure::usage(format!("{shown} is no path of a file or directory")));
            };
            parent
                .canonicalize()
                .or_fail(Kind::Usage, || format!("{} is not there", parent.display()))?
                .join(name)
        }
    };
    let Some(mount) = mounts::holding(&resolved)? else {
        return Err(Failure::usage(format!("{shown} is not inside a mount of Plumeria")));
    };
    let inside = resolved.strip_prefix(&mount.mountpoint).unwrap_or(&resolved);
    let inside = std::str::from_utf8(inside.as_os_str().as_bytes())
        .or_fail(Kind::Usage, || format!("{shown} is not UTF-8"))?;
    Ok(Located { inside: format!("/{inside}"), mount })
}

/// Keeps a progress line up to date.
async fn show(mut progress: watch::Receiver<Progress>, output: Output) {
    if output.json {
        return;
    }
    let bar = ProgressBar::new(0);
    let style = "{prefix:10} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} ETA {eta} {msg}";
    bar.set_style(
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    while progress.changed().await.is_ok() {
        let now = *progress.borrow_and_update();
        bar.set_length(now.bytes.1);
        bar.set_position(now.bytes.0);
        bar.set_prefix(match now.phase {
            Phase::Reduce => "reducing",
            _ => "mapping",
        });
        let (maps, reduces) = (now.maps, now.reduces);
        bar.set_message(format!(
            "maps {}/{} reduces {}/{} failed {}",
            maps.0, maps.1, reduces.0, reduces.1, now.failures
        ));
    }
    bar.finish_and_clear();
}

fn tell(summary: &Summary, path: &Path, output: Output) {
    let counters = summary.counters;
    let rate = counters.input_bytes as f64 / summary.elapsed.as_secs_f64().max(0.001);
    output.line(&format!(
        "{} words in {} files ({}) counted in {} ({}/s); {} distinct words are in {}/part-*",
        counters.words,
        counters.input_files,
        output::bytes(counters.input_bytes),
        output::seconds(summary.elapsed),
        output::bytes(rate as u64),
        counters.output_records,
        path.display(),
    ));
    output.json(&serde_json::json!({
        "output": path,
        "seconds": summary.elapsed.as_secs_f64(),
        "maps": summary.maps,
        "reduces": summary.reduces,
        "failed_attempts": summary.failures,
        "input_files": counters.input_files,
        "input_bytes": counters.input_bytes,
        "words": counters.words,
        "map_records": counters.map_records,
        "shuffled_bytes": counters.shuffled_bytes,
        "output_records": counters.output_records,
        "output_bytes": counters.output_bytes,
    }));
}
