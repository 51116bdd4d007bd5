//! `plumeria dev`: a whole cluster on one data directory, in this process, in several, or in the
//! background.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use world::World;

use crate::{
    args::Dev,
    command::mount::check_mountpoint,
    config,
    datadir::DataDir,
    failure::{Kind, OrFail as _, Outcome},
    interrupted,
    launch::{self, Life},
    options::MountOptions,
    output::{self, Output},
    role::{Embedded, Mounted, Tie},
};

/// Starts the same command in the background and returns when the mount is usable.
pub(crate) fn detach(world: &World, dev: &Dev, timeout: Duration, output: Output) -> Outcome {
    let begun = Instant::now();
    let mountpoint = check_mountpoint(&dev.mountpoint)?;
    // Opening it here tells what is wrong with it, makes it, and lets the lock go again.
    let dir = DataDir::open(world, dev)?;
    let (root, run, layout) = (dir.root.clone(), dir.run(), dir.layout.clone());
    drop(dir);
    let mut arguments: Vec<OsString> =
        vec!["dev".into(), root.clone().into(), mountpoint.clone().into()];
    if dev.processes {
        arguments.push("--processes".into());
    }
    arguments.extend(["--timeout".into(), humantime::format_duration(timeout).to_string().into()]);
    let pid = launch::start(&arguments, &run.join("dev.log"), Life::Free, timeout)?.leave();
    screen(output, &root, &mountpoint, layout.coordinators, begun.elapsed());
    output.line(&format!("stop:    plumeria stop {}", dev.dir.display()));
    output.json(&serde_json::json!({"dir": root, "mountpoint": mountpoint, "pid": pid}));
    Ok(())
}

/// Runs every role in this process.
pub(crate) async fn run(world: &World, dev: &Dev, timeout: Duration, output: Output) -> Outcome {
    let begun = Instant::now();
    let mountpoint = check_mountpoint(&dev.mountpoint)?;
    let dir = DataDir::open(world, dev)?;
    let pid_file = prepare(&dir)?;
    let embedded = Embedded::start(world, &dir).await?;
    let tie = Tie::mount(&mountpoint, true);
    let mounted = Mounted::start(
        world,
        embedded.access(),
        &dir.client_file(),
        &mountpoint,
        tie,
        &MountOptions::default(),
        timeout,
    )
    .await;
    let mounted = match mounted {
        Ok(mounted) => mounted,
        Err(failure) => {
            embedded.stop().await?;
            return Err(failure);
        }
    };
    let workers = embedded.workers(world, &dir, &mounted).await?;
    launch::tell_ready();
    if !launch::is_background() {
        screen(output, &dir.root, &mountpoint, dir.layout.coordinators, begun.elapsed());
        output.line("stop:    Ctrl-C");
    }
    tokio::select! {
        biased;
        done = interrupted() => done?,
        () = mounted.unmounted() => {}
    }
    for worker in workers {
        worker.stop(timeout).await?;
    }
    let unmounted = mounted.stop(timeout).await;
    embedded.stop().await?;
    let _ = std::fs::remove_file(pid_file);
    unmounted
}

/// The files by which other processes find the cluster.
fn prepare(dir: &DataDir) -> Outcome<PathBuf> {
    config::write(&dir.client_file(), &dir.client())?;
    let pid_file = dir.run().join("dev.pid");
    std::fs::write(&pid_file, format!("{}\n", std::process::id()))
        .or_fail(Kind::Failed, || format!("cannot write {}", pid_file.display()))?;
    Ok(pid_file)
}

/// One clear screenful.
fn screen(output: Output, root: &Path, mountpoint: &Path, coordinators: u8, took: Duration) {
    let dir = root.display();
    output.heading(&format!(
        "Plumeria is mounted on {} (usable after {})",
        mountpoint.display(),
        output::seconds(took)
    ));
    output.line(&format!("data:    {dir}"));
    output.line(&format!(
        "roles:   {coordinators} coordinator(s), 3 block servers, 1 mount, 2 workers"
    ));
    output.line(&format!("mount it again:  plumeria mount {dir} OTHER_MOUNTPOINT"));
    output.line(&format!("look at it:      plumeria status {dir}"));
    output.line(&format!(
        "count words:     plumeria mr run wordcount {0}/INPUT {0}/OUTPUT",
        mountpoint.display()
    ));
}

/// Runs every role as a process of its own and keeps them running.
pub(crate) async fn processes(
    world: &World,
    dev: &Dev,
    timeout: Duration,
    output: Output,
) -> Outcome {
    let begun = Instant::now();
    let mountpoint = check_mountpoint(&dev.mountpoint)?;
    let dir = DataDir::open(world, dev)?;
    let pid_file = prepare(&dir)?;
    let mut family = Family::default();
    let started = family.start(&dir, &mountpoint, timeout);
    if let Err(failure) = started {
        family.stop(timeout);
        return Err(failure);
    }
    launch::tell_ready();
    if !launch::is_background() {
        screen(output, &dir.root, &mountpoint, dir.layout.coordinators, begun.elapsed());
        output.line("stop:    Ctrl-C");
    }
    let ended = loop {
        let pause = world.clock.sleep(Duration::from_millis(200));
        tokio::select! {
            biased;
            done = interrupted() => break done,
            () = pause => {}
        }
        if let Err(failure) = family.follow(&dir, timeout) {
            tracing::error!("{:#}", failure.error);
        }
        if family.mend(timeout) {
            break Ok(());
        }
    };
    family.stop(timeout);
    let _ = std::fs::remove_file(pid_file);
    ended
}

/// A role in a process of its own.
struct Member {
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Process,
}

/// What is known of a member's process.
enum Process {
    None,
    /// It was started again and has not said yet that it is ready.
    Starting(JoinHandle<Outcome<launch::Started>>),
    Running(launch::Started),
}

/// All processes, in the order in which they start; they stop in the opposite order.
#[derive(Default)]
struct Family(Vec<Member>);

impl Family {
    fn start(&mut self, dir: &DataDir, mountpoint: &Path, timeout: Duration) -> Outcome {
        let run = dir.run();
        for config in dir.coordinators() {
            let file = run.join(format!("coordinator-{}.toml", config.node));
            config::write(&file, &config)?;
            self.plan("coordinator", &file);
        }
        for config in dir.blocks() {
            let file = run.join(format!("block-{}.toml", config.node));
            config::write(&file, &config)?;
            self.plan("block", &file);
        }
        let name = mountpoint.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.0.push(Member {
            arguments: vec![
                "mount".into(),
                "--of-dev".into(),
                dir.client_file().into(),
                mountpoint.into(),
            ],
            log: run.join(format!("mount-{name}.log")),
            process: Process::None,
        });
        for config in dir.workers() {
            let file = run.join(format!("worker-{}.toml", config.node));
            config::write(&file, &config)?;
            self.plan("worker", &file);
        }
        // Coordinators and block servers need each other's majority, so none waits for the next.
        std::thread::scope(|scope| {
            let starts: Vec<_> = self
                .0
                .iter_mut()
                .map(|member| scope.spawn(move || member.start(timeout)))
                .collect();
            starts.into_iter().try_for_each(|start| start.join().unwrap_or(Ok(())))
        })
    }

    fn plan(&mut self, role: &str, file: &Path) {
        let arguments = vec![role.into(), "--config".into(), file.into()];
        self.0.push(Member { arguments, log: file.with_extension("log"), process: Process::None });
    }

    /// Starts block servers that were added and stops those that were removed.
    fn follow(&mut self, dir: &DataDir, timeout: Duration) -> Outcome {
        let run = dir.run();
        let file = |node: u64| run.join(format!("block-{node}.toml"));
        let blocks = dir.blocks();
        let wanted: Vec<OsString> = blocks.iter().map(|block| file(block.node).into()).collect();
        let gone = |member: &mut Member| {
            member.is("block") && member.arguments.last().is_some_and(|last| !wanted.contains(last))
        };
        for member in self.0.extract_if(.., gone) {
            member.stop(timeout);
        }
        for block in blocks {
            let file = file(block.node);
            let runs = |member: &Member| {
                member.arguments.last().is_some_and(|last| last.as_os_str() == file.as_os_str())
            };
            if !self.0.iter().any(runs) {
                config::write(&file, &block)?;
                self.plan("block", &file);
            }
        }
        Ok(())
    }

    /// Starts servers again that have ended, without waiting for them: a worker is not usable before
    /// the block servers are, and one of those may end meanwhile. Says whether the mount has ended:
    /// then all is over.
    fn mend(&mut self, timeout: Duration) -> bool {
        for member in &mut self.0 {
            if member.has_ended() {
                if member.is_mount() {
                    return true;
                }
                tracing::warn!("{} has ended; starting it again", member.log.display());
                member.start_again(timeout);
            }
        }
        false
    }

    fn stop(&mut self, timeout: Duration) {
        // Clients first, so that they can write back; then block servers; coordinators last.
        for roles in [&["mount", "worker"][..], &["block"], &["coordinator"]] {
            let group: Vec<_> =
                self.0.extract_if(.., |member| roles.iter().any(|role| member.is(role))).collect();
            std::thread::scope(|scope| {
                for member in group {
                    scope.spawn(move || member.stop(timeout));
                }
            });
        }
    }
}

impl Member {
    fn start(&mut self, timeout: Duration) -> Outcome {
        self.process =
            Process::Running(launch::start(&self.arguments, &self.log, Life::Tied, timeout)?);
        Ok(())
    }

    /// Starts it in the background; [`Member::has_ended`] hears how that went.
    fn start_again(&mut self, timeout: Duration) {
        let (arguments, log) = (self.arguments.clone(), self.log.clone());
        self.process = Process::Starting(std::thread::spawn(move || {
            launch::start(&arguments, &log, Life::Tied, timeout)
        }));
    }

    /// Whether nothing runs, and nothing is being started.
    fn has_ended(&mut self) -> bool {
        if let Process::Starting(thread) = &self.process
            && !thread.is_finished()
        {
            return false;
        }
        self.process = match std::mem::replace(&mut self.process, Process::None) {
            Process::Starting(thread) => match thread.join() {
                Ok(Ok(started)) => Process::Running(started),
                Ok(Err(failure)) => {
                    tracing::error!("{:#}", failure.error);
                    Process::None
                }
                Err(_) => Process::None,
            },
            known => known,
        };
        match &mut self.process {
            Process::Running(started) => started.has_ended(),
            Process::None | Process::Starting(_) => true,
        }
    }

    fn stop(self, timeout: Duration) {
        let started = match self.process {
            Process::None => return,
            Process::Running(started) => started,
            Process::Starting(thread) => {
                if let Some(pid) = launch::read_pid(&self.log.with_extension("pid")) {
                    launch::signal(pid, rustix::process::Signal::TERM);
                }
                let Ok(Ok(started)) = thread.join() else { return };
                started
            }
        };
        started.stop(timeout);
    }

    fn is(&self, role: &str) -> bool {
        self.arguments.first().is_some_and(|first| first == role)
    }

    fn is_mount(&self) -> bool {
        self.is("mount")
    }
}
