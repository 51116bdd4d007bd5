//! Membership: who is there now, by name, with what it says of itself.

use bytes::Bytes;

use crate::{
    error::Error,
    registry::{Make, NodePath, Refusal, Registry, Scope, Watch},
};

/// The members of a group at a node.
pub struct Members {
    registry: Registry,
    node: NodePath,
}

impl Members {
    /// The group at `node`.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath) -> Self {
        Self { registry: registry.clone(), node }
    }

    /// Is a member from now until the session ends. A node that an older session left under that
    /// name is replaced.
    ///
    /// # Errors
    /// As any call; also if somebody else joins under the same name at the same time.
    pub async fn join(&self, name: &str, data: impl Into<Bytes>) -> Result<(), Error> {
        self.registry.ensure(&self.node).await?;
        let (path, data) = (self.node.child(name)?, data.into());
        let make = Make { ephemeral: true, sequential: false };
        let older = match self.registry.create(&path, data.clone(), make).await {
            Err(error @ Error::Node { why: Refusal::Exists, .. }) => error,
            result => return result.map(|_| ()),
        };
        match self.registry.exists(&path).await? {
            Some(stat) if stat.owner == Some(self.registry.session()) => {
                return self.registry.set(&path, data, None).await.map(|_| ());
            }
            Some(_) => self.leave(name).await?,
            None => tracing::debug!(%older, "it went by itself"),
        }
        self.registry.create(&path, data, make).await.map(|_| ())
    }

    /// Is a member no more.
    ///
    /// # Errors
    /// As any call.
    pub async fn leave(&self, name: &str) -> Result<(), Error> {
        match self.registry.delete(&self.node.child(name)?, None).await {
            Err(Error::Node { why: Refusal::NoNode, .. }) => Ok(()),
            result => result,
        }
    }

    /// Who is there now, by name.
    ///
    /// # Errors
    /// As any call.
    pub async fn now(&self) -> Result<Vec<(String, Bytes)>, Error> {
        let mut members = Vec::new();
        for name in self.registry.children(&self.node).await? {
            if let Some(node) = self.registry.get(&self.node.child(&name)?).await? {
                members.push((name, node.data));
            }
        }
        Ok(members)
    }

    /// Tells when somebody comes or goes.
    ///
    /// # Errors
    /// As any call.
    pub async fn watch(&self) -> Result<Watch, Error> {
        self.registry.watch(&self.node, Scope::Children).await
    }
}
