//! `plumeria mr ls`, `status`, `kill`, `logs` and `history`: the jobs that the workers of a cluster know.

use mapreduce::{Known, Peers, Phase, Place};
use serde_json::json;
use world::World;

use super::kind;
use crate::{
    args::{JobName, Mr},
    config::Client,
    failure::{Failure, Outcome},
    output::{self, Output},
    role::Remote,
};

/// The workers of a cluster.
struct Workers {
    peers: Peers,
    places: Vec<Place>,
}

impl Workers {
    fn of(world: &World, cluster: &str) -> Outcome<Self> {
        let client = Client::find(cluster)?;
        let places = client.workers.iter().map(|peer| Place::from(&peer.address)).collect();
        let peers = Remote::new(world, &client, wire::Role::Tool, 0)?.access(world).peers;
        Ok(Self { peers, places })
    }

    async fn find(&self, name: &JobName) -> Outcome<Known> {
        mapreduce::find(&self.peers, &self.places, &name.job).await.map_err(failure)
    }
}

fn failure(error: mapreduce::Error) -> Failure {
    Failure { kind: kind(&error), error: error.into() }
}

pub(super) async fn run(world: &World, command: &Mr, output: Output) -> Outcome {
    match command {
        Mr::Ls(cluster) => list(&Workers::of(world, &cluster.cluster)?, false, output).await,
        Mr::History(cluster) => list(&Workers::of(world, &cluster.cluster)?, true, output).await,
        Mr::Status(name) => {
            let known = Workers::of(world, &name.cluster)?.find(name).await?;
            status(&known, output);
            Ok(())
        }
        Mr::Kill(name) => {
            let workers = Workers::of(world, &name.cluster)?;
            let known = workers.find(name).await?;
            mapreduce::kill(&workers.peers, &workers.places, known.id).await.map_err(failure)?;
            output.line(&format!("{:016x} ends", known.id));
            output.json(&json!({ "job": format!("{:016x}", known.id), "killed": true }));
            Ok(())
        }
        Mr::Logs(name) => logs(&Workers::of(world, &name.cluster)?, name, output).await,
        Mr::Run(_) | Mr::Streaming(_) => Ok(()),
    }
}

fn phase(known: &Known) -> &'static str {
    match known.view.progress.phase {
        Phase::Planning => "planning",
        Phase::Map => "map",
        Phase::Reduce => "reduce",
        Phase::Finishing => "finishing",
        Phase::Done => "done",
        Phase::Failed => "failed",
    }
}

async fn list(workers: &Workers, over: bool, output: Output) -> Outcome {
    let Workers { peers, places } = workers;
    let all = match over {
        true => mapreduce::history(peers, places).await,
        false => mapreduce::jobs(peers, places).await,
    };
    let mut all = all.map_err(failure)?;
    // The latest first.
    all.sort_by_key(|known| known.age);
    let row = |known: &Known| {
        let now = &known.view.progress;
        vec![
            format!("{:016x}", known.id),
            known.view.name.clone(),
            phase(known).to_owned(),
            format!("{}/{}", now.maps.0, now.maps.1),
            format!("{}/{}", now.reduces.0, now.reduces.1),
            output::bytes(now.bytes.0),
            output::seconds(now.elapsed),
            known.view.output.clone(),
        ]
    };
    let header = ["job", "name", "phase", "maps", "reduces", "read", "time", "output"];
    output.table(&header, all.iter().map(row).collect());
    let value = |known: &Known| {
        json!({
            "job": format!("{:016x}", known.id),
            "over": known.over,
            "age_seconds": known.age.as_secs_f64(),
            "view": known.view,
        })
    };
    output.json(&all.iter().map(value).collect());
    Ok(())
}

fn status(known: &Known, output: Output) {
    let view = &known.view;
    let now = &view.progress;
    output.heading(&format!("{:016x} {} ({})", known.id, view.name, phase(known)));
    output.line(&format!(
        "maps {}/{}, reduces {}/{}, {} of {} read, {}/s, {} workers, {} attempts failed, {} stragglers, {} backups, {} records skipped",
        now.maps.0,
        now.maps.1,
        now.reduces.0,
        now.reduces.1,
        output::bytes(now.bytes.0),
        output::bytes(now.bytes.1),
        output::bytes(now.bytes_per_second),
        now.workers,
        now.failures,
        now.stragglers,
        now.backups,
        view.skipped,
    ));
    let row = |attempt: &mapreduce::Attempt| {
        vec![
            format!("{} attempt {}", attempt.task, attempt.attempt),
            attempt.worker.clone(),
            format!("{} %", attempt.thousandths / 10),
            output::seconds(attempt.since),
        ]
    };
    output.table(&["running", "worker", "done", "time"], view.attempts.iter().map(row).collect());
    for failed in &view.failures {
        output.line(&format!("{} attempt {}: {}", failed.task, failed.attempt, failed.reason));
    }
    for skip in &view.skips {
        output.line(&format!("{} without record {}: {}", skip.task, skip.record, skip.reason));
    }
    for (group, name, value) in view.counters.iter() {
        output.line(&format!("  {group}: {name}={value}"));
    }
    output.json(&json!({
        "job": format!("{:016x}", known.id), "over": known.over, "view": view,
    }));
}

async fn logs(workers: &Workers, name: &JobName, output: Output) -> Outcome {
    let known = workers.find(name).await?;
    let logs = mapreduce::logs(&workers.peers, &workers.places, known.id).await.map_err(failure)?;
    for log in &logs {
        output.heading(&format!("{} on {}", log.label, log.place));
        output.line(String::from_utf8_lossy(&log.text).trim_end());
    }
    let value = |log: &mapreduce::Log| {
        json!({
            "task": log.label,
            "worker": log.place.0,
            "text": String::from_utf8_lossy(&log.text),
        })
    };
    output.json(&logs.iter().map(value).collect());
    Ok(())
}
