//! Leader election: the candidate that came first leads until it resigns or its session ends.
//!
//! The number of the candidacy ([`Candidate::term`]) only grows from leader to leader: whoever
//! takes orders refuses those of a smaller one.

use bytes::Bytes;
use world::Time;

use super::line::Place;
use crate::{
    error::Error,
    registry::{NodePath, Registry},
};

/// An election at a node.
pub struct Election {
    registry: Registry,
    node: NodePath,
}

/// A candidacy.
pub struct Candidate(Place);

impl Election {
    /// The election at `node`.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath) -> Self {
        Self { registry: registry.clone(), node }
    }

    /// Stands for election; `data` tells others how to reach this candidate.
    ///
    /// # Errors
    /// As any call.
    pub async fn stand(&self, data: impl Into<Bytes>) -> Result<Candidate, Error> {
        Place::join(&self.registry, &self.node, "candidate-", data.into()).await.map(Candidate)
    }

    /// What the present leader said of itself; `None` if there is none.
    ///
    /// # Errors
    /// As any call.
    pub async fn leader(&self) -> Result<Option<Bytes>, Error> {
        let names = self.registry.children(&self.node).await?;
        let Some(first) = names.first() else { return Ok(None) };
        Ok(self.registry.get(&self.node.child(first)?).await?.map(|node| node.data))
    }
}

impl Candidate {
    /// Waits until it leads.
    ///
    /// # Errors
    /// [`Error::Deadline`] if others led until then; it is still a candidate.
    pub async fn lead(&self, deadline: Time) -> Result<(), Error> {
        self.0.first(deadline, |_| true).await
    }

    /// The number of the candidacy.
    #[must_use]
    pub fn term(&self) -> u64 {
        let name = self.0.path().name();
        name.rsplit('-').next().and_then(|number| number.parse().ok()).unwrap_or_default()
    }

    /// Leads no more, or stands no more.
    ///
    /// # Errors
    /// As any call.
    pub async fn resign(self) -> Result<(), Error> {
        self.0.leave().await
    }
}
