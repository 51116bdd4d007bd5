//! Running an operation: polled once on the event-loop thread, where it usually is ready, and
//! handed to the runtime, the same future, if it is not. One code path for hit and miss, and no event-loop thread
//! ever blocks. What the operation is, is not known here.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_util::pin_mut;
use rustix::io::Errno;
use tokio::{runtime::Handle, sync::Notify};
use world::World;

use crate::{Result, windows::Windows};

/// A wait of which nobody will see the end.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

/// Runs the operations of one mount.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) world: World,
    /// Futures may make timers at their first poll, which needs the runtime's context.
    runtime: Option<Handle>,
    windows: Arc<Windows>,
    waiting: Arc<Waiting>,
    within: Duration,
}

/// Operations that were not ready at the first poll.
#[derive(Default)]
pub(crate) struct Waiting {
    count: AtomicU64,
    total: AtomicU64,
    changed: Notify,
}

impl Waiting {
    /// How many operations had to wait since the mount was made.
    pub(crate) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Ready when no operation runs any more.
    pub(crate) async fn none(&self) {
        loop {
            let changed = self.changed.notified();
            if self.count.load(Ordering::SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }
}

struct Counted(Arc<Waiting>);

impl Counted {
    fn new(waiting: &Arc<Waiting>) -> Self {
        waiting.count.fetch_add(1, Ordering::SeqCst);
        waiting.total.fetch_add(1, Ordering::Relaxed);
        Self(waiting.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
        self.0.changed.notify_waiters();
    }
}

impl Runner {
    pub(crate) fn new(
        world: &World,
        windows: Arc<Windows>,
        waiting: Arc<Waiting>,
        within: Duration,
    ) -> Self {
        Self { world: world.clone(), runtime: Handle::try_current().ok(), windows, waiting, within }
    }

    /// As [`Runner::run`], but for what may take as long as whoever asked is willing to wait.
    pub(crate) fn run_long<T, F, R>(&self, operation: F, reply: R)
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        R: FnOnce(Result<T>) + Send + 'static,
    {
        Self { within: LONG, ..self.clone() }.run(operation, reply);
    }

    /// Runs `operation` and gives what it answers to `reply`, which is called exactly once.
    ///
    /// A panic in the operation ends that request only: the reply is dropped, which answers EIO.
    pub(crate) fn run<T, F, R>(&self, operation: F, reply: R)
    where
        T: Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
        R: FnOnce(Result<T>) + Send + 'static,
    {
        let _inside = self.runtime.as_ref().map(Handle::enter);
        let mut job = Box::pin(self.clone().job(operation, reply));
        let polled = catch_unwind(AssertUnwindSafe(|| {
            // Nobody is to be woken yet: the task polls again first thing, and then leaves its own waker.
            job.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        }));
        match polled {
            Ok(Poll::Ready(())) => {}
            Ok(Poll::Pending) => {
                let counted = Counted::new(&self.waiting);
                self.world.spawn("fuse-operation", async move {
                    let _counted = counted;
                    job.await;
                });
            }
            Err(_) => tracing::error!("an operation panicked; its request is answered EIO"),
        }
    }

    async fn job<T, F, R>(self, operation: F, reply: R)
    where
        F: Future<Output = Result<T>>,
        R: FnOnce(Result<T>),
    {
        pin_mut!(operation);
        let mut reply = Some(reply);
        let mut limit = None;
        let mut first = true;
        std::future::poll_fn(move |context| {
            let window = self.windows.open();
            if let Poll::Ready(answer) = operation.as_mut().poll(context) {
                if let Some(reply) = reply.take() {
                    reply(answer);
                }
                return Poll::Ready(());
            }
            drop(window);
            if std::mem::take(&mut first) || reply.is_none() {
                return Poll::Pending;
            }
            // No request waits without bound. The operation itself runs on: what it began must come to an end.
            let limit = limit.get_or_insert_with(|| self.world.clock.sleep(self.within));
            if limit.as_mut().poll(context).is_ready()
                && let Some(reply) = reply.take()
            {
                tracing::warn!(
                    seconds = self.within.as_secs(),
                    "an operation takes too long; its request is answered EIO"
                );
                reply(Err(Errno::IO));
            }
            Poll::Pending
        })
        .await;
    }
}
