//! The election of a job's coordinator: whoever stood first leads, until its session with the registry ends. How a
//! session is kept alive, and that the writes of an ended one are fenced, is the lock service's and the block servers'
//! business.

use std::time::Duration;

use async_trait::async_trait;
use lockservice::{
    Registry,
    registry::{
        NodePath, Refusal,
        recipes::{Candidate, Election},
    },
};

use crate::error::Error;

/// Below it each job has a node.
const ROOT: &str = "/mapreduce";

/// Number of a coordinator of a job: it grows from each to the next, so that workers can tell an older one.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

/// Where the coordinators of jobs are elected.
#[async_trait]
pub trait Ballots: Send + Sync {
    /// Stands for the lead of a job; `name` is for people.
    ///
    /// # Errors
    /// [`Error::Election`] if the registry cannot be reached.
    async fn stand(&self, job: u64, name: &str) -> Result<Box<dyn Candidacy>, Error>;
}

/// One that stands. It ends with the session that it was made in, or when it resigns.
#[async_trait]
pub trait Candidacy: Send + Sync {
    /// Its number.
    fn term(&self) -> Term;

    /// Waits until it leads, for at most `patience`; tells whether it does.
    ///
    /// # Errors
    /// [`Error::Election`] if it stands no more, or the registry cannot be reached.
    async fn lead(&self, patience: Duration) -> Result<bool, Error>;

    /// Stands no more, because the job is over.
    async fn resign(self: Box<Self>);
}

fn failed(error: &lockservice::Error) -> Error {
    Error::Election(error.to_string())
}

#[async_trait]
impl Ballots for Registry {
    async fn stand(&self, job: u64, name: &str) -> Result<Box<dyn Candidacy>, Error> {
        let node = NodePath::new(format!("{ROOT}/{job:016x}"));
        let node = node.map_err(|error| Error::Election(error.to_string()))?;
        let election = Election::new(self, node.clone());
        let candidate =
            election.stand(name.as_bytes().to_vec()).await.map_err(|error| failed(&error))?;
        Ok(Box::new(Standing { registry: self.clone(), node, candidate }))
    }
}

/// A candidacy in the registry.
struct Standing {
    registry: Registry,
    node: NodePath,
    candidate: Candidate,
}

#[async_trait]
impl Candidacy for Standing {
    fn term(&self) -> Term {
        // The first number of the registry is 0, and workers know no coordinator as term 0.
        Term(self.candidate.term() + 1)
    }

    async fn lead(&self, patience: Duration) -> Result<bool, Error> {
        let deadline = self.registry.world().clock.now() + patience;
        match self.candidate.lead(deadline).await {
            Ok(()) => Ok(true),
            Err(lockservice::Error::Deadline) => Ok(false),
            Err(error) => Err(failed(&error)),
        }
    }

    async fn resign(self: Box<Self>) {
        let Self { registry, node, candidate } = *self;
        if let Err(error) = candidate.resign().await {
            tracing::debug!(%error, "a candidacy ends with its session");
        }
        // The last one takes the node along.
        match registry.delete(&node, None).await {
            Ok(()) => {}
            Err(lockservice::Error::Node { why: Refusal::NotEmpty | Refusal::NoNode, .. }) => {}
            Err(error) => tracing::debug!(%error, "the node of a job stays in the registry"),
        }
    }
}
