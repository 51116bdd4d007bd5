//! skeleton
use crate::Error;
use crate::config::Config;
use crate::effect::{Effect, Event, Status, Stored};
use std::time::Duration;

/// One member of a group.
pub struct Node {
    config: Config,
}

impl Node {
    /// A member that starts from what its disk holds.
    ///
    /// # Errors
    /// If the settings or the stored state make no sense.
    pub fn new(config: Config, _seed: u64, _stored: Stored) -> Result<Self, Error> {
        config.check()?;
        Ok(Self { config })
    }

    /// Takes an event. `now` is the time since an origin of the driver's choice and never falls.
    pub fn handle(&mut self, _now: Duration, _event: Event) {}

    /// The next thing to do; call until `None`. Several events may be handled before: they share one persist.
    pub fn poll(&mut self) -> Option<Effect> {
        None
    }

    /// When to send [`Event::Wake`] if nothing else happens.
    pub fn deadline(&self) -> Option<Duration> {
        None
    }

    /// A look at the node.
    pub fn status(&self) -> Status {
        let _ = &self.config;
        unreachable!("skeleton")
    }
}
