//! What an attempt shows while it runs, and how it is told to stop. Who looks is not known here.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::{counters::Counters, error::Error, proto::Source};

/// Last lines of standard error that are told when a program fails.
const TAIL_LINES: usize = 10;
/// Bytes of such a line.
const TAIL_LINE: usize = 500;

/// Of one attempt.
#[derive(Default)]
pub(crate) struct Gauge {
    /// Bytes of its input that it has read.
    pub(crate) read: Arc<AtomicU64>,
    /// Bytes of its input.
    pub(crate) all: AtomicU64,
    /// Records that it began, of those of its split.
    pub(crate) records: AtomicU64,
    /// What its program has counted so far.
    pub(crate) counters: Mutex<Counters>,
    status: Mutex<String>,
    tail: Mutex<VecDeque<String>>,
    cancelled: AtomicBool,
    cancel: Notify,
    feed: Mutex<Feed>,
    fed: Notify,
}

/// What a reduce was told of the output of maps and has not looked at yet.
#[derive(Default)]
pub(crate) struct Feed {
    pub(crate) sources: Vec<Source>,
    /// No more will come.
    pub(crate) complete: bool,
}

impl Gauge {
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
        self.cancel.notify_waiters();
    }

    /// An error once the attempt is not wanted any more.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Cancelled) } else { Ok(()) }
    }

    /// Ready when the attempt is not wanted any more.
    pub(crate) async fn cancelled(&self) {
        loop {
            let told = self.cancel.notified();
            if self.cancelled.load(Ordering::SeqCst) {
                return;
            }
            told.await;
        }
    }

    /// Tells a reduce where more output lies.
    pub(crate) fn feed(&self, sources: Vec<Source>, complete: bool) {
        let mut feed = self.feed.lock();
        feed.sources.extend(sources);
        feed.complete |= complete;
        self.fed.notify_one();
    }

    /// Waits until something was told, and takes it.
    pub(crate) async fn fed(&self) -> Feed {
        self.fed.notified().await;
        let mut feed = self.feed.lock();
        Feed { sources: std::mem::take(&mut feed.sources), complete: feed.complete }
    }

    pub(crate) fn set_status(&self, status: &str) {
        self.status.lock().replace_range(.., status);
    }

    #[cfg(test)]
    pub(crate) fn status(&self) -> String {
        self.status.lock().clone()
    }

    /// Remembers a line that a program said on standard error.
    pub(crate) fn said(&self, line: &[u8]) {
        let mut tail = self.tail.lock();
        if tail.len() == TAIL_LINES {
            tail.pop_front();
        }
        tail.push_back(String::from_utf8_lossy(&line[..line.len().min(TAIL_LINE)]).into_owned());
    }

    /// The last lines that were said.
    pub(crate) fn tail(&self) -> String {
        self.tail.lock().iter().cloned().collect::<Vec<_>>().join("\n")
    }
}
