//! CLOCK_BOOTTIME for leases (a suspended machine's leases run out) and tokio's timer.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};

use crate::clock::{Clock, Time, Wall};

pub(crate) struct RealClock;

impl Clock for RealClock {
    fn now(&self) -> Time {
        let now = clock_gettime(ClockId::Boottime);
        Time(now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs())
    }

    fn wall(&self) -> Wall {
        let now = clock_gettime(ClockId::Realtime);
        Wall { seconds: now.tv_sec, nanos: u32::try_from(now.tv_nsec).unwrap_or(0) }
    }

    fn sleep_until(&self, deadline: Time) -> BoxFuture<'static, ()> {
        let left = deadline.since(self.now());
        // A timer beyond a year is one that never fires.
        let left = left.min(Duration::from_secs(365 * 24 * 3600));
        Box::pin(tokio::time::sleep(left))
    }
}
