//! The chart as a client has it, and waiting for a newer one. Who waits is woken in the order of coming, which
//! channels of tokio do not promise: a simulated cluster is to do the same again with the same seed.

use std::sync::Arc;

use parking_lot::RwLock;
use tokio::sync::{Notify, futures::Notified};

use crate::map::Chart;

/// The newest chart.
pub(super) struct Charts {
    newest: RwLock<Arc<Chart>>,
    moved: Notify,
}

impl Charts {
    pub(super) fn new(chart: Chart) -> Self {
        Self { newest: RwLock::new(Arc::new(chart)), moved: Notify::new() }
    }

    pub(super) fn newest(&self) -> Arc<Chart> {
        Arc::clone(&self.newest.read())
    }

    pub(super) fn replace(&self, chart: Chart) {
        *self.newest.write() = Arc::new(chart);
        self.moved.notify_waiters();
    }

    /// Ready when another chart comes after this call.
    pub(super) fn moved(&self) -> Notified<'_> {
        self.moved.notified()
    }

    /// Waits until the newest chart is one for which `holds`.
    pub(super) async fn until(&self, holds: impl Fn(&Chart) -> bool) {
        loop {
            let moved = self.moved();
            if holds(&self.newest()) {
                return;
            }
            moved.await;
        }
    }
}
