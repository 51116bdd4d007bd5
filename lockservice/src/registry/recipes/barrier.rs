//! A double barrier: so many clients begin together, and nobody goes on before all have ended.

use bytes::Bytes;
use world::Time;

use crate::{
    error::Error,
    registry::{Make, NodePath, Refusal, Registry, Scope},
};

/// A barrier for a number of clients at a node. It serves one round; take another node for the next.
pub struct DoubleBarrier {
    registry: Registry,
    node: NodePath,
    size: usize,
}

impl DoubleBarrier {
    /// The barrier at `node` for `size` clients.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath, size: usize) -> Self {
        Self { registry: registry.clone(), node, size }
    }

    fn members(&self) -> Result<NodePath, Error> {
        Ok(self.node.child("members")?)
    }

    /// Enters under `name` and waits until all have entered.
    ///
    /// # Errors
    /// [`Error::Deadline`] if some did not come until then.
    pub async fn enter(&self, name: &str, deadline: Time) -> Result<(), Error> {
        let (members, ready) = (self.members()?, self.node.child("ready")?);
        self.registry.ensure(&members).await?;
        let watch = self.registry.watch(&ready, Scope::Node).await?;
        let make = Make { ephemeral: true, sequential: false };
        self.registry.create(&members.child(name)?, Bytes::new(), make).await?;
        if self.registry.children(&members).await?.len() >= self.size {
            match self.registry.create(&ready, Bytes::new(), Make::default()).await {
                Err(Error::Node { why: Refusal::Exists, .. }) | Ok(_) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        while self.registry.exists(&ready).await?.is_none() {
            watch.next(deadline).await?;
        }
        Ok(())
    }

    /// Leaves, and waits until all have left.
    ///
    /// # Errors
    /// [`Error::Deadline`] if some did not leave until then.
    pub async fn leave(&self, name: &str, deadline: Time) -> Result<(), Error> {
        let members = self.members()?;
        self.registry.delete(&members.child(name)?, None).await?;
        loop {
            // Everybody watches the one that is first by name; when it has left, the next.
            let names = self.registry.children(&members).await?;
            let Some(other) = names.first() else { return Ok(()) };
            let other = members.child(other)?;
            let watch = self.registry.watch(&other, Scope::Node).await?;
            if self.registry.exists(&other).await?.is_some() {
                watch.next(deadline).await?;
            }
        }
    }
}
