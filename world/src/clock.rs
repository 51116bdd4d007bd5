//! Time: a monotonic clock for leases and deadlines, a wall clock for file timestamps only.
//!
//! Leases never look at the wall clock: it may jump. What an instant means to a peer is not known
//! here; each side measures with its own clock.

use std::{
    fmt,
    ops::{Add, Sub},
    time::Duration,
};

use futures_util::future::BoxFuture;

/// A point of monotonic time: nanoseconds since an arbitrary origin of this machine (its boot),
/// counting suspended time. Points of different machines cannot be compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// The origin: earlier than, or equal to, every other point.
    pub const ZERO: Self = Self(0);
    /// A point that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long after `earlier` this point is; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// The time since the origin.
    #[must_use]
    pub fn as_duration(self) -> Duration {
        Duration::from_nanos(self.0)
    }
}

impl Add<Duration> for Time {
    type Output = Self;
    fn add(self, rhs: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;
    fn sub(self, rhs: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_duration())
    }
}

/// A point of wall time, for timestamps that people read. Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Wall {
    /// Seconds since 1970-01-01 00:00 UTC; negative before.
    pub seconds: i64,
    /// 0 to 999,999,999.
    pub nanos: u32,
}

/// A deadline came before the work was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline passed")]
pub struct Elapsed;

/// Where time comes from.
pub trait Clock: Send + Sync {
    /// Now, monotonic.
    fn now(&self) -> Time;
    /// Now, by the wall clock.
    fn wall(&self) -> Wall;
    /// Ready when `deadline` has come; at once if it has.
    fn sleep_until(&self, deadline: Time) -> BoxFuture<'static, ()>;
    /// Ready after `duration`.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.sleep_until(self.now() + duration)
    }
}
