//! The `plumeria` binary: arguments, configuration, output, and the wiring of the rooms. It holds
//! no logic of its own: what a lock, a block or a file is, the rooms know.
//!
//! It is a library for one reason: a binary with MapReduce jobs of its own ([`main!`]) is client and worker of a
//! cluster in the same way.
#![expect(
    clippy::disallowed_methods,
    reason = "the binary handles its own configuration files and processes outside of any daemon"
)]

mod args;
mod command;
mod config;
mod datadir;
mod failure;
mod helper;
mod job;
mod launch;
mod mounts;
mod options;
mod output;
mod role;

use std::{io::Write as _, process::ExitCode};

use clap::Parser as _;
use world::World;

use crate::{
    args::{Arguments, Command, Everywhere},
    failure::{Kind, OrFail as _, Outcome},
    output::Output,
};

pub use job::{Programs, main};
pub use mapreduce;

/// The `plumeria` command.
#[must_use]
pub fn plumeria() -> ExitCode {
    let arguments = Arguments::parse_from(helper::arguments(std::env::args_os().collect()));
    let output = Output::new(arguments.everywhere.json);
    finish(start(|| dispatch(arguments, output)), output)
}

/// Tells what became of a command.
fn finish(done: Outcome, output: Output) -> ExitCode {
    let Err(failure) = done else { return ExitCode::SUCCESS };
    launch::tell_failure(&failure);
    if output.json && !launch::is_background() {
        output.json(&failure.json());
    } else {
        let _ = writeln!(std::io::stderr(), "error: {:#}", failure.error);
    }
    failure.code()
}

/// Runs a command on a runtime of its own.
fn start<F: Future<Output = Outcome>>(command: impl FnOnce() -> F) -> Outcome {
    launch::end_with_parent();
    let filter = tracing_subscriber::EnvFilter::try_from_env("PLUMERIA_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,fuser=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .or_fail(Kind::Failed, || "cannot start the runtime".into())?;
    let done = runtime.block_on(async { command().await });
    // A blocking read of a dead disk must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    done
}

async fn dispatch(arguments: Arguments, output: Output) -> Outcome {
    let Everywhere { timeout, exposure, .. } = arguments.everywhere;
    let world = World::real();
    let exposed = exposure.is_some();
    match arguments.command {
        Command::Dev(dev) if dev.detach => command::dev::detach(&world, &dev, timeout, output),
        Command::Dev(dev) if dev.processes => {
            command::dev::processes(&world, &dev, timeout, output).await
        }
        Command::Dev(dev) => command::dev::run(&world, &dev, timeout, output).await,
        Command::Stop(stop) => command::stop::run(&world, &stop, timeout, output).await,
        Command::Coordinator(role) => command::roles::coordinator(&world, &role, exposed).await,
        Command::Block(role) => command::roles::block(&world, &role, exposed).await,
        Command::Worker(role) => {
            let programs = Programs::shipped();
            command::roles::worker(&world, &role, programs, (exposed, timeout)).await
        }
        Command::Mount(mount) if mount.detach => command::mount::detach(&mount, timeout, output),
        Command::Mount(mount) => command::mount::run(&world, &mount, timeout, output).await,
        Command::Umount(umount) => command::umount::run(&umount, timeout, output),
        Command::Watchdog(watchdog) => command::watchdog::run(&watchdog),
        Command::Status(status) => command::status::run(&world, &status, timeout, output).await,
        Command::Fsck(cluster) => command::fsck::run(&world, &cluster, timeout, output).await,
        Command::Raft(raft) => command::raft::run(&world, &raft, timeout, output).await,
        Command::Locks(locks) => command::groups::run(&world, locks, timeout, output).await,
        Command::Sessions(cluster) => {
            command::locks::sessions(&world, &cluster, timeout, output).await
        }
        Command::Registry(what) => command::registry::run(&world, &what, timeout, output).await,
        Command::Server(server) => command::server::run(&world, &server, timeout, output).await,
        Command::Mr(mr) => command::mr::run(&world, &mr, timeout, output).await,
    }
}

/// Waits for Ctrl-C or a request to end.
async fn interrupted() -> Outcome {
    use tokio::signal::unix::{SignalKind, signal};
    let cannot = || "cannot wait for signals".to_owned();
    let mut terminate = signal(SignalKind::terminate()).or_fail(Kind::Failed, cannot)?;
    let mut interrupt = signal(SignalKind::interrupt()).or_fail(Kind::Failed, cannot)?;
    tokio::select! {
        biased;
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
