//! A read/write lock: a reader waits for the writers before it, a writer for everybody before it.

use bytes::Bytes;
use world::Time;

use super::line::Place;
use crate::{
    error::Error,
    registry::{NodePath, Registry},
};

/// A lock that many readers or one writer have at a time.
pub struct ReadWriteLock {
    registry: Registry,
    node: NodePath,
}

impl ReadWriteLock {
    /// The lock at `node`.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath) -> Self {
        Self { registry: registry.clone(), node }
    }

    /// Waits to read.
    ///
    /// # Errors
    /// [`Error::Deadline`] if a writer had it, or waited before, until then.
    pub async fn read(&self, deadline: Time) -> Result<Place, Error> {
        self.lock("read-", deadline, |name| name.starts_with("write-")).await
    }

    /// Waits to write.
    ///
    /// # Errors
    /// [`Error::Deadline`] if others had it until then.
    pub async fn write(&self, deadline: Time) -> Result<Place, Error> {
        self.lock("write-", deadline, |_| true).await
    }

    async fn lock(
        &self,
        prefix: &str,
        deadline: Time,
        waits_for: impl Fn(&str) -> bool,
    ) -> Result<Place, Error> {
        let place = Place::join(&self.registry, &self.node, prefix, Bytes::new()).await?;
        match place.first(deadline, waits_for).await {
            Ok(()) => Ok(place),
            Err(error) => {
                place.leave().await?;
                Err(error)
            }
        }
    }
}
