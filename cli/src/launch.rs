//! Processes: starting a role in the background and hearing when it is usable, pid files, signals.
//!
//! A child that is started here tells on its standard output, in one line, that it is ready or why
//! it is not; its log goes to a file. What the roles do is not known here.

use std::{
    ffi::{OsStr, OsString},
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{ffi::OsStrExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use fuse::watchdog::Pulse;
use rustix::process::{Pid, Signal, kill_process};

use crate::failure::{Failure, Kind, OrFail as _, Outcome};

/// Set in a child that must report on its standard output.
const REPORT: &str = "PLUMERIA_REPORT";
/// Set in a child that must not outlive its parent, which holds the other end of its standard input.
const TIED: &str = "PLUMERIA_TIED";

/// Whether a child outlives the process that started it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// It goes on by itself.
    Free,
    /// It ends with its parent, however that ends.
    Tied,
}

/// A process that was started and said that it is ready.
pub(crate) struct Started {
    pub(crate) pid: u32,
    child: Child,
    pid_file: PathBuf,
}

/// Starts this program with `arguments` in the background and waits until it is ready. Its log is
/// `log`; its pid is in the file beside it.
pub(crate) fn start(
    arguments: &[OsString],
    log: &Path,
    life: Life,
    timeout: Duration,
) -> Outcome<Started> {
    let shown = log.display();
    let file = fs::File::options()
        .create(true)
        .append(true)
        .open(log)
        .or_fail(Kind::Failed, || format!("cannot open the log {shown}"))?;
    let program = program().or_fail(Kind::Failed, || "cannot find this program".into())?;
    let mut command = Command::new(program);
    command.args(arguments).env(REPORT, "1").stdout(Stdio::piped()).stderr(file).process_group(0);
    match life {
        Life::Free => command.env_remove(TIED).stdin(Stdio::null()),
        Life::Tied => command.env(TIED, "1").stdin(Stdio::piped()),
    };
    let mut child = command.spawn().or_fail(Kind::Failed, || "cannot start a process".into())?;
    let pid = child.id();
    let pid_file = log.with_extension("pid");
    fs::write(&pid_file, format!("{pid}\n"))
        .or_fail(Kind::Failed, || format!("cannot write {}", pid_file.display()))?;
    match hear(&mut child, timeout) {
        Ok(()) => Ok(Started { pid, child, pid_file }),
        Err(mut failure) => {
            let _ = child.kill();
            let _ = child.wait();
            let _ = fs::remove_file(&pid_file);
            failure.error = failure.error.context(format!("see {shown}"));
            Err(failure)
        }
    }
}

/// This program's file. When another build was put in its place since this process began, that one: so a
/// server that is restarted after an upgrade is the new one.
fn program() -> std::io::Result<PathBuf> {
    Ok(in_place(std::env::current_exe()?))
}

/// What lies where the kernel says that a program's file was deleted.
fn in_place(found: PathBuf) -> PathBuf {
    let before = found.as_os_str().as_bytes().strip_suffix(b" (deleted)");
    let before = before.map(|path| PathBuf::from(OsStr::from_bytes(path)));
    before.filter(|path| path.exists() && !found.exists()).unwrap_or(found)
}

/// Waits for the one line.
fn hear(child: &mut Child, timeout: Duration) -> Outcome {
    let Some(stdout) = child.stdout.take() else {
        return Err(Failure::new(Kind::Failed, "the process has no standard output"));
    };
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let mut line = String::new();
        let _ = BufReader::new(stdout).read_line(&mut line);
        let _ = sender.send(line);
    });
    let line = receiver.recv_timeout(timeout).map_err(|_| {
        Failure::new(
            Kind::Unreachable,
            format!("not usable after {}", humantime::format_duration(timeout)),
        )
    })?;
    if line.trim() == "ready" {
        return Ok(());
    }
    match line.trim().split_once(' ') {
        Some((code, message)) => {
            let kind = match code {
                "2" => Kind::Usage,
                "3" => Kind::Unreachable,
                "4" => Kind::Damage,
                _ => Kind::Failed,
            };
            Err(Failure::new(kind, message))
        }
        None => Err(Failure::new(Kind::Failed, "the process ended before it was usable")),
    }
}

/// A watchdog's process. Dropping it ends it, for it then hears no more.
pub(crate) struct Watching {
    pub(crate) pulse: Pulse,
    child: Child,
}

/// Starts a watchdog over the mount with the kernel's connection `connection`; it shares this process's log.
pub(crate) fn watchdog(connection: u32) -> std::io::Result<Watching> {
    let mut child = Command::new(program()?)
        .args(["watchdog", &connection.to_string()])
        .env_remove(REPORT)
        .env_remove(TIED)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        // What ends the daemon from its terminal must not end the watchdog first.
        .process_group(0)
        .spawn()?;
    let pipe = child.stdin.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    Ok(Watching { pulse: Pulse::new(pipe.into())?, child })
}

impl Watching {
    /// Whether it was killed by somebody; if it has ended by itself there is no use in another one.
    pub(crate) fn was_killed(mut self) -> bool {
        self.child.wait().is_ok_and(|status| status.code().is_none())
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        // It does nothing while the daemon lives but listen, so it may be ended at any moment.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether this process was started by [`start`].
pub(crate) fn is_background() -> bool {
    std::env::var_os(REPORT).is_some()
}

/// Ends this process at once when its parent is gone, if it is tied to it: for the rest of the
/// cluster that is a crash of this role, which loses nothing that was flushed.
pub(crate) fn end_with_parent() {
    if std::env::var_os(TIED).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut nothing = [0; 1];
        let _ = std::io::Read::read(&mut std::io::stdin(), &mut nothing);
        std::process::exit(1);
    });
}

/// Tells whoever started this process in the background that it is usable. Does nothing otherwise.
pub(crate) fn tell_ready() {
    tell("ready");
}

/// Tells whoever started this process in the background why it is not usable.
pub(crate) fn tell_failure(failure: &Failure) {
    tell(&format!("{} {:#}", failure.kind as u8, failure.error).replace('\n', " "));
}

fn tell(line: &str) {
    if is_background() {
        let mut out = std::io::stdout().lock();
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }
}

impl Started {
    /// Lets the process go on without this one.
    pub(crate) fn leave(self) -> u32 {
        self.pid
    }

    /// Whether the process has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)) | Err(_))
    }

    /// Asks the process to end, waits, and ends it by force at the deadline. Says whether it ended
    /// by itself.
    pub(crate) fn stop(mut self, timeout: Duration) -> bool {
        signal(self.pid, Signal::TERM);
        let ended = wait(timeout, || matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)));
        if !ended {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(&self.pid_file);
        ended
    }
}

/// Sends a signal; a process that is gone is no error.
pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Whether a process with this id runs. One that ended and was not waited for yet does not.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    // `pid (name) state ...`; the name may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The process id in a pid file.
pub(crate) fn read_pid(path: &Path) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Looks every 10 ms whether `done`, for at most `timeout`.
pub(crate) fn wait(timeout: Duration, mut done: impl FnMut() -> bool) -> bool {
    let step = Duration::from_millis(10);
    let mut left = timeout;
    loop {
        if done() {
            return true;
        }
        let Some(rest) = left.checked_sub(step) else { return false };
        std::thread::sleep(step);
        left = rest;
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::in_place;

    #[test]
    fn a_program_that_was_replaced_is_the_one_in_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().join("plumeria");
        let gone = PathBuf::from(format!("{} (deleted)", here.display()));
        assert_eq!(in_place(gone.clone()), gone, "nothing is there");
        std::fs::write(&here, "").unwrap();
        assert_eq!(in_place(gone.clone()), here);
        assert_eq!(in_place(here.clone()), here);
        std::fs::write(&gone, "").unwrap();
        assert_eq!(in_place(gone.clone()), gone, "it is called so");
    }
}
