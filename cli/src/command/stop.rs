//! `plumeria stop`: ends what `plumeria dev` started on a data directory.

use std::{path::Path, time::Duration};

use rustix::process::Signal;
use world::World;

use crate::{
    args::Stop,
    config::Client,
    datadir,
    failure::{Failure, Kind, Outcome},
    launch,
    output::Output,
    role,
};

pub(crate) async fn run(world: &World, stop: &Stop, timeout: Duration, output: Output) -> Outcome {
    let shown = stop.dir.display();
    if !stop.dir.join("plumeria.toml").is_file() {
        return Err(Failure::usage(format!("{shown} is no data directory of Plumeria")));
    }
    if !datadir::in_use(world, &stop.dir) {
        output.line(&format!("{shown} is not running"));
        output.json(&serde_json::json!({"stopped": false}));
        return Ok(());
    }
    let Some(pid) = launch::read_pid(&stop.dir.join("run/dev.pid")) else {
        return Err(Failure::new(
            Kind::Failed,
            format!(
                "{shown}/run/dev.pid is missing: end the process that holds {shown}/lock by hand"
            ),
        ));
    };
    if !stop.force {
        refuse_other_mounts(world, &stop.dir, timeout).await?;
    }
    launch::signal(pid, Signal::TERM);
    if !launch::wait(timeout, || !datadir::in_use(world, &stop.dir)) {
        return Err(Failure::new(
            Kind::Failed,
            format!("process {pid} is still writing back; see {shown}/run/dev.log"),
        ));
    }
    output.line(&format!("stopped; the data is in {shown}"));
    output.json(&serde_json::json!({"stopped": true, "dir": stop.dir}));
    Ok(())
}

/// Stopping the servers under a mount would leave it without its disk: name such mounts.
async fn refuse_other_mounts(world: &World, dir: &Path, timeout: Duration) -> Outcome {
    let client = Client::find(&dir.display().to_string())?;
    let Ok(sessions) = role::sessions(world, &client, timeout).await else {
        // A cluster that does not answer has no mount that could still write.
        return Ok(());
    };
    let others: Vec<String> = sessions
        .into_iter()
        .filter(|session| session.is_live_mount() && !session.belongs_to_dev())
        .map(|session| session.place)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Kind::Failed,
        format!(
            "other mounts live: {}; unmount them first (`plumeria umount`), or use --force and lose what they have not written back",
            others.join(", ")
        ),
    ))
}
