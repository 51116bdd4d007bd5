//! Who is known to the registry: mounts and workers register there for as long as their session lives,
//! and `plumeria status` lists them.

use std::time::Duration;

use lockservice::{
    Registry,
    registry::{Answers, NodePath, Question, Revision, What, recipes::Members},
};
use serde_json::{Value, json};
use wire::Role;
use world::{Time, World};

use crate::{
    config::Client,
    failure::{Kind, OrFail as _, Outcome},
    role::Remote,
};

/// The node below which mounts register, by session.
pub(crate) const MOUNTS: &str = "/mounts";
/// The node below which workers register, by node id.
pub(crate) const WORKERS: &str = "/workers";

/// Questions of one call.
const BATCH: usize = 64;

/// Makes a client of this process known below `group` until the session of `registry` ends. It goes
/// on without: nothing but the lists for people depends on it.
pub(crate) async fn register(
    world: &World,
    registry: &Registry,
    (group, name): (&str, &str),
    mut about: Value,
) {
    about["host"] = Value::from(rustix::system::uname().nodename().to_string_lossy());
    about["pid"] = Value::from(std::process::id());
    about["since"] = Value::from(world.clock.wall().seconds);
    let join = async {
        let members = Members::new(registry, NodePath::new(group)?);
        members.join(name, about.to_string()).await
    };
    if let Err(error) = join.await {
        tracing::warn!(%error, group, name, "this client is not in the registry");
    }
}

/// A client as the registry knows it.
pub(crate) struct Known {
    pub(crate) node: String,
    about: Value,
}

impl Known {
    /// Node, host, process, and what distinguishes it.
    pub(crate) fn cells(&self) -> Vec<String> {
        let word = |key: &str| match &self.about[key] {
            Value::String(text) => text.clone(),
            Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        vec![self.node.clone(), word("host"), word("pid"), word("what")]
    }

    pub(crate) fn json(&self) -> Value {
        json!({ "node": self.node, "about": self.about })
    }
}

/// Everybody who is registered.
pub(crate) async fn registered(
    world: &World,
    client: &Client,
    timeout: Duration,
) -> Outcome<Vec<Known>> {
    let locks = Remote::new(world, client, Role::Tool, 0)?.access(world).locks;
    let deadline = world.clock.now() + timeout;
    let read = read(&*locks, deadline);
    read.await.or_fail(Kind::Unreachable, || "the registry does not answer".to_owned())
}

async fn read(
    store: &dyn lockservice::Service,
    deadline: Time,
) -> Result<Vec<Known>, lockservice::Error> {
    // What was registered before this began is seen.
    let mut seen = store.sync(deadline).await?;
    let mut paths = Vec::new();
    for group in [MOUNTS, WORKERS] {
        let group = NodePath::new(group)?;
        let answers = ask(store, &[(group.clone(), What::Children)], &mut seen, deadline).await?;
        for name in answers.results.into_iter().flatten().flat_map(|node| node.children) {
            paths.push(group.child(&name)?);
        }
    }
    let mut known = Vec::new();
    for batch in paths.chunks(BATCH) {
        let data: Vec<_> = batch.iter().map(|path| (path.clone(), What::Data)).collect();
        let answers = ask(store, &data, &mut seen, deadline).await?;
        for (path, node) in batch.iter().zip(answers.results) {
            // It may have gone meanwhile.
            let Ok(node) = node else { continue };
            let about = serde_json::from_slice(&node.data).unwrap_or_default();
            known.push(Known { node: path.to_string(), about });
        }
    }
    Ok(known)
}

async fn ask(
    store: &dyn lockservice::Service,
    what: &[(NodePath, What)],
    seen: &mut Revision,
    deadline: Time,
) -> Result<Answers, lockservice::Error> {
    let question = |(path, what): &(NodePath, What)| Question {
        path: path.clone(),
        what: *what,
        version: None,
    };
    let questions: Vec<Question> = what.iter().map(question).collect();
    let answers = store.read(&questions, *seen, deadline).await?;
    *seen = answers.revision;
    Ok(answers)
}
