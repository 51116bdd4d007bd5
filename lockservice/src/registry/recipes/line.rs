//! A line of clients before a node: each an ephemeral, numbered child. The base of election and
//! locks.

use bytes::Bytes;
use world::Time;

use crate::{
    error::Error,
    registry::{Make, NodePath, Refusal, Registry, Scope},
};

/// A place in a line; it is given up by [`Place::leave`], or with the session.
pub struct Place {
    registry: Registry,
    path: NodePath,
}

/// The number that the registry put behind a name.
fn number(name: &str) -> &str {
    name.get(name.len().saturating_sub(10)..).unwrap_or(name)
}

impl Place {
    /// Joins the line at `node`, which is made if need be, under a name that begins with `prefix`.
    pub(super) async fn join(
        registry: &Registry,
        node: &NodePath,
        prefix: &str,
        data: Bytes,
    ) -> Result<Self, Error> {
        registry.ensure(node).await?;
        let make = Make { ephemeral: true, sequential: true };
        let path = registry.create(&node.child(prefix)?, data, make).await?;
        Ok(Self { registry: registry.clone(), path })
    }

    /// Where it is in the registry.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        &self.path
    }

    /// Waits until nobody is before it for whom it must wait.
    pub(super) async fn first(
        &self,
        deadline: Time,
        waits_for: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        let node = self.path.parent().unwrap_or_else(NodePath::root);
        loop {
            let names = self.registry.children(&node).await?;
            let mine = self.path.name();
            if !names.iter().any(|name| name == mine) {
                return Err(Error::Node { path: self.path.clone(), why: Refusal::NoNode });
            }
            let before = names
                .iter()
                .filter(|name| number(name) < number(mine) && waits_for(name))
                .max_by_key(|name| number(name));
            let Some(before) = before else { return Ok(()) };
            let before = node.child(before)?;
            let watch = self.registry.watch(&before, Scope::Node).await?;
            // It may have gone between the look and the watch.
            if self.registry.exists(&before).await?.is_some() {
                watch.next(deadline).await?;
            }
        }
    }

    /// Leaves the line.
    ///
    /// # Errors
    /// As any call; then the place stays until the session ends.
    pub async fn leave(self) -> Result<(), Error> {
        match self.registry.delete(&self.path, None).await {
            Err(Error::Node { why: Refusal::NoNode, .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
