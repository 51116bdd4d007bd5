//! Tasks on the tokio runtime that was current when the world was made.

use std::{io, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::runtime::Handle;

use crate::{
    process::{Command, Process},
    task::{Apart, Task, Tasks},
};

pub(crate) struct RealTasks(Handle);

impl RealTasks {
    pub(crate) fn current() -> Self {
        Self(Handle::current())
    }
}

impl Tasks for RealTasks {
    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        tracing::trace!(name, "task starts");
        let abort = self.0.spawn(future).abort_handle();
        Task::new(Box::new(move || abort.abort()))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        self.0.spawn_blocking(work);
    }

    fn apart(&self, name: &'static str, work: Apart) {
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => {
                    let tasks = Arc::new(Self(runtime.handle().clone()));
                    // Inside, so that what it makes at once finds the scheduler, too.
                    runtime.block_on(async move { work(Some(tasks)).await });
                    // What it started to look a name up may still block; nobody waits for that.
                    runtime.shutdown_background();
                }
                Err(error) => panic!("cannot start the scheduler of thread {name}: {error}"),
            }
        });
        if let Err(error) = spawned {
            panic!("cannot start thread {name}: {error}");
        }
    }

    fn thread(&self, name: &'static str, work: Box<dyn FnOnce() + Send>) {
        let handle = self.0.clone();
        let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _inside = handle.enter();
            work();
        });
        if let Err(error) = spawned {
            panic!("cannot start thread {name}: {error}");
        }
    }

    fn process(&self, command: &Command) -> io::Result<Process> {
        let _inside = self.0.enter();
        super::process::start(command)
    }
}
