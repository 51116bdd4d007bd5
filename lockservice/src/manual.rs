//! A clock for tests of leases.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use world::{Clock, Time, Wall};

/// A clock that stands until it is moved.
pub(crate) struct Manual(watch::Sender<Time>);

impl Manual {
    pub(crate) fn new(now: Time) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(now)))
    }

    pub(crate) fn forward(&self, by: Duration) {
        self.0.send_modify(|now| *now = *now + by);
    }
}

impl Clock for Manual {
    fn now(&self) -> Time {
        *self.0.borrow()
    }
    fn wall(&self) -> Wall {
        Wall::default()
    }
    fn sleep_until(&self, deadline: Time) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        Box::pin(async move {
            if now.wait_for(|now| *now >= deadline).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}
