//! Tasks and threads: who runs the work of a daemon. What the work is, is not known here.

use std::io;

use futures_util::future::BoxFuture;

use crate::process::{Command, Process};

/// A running task. It goes on when this handle is dropped; [`Task::abort`] ends it.
pub struct Task {
    abort: Box<dyn Fn() + Send + Sync>,
}

impl Task {
    /// A handle whose [`Task::abort`] calls `abort`.
    #[must_use]
    pub fn new(abort: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { abort }
    }

    /// Ends the task at its next await point. Ending it twice, or after it is done, does nothing.
    pub fn abort(&self) {
        (self.abort)();
    }
}

/// What [`Tasks::apart`] runs.
pub type Apart =
    Box<dyn FnOnce(Option<std::sync::Arc<dyn Tasks>>) -> BoxFuture<'static, ()> + Send>;

/// Who runs the work. [`crate::World::spawn`] and [`crate::World::blocking`] are the convenient form.
pub trait Tasks: Send + Sync {
    /// Starts a task.
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task;
    /// Runs work that may block for as long as a disk does.
    fn blocking(&self, work: Box<dyn FnOnce() + Send>);
    /// Starts a thread with a scheduler of its own and runs there the future that `work` makes,
    /// given the tasks of that scheduler: busy tasks elsewhere cannot delay it. Where there is no
    /// such thing (a simulated world) it runs among the others and is given `None`.
    fn apart(&self, name: &'static str, work: Apart) {
        // The handle does not end the task when it is dropped.
        let _ = self.spawn(name, work(None));
    }
    /// Starts a thread of its own for work that blocks for long (a disk committer, a notifier).
    fn thread(&self, name: &'static str, work: Box<dyn FnOnce() + Send>);
    /// Runs a program.
    ///
    /// # Errors
    /// `NotFound` if there is no such program; else as the operating system reports them. A world that
    /// has no programs says `Unsupported`.
    fn process(&self, command: &Command) -> io::Result<Process> {
        let _ = command;
        Err(io::ErrorKind::Unsupported.into())
    }
}
