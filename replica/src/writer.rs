//! The log-writer thread: takes all persists that wait, makes them durable with one sync, reports
//! the last. Group commit comes of itself: what arrives during a sync shares the next one. A
//! failed write or sync stops the host; nothing is tried again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use parking_lot::{Condvar, Mutex};
use raft::{Checkpoint, Event, Index, Persist, Sequence};

use crate::{
    checkpoint::CheckpointFile, driver::Shared, error::Error, log::Log, machine::StateMachine,
};

pub(crate) enum Job {
    Persist(Persist),
    /// Segments up to here may go.
    Trim(Index),
}

#[derive(Default)]
struct Jobs {
    waiting: Vec<Job>,
    stop: bool,
}

/// The queue of the writer thread.
#[derive(Default)]
pub(crate) struct Writer {
    jobs: Mutex<Jobs>,
    more: Condvar,
    pub(crate) ended: AtomicBool,
}

impl Writer {
    pub(crate) fn push(&self, job: Job) {
        self.jobs.lock().waiting.push(job);
        self.more.notify_one();
    }

    /// Ends the thread after what it is doing now. What waits is not written: it was not
    /// acknowledged, so this is no different from a crash.
    pub(crate) fn stop(&self) {
        self.jobs.lock().stop = true;
        self.more.notify_one();
    }

    /// What waits; `None` at the end.
    fn take(&self) -> Option<Vec<Job>> {
        let mut jobs = self.jobs.lock();
        loop {
            if jobs.stop {
                return None;
            }
            if !jobs.waiting.is_empty() {
                return Some(std::mem::take(&mut jobs.waiting));
            }
            self.more.wait(&mut jobs);
        }
    }
}

/// The body of the thread.
pub(crate) fn run<M: StateMachine>(shared: &Arc<Shared<M>>, log: Log, file: &CheckpointFile) {
    let _ending = Ending(shared);
    // Dropped before the ending is said: then the directory can be opened again.
    let mut log = log;
    while let Some(jobs) = shared.writer.take() {
        let written = write(&mut log, file, jobs);
        shared.log_bytes.store(log.bytes(), Ordering::Relaxed);
        match written {
            Ok(Written { last, damaged }) => {
                for checkpoint in damaged {
                    shared.event(Event::CheckpointDamaged(checkpoint));
                }
                if let Some(sequence) = last {
                    shared.event(Event::Persisted(sequence));
                }
            }
            Err(error) => {
                tracing::error!(group = %shared.config.group, %error, "the log cannot be written");
                shared.stop(&error.to_string());
            }
        }
    }
}

/// Says that the thread has ended, also when the state machine's panic ended it.
struct Ending<'a, M: StateMachine>(&'a Shared<M>);

impl<M: StateMachine> Drop for Ending<'_, M> {
    fn drop(&mut self) {
        self.0.writer.ended.store(true, Ordering::Release);
        self.0.timer.notify_waiters();
    }
}

/// What is durable now.
struct Written {
    last: Option<Sequence>,
    /// Collected checkpoints that are not what they should be.
    damaged: Vec<Checkpoint>,
}

fn write(log: &mut Log, file: &CheckpointFile, jobs: Vec<Job>) -> Result<Written, Error> {
    let mut batch = Vec::new();
    let mut trim = None;
    let mut damaged = Vec::new();
    for job in jobs {
        match job {
            Job::Trim(index) => trim = Some(index),
            Job::Persist(mut persist) => {
                for chunk in std::mem::take(&mut persist.chunks) {
                    if !file.collect(&chunk)? {
                        damaged.push(chunk.checkpoint);
                    }
                }
                if let Some(checkpoint) = &persist.checkpoint {
                    // Term and vote first, then the checkpoint, then the log that it empties.
                    let hard = persist.hard.take();
                    batch.push(Persist { hard, ..Persist::default() });
                    log.append(&batch)?;
                    batch.clear();
                    file.install(checkpoint)?;
                }
                batch.push(persist);
            }
        }
    }
    let last = batch.last().map(|persist| persist.sequence);
    if !batch.is_empty() {
        log.append(&batch)?;
    }
    if let Some(index) = trim {
        log.trim(index)?;
    }
    Ok(Written { last, damaged })
}
