//! Running one program of a task: its input and output through bounded queues, its standard error line by line, its
//! end, and its end by force when it is silent for too long or not wanted any more. What it does is not known here.

use std::{sync::Arc, sync::atomic::AtomicU64, sync::atomic::Ordering, time::Duration};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};
use world::{Command, Exit, File, Process, World};

use super::lines::Said;
use crate::{error::Error, task::Gauge};

/// What is read from a program at once.
const READ: usize = 64 << 10;
/// Chunks that wait in a queue to or from a program.
pub(crate) const QUEUE: usize = 8;
/// Bytes of standard error that are kept of one attempt.
const LOG_MAX: u64 = 1 << 20;

/// What a program runs with.
pub(crate) struct Run<'a> {
    pub(crate) world: &'a World,
    pub(crate) gauge: &'a Arc<Gauge>,
    pub(crate) command: Command,
    pub(crate) timeout: Duration,
    pub(crate) exit_counts: bool,
    /// Where standard error is kept.
    pub(crate) log: Option<Arc<dyn File>>,
}

impl Run<'_> {
    /// Runs the program on everything that comes through `input`; what it writes goes to `output`.
    ///
    /// A program that stops reading is not blamed for it: its end decides.
    pub(crate) async fn all(
        self,
        mut input: mpsc::Receiver<Result<Bytes, Error>>,
        output: mpsc::Sender<Bytes>,
    ) -> Result<(), Error> {
        let mut process = self
            .world
            .tasks
            .process(&self.command)
            .map_err(|error| start_error(&self.command, &error))?;
        let touched = AtomicU64::new(self.world.clock.now().0);
        let touch = || touched.store(self.world.clock.now().0, Ordering::Relaxed);
        let stdin = process.input.take();
        let feed = async {
            let Some(mut stdin) = stdin else { return Ok(()) };
            while let Some(bytes) = input.recv().await {
                if stdin.write_all(&bytes?).await.is_err() {
                    break;
                }
                touch();
            }
            Ok::<_, Error>(())
        };
        let stdout = process.output.take();
        let take = async {
            let Some(mut stdout) = stdout else { return };
            loop {
                let mut bytes = BytesMut::with_capacity(READ);
                match stdout.read_buf(&mut bytes).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
                touch();
                // Whoever takes it has failed and tells why.
                if output.send(bytes.freeze()).await.is_err() {
                    return;
                }
            }
        };
        let errors = self.listen(process.errors.take(), &touch);
        let done = {
            let all = async {
                let (fed, (), ()) = tokio::join!(feed, take, errors);
                fed
            };
            tokio::select! {
                biased;
                fed = all => fed,
                error = self.watch(&touched) => Err(error),
            }
        };
        drop(output);
        if done.is_err() {
            process.kill();
        }
        let ended = self.end(&mut process).await;
        done.and(ended)
    }

    async fn end(&self, process: &mut Process) -> Result<(), Error> {
        let ended = tokio::select! {
            biased;
            ended = process.wait() => ended,
            () = self.gauge.cancelled() => return Err(Error::Cancelled),
        };
        let failed = |end: String| Error::Program {
            program: shown(&self.command),
            end,
            said: match self.gauge.tail() {
                tail if tail.is_empty() => "; it said nothing on standard error".to_owned(),
                tail => format!("; its last lines of standard error:\n{tail}"),
            },
        };
        match ended {
            Ok(Exit::Code(0)) => Ok(()),
            Ok(Exit::Code(_)) if !self.exit_counts => Ok(()),
            Ok(exit) => Err(failed(exit.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// Ready when the program must end.
    async fn watch(&self, touched: &AtomicU64) -> Error {
        let silent = async {
            if self.timeout.is_zero() {
                return std::future::pending().await;
            }
            loop {
                let last = world::Time(touched.load(Ordering::Relaxed));
                if self.world.clock.now().since(last) >= self.timeout {
                    return Error::Program {
                        program: shown(&self.command),
                        end: format!(
                            "no sign of life for {} s, and was killed (mapreduce.task.timeout)",
                            self.timeout.as_secs_f64()
                        ),
                        said: String::new(),
                    };
                }
                self.world.clock.sleep_until(last + self.timeout).await;
            }
        };
        tokio::select! {
            error = silent => error,
            () = self.gauge.cancelled() => Error::Cancelled,
        }
    }

    /// Reads standard error: reports to the framework, and lines for people.
    async fn listen(
        &self,
        errors: Option<Box<dyn tokio::io::AsyncRead + Send + Unpin>>,
        touch: &(dyn Fn() + Sync),
    ) {
        let Some(mut errors) = errors else { return };
        let mut said = Said::new();
        let mut logged = self.log.as_ref().and_then(|log| log.size().ok()).unwrap_or(0);
        loop {
            let mut bytes = BytesMut::with_capacity(READ);
            let end = matches!(errors.read_buf(&mut bytes).await, Ok(0) | Err(_));
            touch();
            let mut lines = Vec::new();
            let mut take = |line: &[u8]| {
                if !report(self.gauge, line) {
                    self.gauge.said(line);
                    lines.extend_from_slice(line);
                    lines.push(b'\n');
                }
                Ok(())
            };
            let _ = said.feed(&bytes, &mut take);
            if end {
                let _ = said.finish(&mut take);
                said = Said::new();
            }
            lines.truncate(LOG_MAX.saturating_sub(logged) as usize);
            if let Some(log) = self.log.clone().filter(|_| !lines.is_empty()) {
                let at = logged;
                logged += lines.len() as u64;
                // A log that cannot be written must not fail the task.
                let written = self.world.blocking(move || log.write_all_at(&lines, at)).await;
                if let Err(error) = written {
                    tracing::warn!(%error, "the log of an attempt cannot be written");
                }
            }
            if end {
                return;
            }
        }
    }
}

/// Takes a `reporter:` line; `false` if it is none.
fn report(gauge: &Gauge, line: &[u8]) -> bool {
    let Some(rest) = line.strip_prefix(b"reporter:") else { return false };
    let text = String::from_utf8_lossy(rest);
    if let Some(status) = text.strip_prefix("status:") {
        gauge.set_status(status.trim());
        return true;
    }
    let Some(counter) = text.strip_prefix("counter:") else { return false };
    // The amount is behind the last comma: names may have commas, as in Hadoop.
    let parsed = counter.rsplit_once(',').and_then(|(names, amount)| {
        let (group, name) = names.split_once(',')?;
        Some((group.trim(), name.trim(), amount.trim().parse::<i64>().ok()?))
    });
    let Some((group, name, amount)) = parsed else { return false };
    gauge.counters.lock().add(group, name, u64::try_from(amount).unwrap_or(0));
    true
}

fn shown(command: &Command) -> String {
    let mut words = vec![command.program.clone()];
    words.extend(command.arguments.iter().cloned());
    words.join(" ")
}

fn start_error(command: &Command, error: &std::io::Error) -> Error {
    let reason = match error.kind() {
        std::io::ErrorKind::NotFound => {
            "there is no such program where the task runs, or its interpreter (the first line of a script) is missing: give it along with -file, or name it by a path that every worker has".to_owned()
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("{error}: make it executable (chmod +x)")
        }
        _ if error.raw_os_error() == Some(8) => {
            "it is no program: a script needs a first line such as #!/bin/sh".to_owned()
        }
        _ => error.to_string(),
    };
    Error::Start { program: shown(command), reason }
}

#[cfg(test)]
mod tests {
    use super::report;
    use crate::task::Gauge;

    #[test]
    fn reports_are_taken_and_other_lines_are_not() {
        let gauge = Gauge::default();
        assert!(report(&gauge, b"reporter:counter:words,long ones,3"));
        assert!(report(&gauge, b"reporter:counter:words,long ones,4"));
        assert!(report(&gauge, b"reporter:counter:g,a,b,1"));
        assert!(report(&gauge, b"reporter:status:half way"));
        for line in
            [&b"reporter:counter:g,n"[..], b"reporter:counter:g,n,x", b"reporter:other", b"x"]
        {
            assert!(!report(&gauge, line), "{line:?}");
        }
        let counters = gauge.counters.lock();
        assert_eq!((counters.get("words", "long ones"), counters.get("g", "a,b")), (7, 1));
        assert_eq!(gauge.status(), "half way");
    }
}
