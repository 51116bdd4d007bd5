//! A counter that many clients add to: read, add, write if nobody else did; else wait a little,
//! longer each time, and try again.

use std::time::Duration;

use world::Time;

use crate::{
    error::Error,
    registry::{Make, NodePath, Refusal, Registry},
};

/// A number at a node.
pub struct Counter {
    registry: Registry,
    node: NodePath,
}

/// The first pause after a lost race, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(256));

impl Counter {
    /// The counter at `node`.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath) -> Self {
        Self { registry: registry.clone(), node }
    }

    /// What it says; 0 if there is none yet.
    ///
    /// # Errors
    /// As any call.
    pub async fn get(&self) -> Result<i64, Error> {
        Ok(self.look().await?.1)
    }

    async fn look(&self) -> Result<(Option<u64>, i64), Error> {
        let Some(node) = self.registry.get(&self.node).await? else { return Ok((None, 0)) };
        let text = std::str::from_utf8(&node.data).ok();
        let value = text.and_then(|text| text.parse().ok());
        let value =
            value.ok_or_else(|| Error::Protocol(format!("{} holds no number", self.node)))?;
        Ok((Some(node.stat.version), value))
    }

    /// Adds `by`; what it says then. Each call adds once.
    ///
    /// # Errors
    /// [`Error::Deadline`] if others were always faster until then.
    pub async fn add(&self, by: i64, deadline: Time) -> Result<i64, Error> {
        if let Some(above) = self.node.parent() {
            self.registry.ensure(&above).await?;
        }
        let world = self.registry.world().clone();
        let mut pause = PAUSE.0;
        loop {
            let (version, value) = self.look().await?;
            let next = value.wrapping_add(by);
            let data = next.to_string();
            let written = match version {
                Some(version) => {
                    self.registry.set(&self.node, data, Some(version)).await.map(|_| ())
                }
                None => self.registry.create(&self.node, data, Make::default()).await.map(|_| ()),
            };
            match written {
                Ok(()) => return Ok(next),
                Err(Error::Node {
                    why: Refusal::Version(_) | Refusal::Exists | Refusal::NoNode,
                    ..
                }) => {}
                Err(error) => return Err(error),
            }
            if world.clock.now() >= deadline {
                return Err(Error::Deadline);
            }
            // Between half and all of the pause, so that those who met do not meet again.
            let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX);
            let rest = Duration::from_nanos(nanos / 2 + world.dice.roll() % (nanos / 2 + 1));
            world.clock.sleep(rest).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }
}
