//! Configuration of several nodes that readers see whole: a ready node is away while it changes.

use bytes::Bytes;
use world::Time;

use crate::{
    error::Error,
    registry::{Make, NodePath, Refusal, Registry, Scope},
};

/// Settings at a node, by name. One client writes them at a time (let it be elected).
pub struct Configuration {
    registry: Registry,
    node: NodePath,
}

impl Configuration {
    /// The settings at `node`.
    #[must_use]
    pub fn new(registry: &Registry, node: NodePath) -> Self {
        Self { registry: registry.clone(), node }
    }

    /// Replaces all settings. The calls are pipelined: no reader can see `ready` and a setting of
    /// the round before.
    ///
    /// # Errors
    /// As any call; then the settings are not ready, and writing them again mends that.
    pub async fn write(&self, settings: &[(String, Bytes)]) -> Result<(), Error> {
        let values = self.node.child("values")?;
        let ready = self.node.child("ready")?;
        self.registry.ensure(&values).await?;
        match self.registry.delete(&ready, None).await {
            Err(Error::Node { why: Refusal::NoNode, .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
        let mut calls = Vec::new();
        for name in self.registry.children(&values).await? {
            if !settings.iter().any(|(wanted, _)| *wanted == name) {
                self.registry.delete(&values.child(&name)?, None).await?;
            }
        }
        for (name, value) in settings {
            let path = values.child(name)?;
            let made = self.registry.create(&path, value.clone(), Make::default());
            calls.push((made, self.registry.set(&path, value.clone(), None)));
        }
        for (made, set) in calls {
            match made.await {
                Ok(_) | Err(Error::Node { why: Refusal::Exists, .. }) => {}
                Err(error) => return Err(error),
            }
            set.await?;
        }
        self.registry.create(&ready, Bytes::new(), Make::default()).await.map(|_| ())
    }

    /// Waits until there are settings that are whole, and reads them.
    ///
    /// # Errors
    /// [`Error::Deadline`] if there were none until then.
    pub async fn read(&self, deadline: Time) -> Result<Vec<(String, Bytes)>, Error> {
        let values = self.node.child("values")?;
        let ready = self.node.child("ready")?;
        let watch = self.registry.watch(&ready, Scope::Node).await?;
        loop {
            while watch.ready().is_some() {}
            let Some(begun) = self.registry.exists(&ready).await? else {
                watch.next(deadline).await?;
                continue;
            };
            let mut settings = Vec::new();
            for name in self.registry.children(&values).await? {
                if let Some(node) = self.registry.get(&values.child(&name)?).await? {
                    settings.push((name, node.data));
                }
            }
            // It is whole if the same ready node is still there: a change of it would have been
            // told of before any value of the next round was read.
            let ended = self.registry.exists(&ready).await?;
            if ended.is_some_and(|ended| ended.created == begun.created) {
                return Ok(settings);
            }
        }
    }
}
