//! `plumeria mr`: runs MapReduce jobs, on a cluster or on the files of this machine, and shows how far they are.

mod jobs;
mod place;
mod run;
mod show;
mod streaming;

use std::time::Duration;

use world::World;

pub(crate) use run::{Own, run_own};

use crate::{
    args::Mr,
    failure::{Kind, Outcome},
    output::Output,
};

pub(crate) async fn run(world: &World, command: &Mr, timeout: Duration, output: Output) -> Outcome {
    match command {
        Mr::Run(job) => run::run(world, job, timeout, output).await,
        Mr::Streaming(arguments) => {
            streaming::run(world, &arguments.arguments, timeout, output).await
        }
        others => jobs::run(world, others, output).await,
    }
}

/// What kind of failure an error of a job is.
fn kind(error: &mapreduce::Error) -> Kind {
    match error {
        mapreduce::Error::Spec(_) | mapreduce::Error::NoJob(_) => Kind::Usage,
        mapreduce::Error::NoWorkers(_) => Kind::Unreachable,
        _ => Kind::Failed,
    }
}
