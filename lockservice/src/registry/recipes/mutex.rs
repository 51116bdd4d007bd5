//! Mutual exclusion without a herd: whoever is first in the line has it.

use bytes::Bytes;
use world::Time;

use super::line::Place;
use crate::{
    error::Error,
    registry::{NodePath, Registry},
};

/// A lock that one client has at a time.
pub struct Mutex {
    registry: Registry,
    node: NodePath,
}

impl Mutex {
    /// The lock at `node`.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath) -> Self {
        Self { registry: registry.clone(), node }
    }

    /// Waits for the lock; it is held until [`Place::leave`] or the end of the session.
    ///
    /// # Errors
    /// [`Error::Deadline`] if others had it until then.
    pub async fn lock(&self, deadline: Time) -> Result<Place, Error> {
        let place = Place::join(&self.registry, &self.node, "lock-", Bytes::new()).await?;
        match place.first(deadline, |_| true).await {
            Ok(()) => Ok(place),
            Err(error) => {
                place.leave().await?;
                Err(error)
            }
        }
    }
}
