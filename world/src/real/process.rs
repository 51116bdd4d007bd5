//! Processes of the operating system, each the leader of a process group of its own.

use std::{io, os::unix::process::CommandExt as _, process, sync::Arc};

use parking_lot::Mutex;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process_group, prlimit, waitid,
};
use tokio::{net::unix::pipe, sync::oneshot};

use crate::process::{Command, Exit, Process};

/// Starts a program; must be called inside a tokio runtime.
pub(crate) fn start(command: &Command) -> io::Result<Process> {
    let mut child = process::Command::new(&command.program)
        .args(&command.arguments)
        .envs(&command.environment)
        .current_dir(&command.directory)
        .process_group(0)
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .spawn()?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process without a number"))?;
    // Not yet reaped: only then does the number surely mean this process.
    let alive = Arc::new(Mutex::new(true));
    let watched = alive.clone();
    let kill = move || {
        if *watched.lock() {
            let _ = kill_process_group(pid, Signal::KILL);
        }
    };
    let (sender, ended) = oneshot::channel();
    let mut process = Process::new(ended, Box::new(kill));
    // From here on a failure drops `process`, which kills the child; the thread below then reaps it.
    let limited = command.memory.map(|bytes| {
        let limit = Rlimit { current: Some(bytes), maximum: Some(bytes) };
        prlimit(Some(pid), Resource::As, limit)
    });
    let pipes = take_pipes(&mut child, &mut process);
    std::thread::Builder::new().name("process".to_owned()).spawn(move || {
        let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT);
        let mut alive = alive.lock();
        // What it left behind in its group ends with it.
        let _ = kill_process_group(pid, Signal::KILL);
        *alive = false;
        let _ = sender.send(child.wait().map(exit));
    })?;
    pipes?;
    limited.transpose()?;
    Ok(process)
}

fn take_pipes(child: &mut process::Child, process: &mut Process) -> io::Result<()> {
    if let Some(input) = child.stdin.take() {
        process.input = Some(Box::new(pipe::Sender::from_owned_fd(input.into())?));
    }
    if let Some(output) = child.stdout.take() {
        process.output = Some(Box::new(pipe::Receiver::from_owned_fd(output.into())?));
    }
    if let Some(errors) = child.stderr.take() {
        process.errors = Some(Box::new(pipe::Receiver::from_owned_fd(errors.into())?));
    }
    Ok(())
}

fn exit(status: process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Code(code),
        (None, Some(signal)) => Exit::Signal(signal),
        (None, None) => Exit::Code(-1),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::start;
    use crate::process::{Command, Exit};

    fn sh(script: &str) -> Command {
        Command {
            program: "sh".to_owned(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]),
            directory: PathBuf::from("/"),
            memory: None,
        }
    }

    #[tokio::test]
    async fn a_process_reads_writes_complains_and_ends_with_its_code() {
        let mut process = start(&sh("cat; echo $GREETING from $PWD; echo oh >&2; exit 3")).unwrap();
        let mut input = process.input.take().unwrap();
        input.write_all(b"one\n").await.unwrap();
        drop(input);
        let (mut output, mut errors) = (String::new(), String::new());
        process.output.take().unwrap().read_to_string(&mut output).await.unwrap();
        process.errors.take().unwrap().read_to_string(&mut errors).await.unwrap();
        assert_eq!((output.as_str(), errors.as_str()), ("one\nhello from /\n", "oh\n"));
        assert_eq!(process.wait().await.unwrap(), Exit::Code(3));
    }

    #[tokio::test]
    async fn a_killed_process_takes_its_children_along() {
        let mut process = start(&sh("sleep 1000 & sleep 1000 & wait")).unwrap();
        process.kill();
        assert_eq!(process.wait().await.unwrap(), Exit::Signal(9));
        // The pipe ends only when the last of the group has gone.
        let mut rest = Vec::new();
        process.output.take().unwrap().read_to_end(&mut rest).await.unwrap();
    }

    #[tokio::test]
    async fn a_missing_program_is_an_error_and_a_memory_limit_holds() {
        let missing = Command { program: "no-such-program".to_owned(), ..sh("") };
        assert_eq!(start(&missing).err().unwrap().kind(), std::io::ErrorKind::NotFound);
        let eater = "read line; x=$(head -c 300000000 /dev/zero | tr '\\0' x) && exit 7; exit 1";
        let mut greedy = start(&Command { memory: Some(200 << 20), ..sh(eater) }).unwrap();
        drop(greedy.input.take());
        assert_ne!(greedy.wait().await.unwrap(), Exit::Code(7));
    }
}
