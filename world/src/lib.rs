//! The `world` room: clock, sockets, files, tasks and randomness.
//!
//! It is the only room that touches the operating system on behalf of the daemons. Every daemon
//! takes a [`World`] and reaches time, network, disk and threads through it, so that a simulated
//! world can stand in for the real one and a test can decide what time it is, which packet is
//! lost and which sector is torn.
//!
//! It knows no protocol: no message, no lock, no block, no file-system notion.

pub mod clock;
pub mod dice;
pub mod disk;
pub mod net;
pub mod process;
pub mod task;

mod real;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use clock::{Clock, Elapsed, Time, Wall};
pub use dice::Dice;
pub use disk::{Disk, File, Look, OpenMode, What};
pub use net::{Address, AddressError, Listener, Net, Stream};
pub use process::{Command, Exit, Process};
pub use task::{Task, Tasks};

/// The handles through which a daemon reaches the operating system. Cheap to clone.
#[derive(Clone)]
pub struct World {
    /// Monotonic and wall time, timers.
    pub clock: Arc<dyn Clock>,
    /// Listening and connecting.
    pub net: Arc<dyn Net>,
    /// Files and directories; every call blocks, so call it from [`Tasks::blocking`] or a thread.
    pub disk: Arc<dyn Disk>,
    /// Tasks, blocking work and threads.
    pub tasks: Arc<dyn Tasks>,
    /// Random numbers for seeds and identifiers.
    pub dice: Arc<dyn Dice>,
}

impl World {
    /// The operating system itself. Must be called inside a tokio runtime, whose handle the tasks
    /// are spawned on.
    #[must_use]
    pub fn real() -> Self {
        Self {
            clock: Arc::new(real::clock::RealClock),
            net: Arc::new(real::net::RealNet),
            disk: Arc::new(real::disk::RealDisk),
            tasks: Arc::new(real::task::RealTasks::current()),
            dice: Arc::new(real::dice::RealDice),
        }
    }

    /// Runs `future` until it is ready or `deadline` has come, whichever is first.
    ///
    /// # Errors
    /// [`Elapsed`] if the deadline came first; the future is then dropped.
    pub async fn until<F: Future>(&self, deadline: Time, future: F) -> Result<F::Output, Elapsed> {
        let timer = self.clock.sleep_until(deadline);
        futures_util::pin_mut!(future);
        match futures_util::future::select(future, timer).await {
            futures_util::future::Either::Left((output, _)) => Ok(output),
            futures_util::future::Either::Right(((), _)) => Err(Elapsed),
        }
    }

    /// Runs blocking `work` on a blocking thread and waits for its result.
    pub async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.tasks.blocking(Box::new(move || {
            // The receiver is gone when the caller was dropped; then nobody wants the result.
            let _ = sender.send(work());
        }));
        match receiver.await {
            Ok(result) => result,
            // The runtime dropped the work: it is shutting down and this task goes with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// Runs what `make` makes on a thread with a scheduler of its own, where busy tasks elsewhere
    /// cannot delay it. `make` gets a world whose tasks and sockets live there.
    pub fn apart<F, R>(&self, name: &'static str, make: F)
    where
        F: FnOnce(Self) -> R + Send + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let world = self.clone();
        let work = move |tasks: Option<Arc<dyn Tasks>>| -> BoxFuture<'static, ()> {
            let tasks = tasks.unwrap_or_else(|| world.tasks.clone());
            Box::pin(make(Self { tasks, ..world }))
        };
        self.tasks.apart(name, Box::new(work));
    }

    /// Spawns `future` as a task named `name`.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.tasks.spawn(name, Box::pin(future))
    }
}
