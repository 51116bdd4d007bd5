//! A node that has nothing, or not all that it had: the first start of a group, a node that joins, or one that was
//! emptied or damaged and has forgotten what it promised. They look alike from inside, so the others are asked.
//!
//! Such a node begins as one that is rebuilt: it receives, but neither votes nor counts, until the others have brought it
//! up to date. Two things can be known only by asking:
//! - If no other founder has ever been in a term, nobody has ever asked for a vote, so nothing was promised and nothing
//!   committed: then it is a first start, and the node takes part at once. *All* of them must be heard for that. A
//!   majority would not do: of three, one may be new, one emptied, and the third, which is away, may be all that remembers.
//! - If it is one of two voters, nobody can rebuild it, since without it there is no majority. It stops and says so, where
//!   it would else wait for ever.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use raft::{Event, HardState, Index, Node, Stored, Term};
use wire::NodeId;
use world::World;

use crate::{
    driver::{Core, Shared},
    error::Error,
    machine::StateMachine,
    runtime::Work,
    status::Status,
};

/// The first pause between two rounds of asking, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// How long one node may be silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Asks the others until this node takes part, by their word or because it was rebuilt, or never will. The group began with
/// these `founders`; with none if this node joins it.
pub(crate) async fn run<M: StateMachine>(
    world: World,
    shared: Weak<Shared<M>>,
    founders: Vec<NodeId>,
) {
    let mut pause = PAUSE.0;
    loop {
        let Some(shared) = shared.upgrade().filter(|shared| shared.core.lock().is_rebuilt()) else {
            return;
        };
        let looks = shared.others(&founders).await;
        let new = |look: &Option<Status>| look.as_ref().is_some_and(|s| s.term == Term::ZERO);
        if !founders.is_empty() && looks.iter().all(new) {
            if let Err(error) = shared.take_part(&founders).await {
                shared.stop(&error.to_string());
            }
        } else if let Some(other) = looks.iter().flatten().find(|look| shared.is_half_of(look)) {
            shared.stop(&format!(
                "what it stored of group {} is lost, and it is one of two voters, with node {}: without it there \
                 is no majority that could rebuild it; stop it, put a copy of its directory {} back, and start it",
                other.group,
                other.me,
                shared.runtime.dir().display(),
            ));
        }
        drop(shared);
        world.clock.sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

impl<M: StateMachine> Shared<M> {
    /// What every other founder, or whoever else is known, says of itself; `None` if it is silent.
    async fn others(&self, founders: &[NodeId]) -> Vec<Option<Status>> {
        let deadline = self.world.clock.now() + SILENCE;
        let known = if founders.is_empty() { &self.config.peers } else { founders };
        let others = known.iter().filter(|node| **node != self.config.me);
        let looks = others.map(|node| self.transport.peek(self.config.group, *node, deadline));
        futures_util::future::join_all(looks).await
    }

    /// Whether this node is one of two voters, as `other` knows the group. Nobody makes a voter of a node that is being
    /// rebuilt, so it was one before.
    fn is_half_of(&self, other: &Status) -> bool {
        other.term > Term::ZERO
            && other.voters.len() == 2
            && other.outgoing.is_empty()
            && other.voters.contains(&self.config.me)
    }

    /// Begins anew as a voter. What arrives meanwhile is lost, which the protocol bears.
    async fn take_part(self: &Arc<Self>, founders: &[NodeId]) -> Result<(), Error> {
        {
            let mut core = self.core.lock();
            if !core.is_blank() {
                return Ok(());
            }
            core.paused = true;
        }
        let (hard, voters) = (HardState::default(), founders.to_vec());
        let noted = |reply| Work::Found(voters, hard, reply);
        self.runtime.prepare(self.config.group, noted).await?;
        let settings = self.config.raft(founders);
        let node = Node::new(settings, self.world.dice.roll(), Stored::default())
            .map_err(|error| Error::Refused(error.to_string()))?;
        self.core.lock().replace(node);
        self.event(Event::Wake);
        Ok(())
    }
}

impl Core {
    /// Whether it waits to be rebuilt, or to be told that it need not be.
    fn is_rebuilt(&self) -> bool {
        self.node.status().rebuilding && self.stopped.is_none() && !self.paused
    }

    /// Whether it has promised nothing since it started.
    fn is_blank(&self) -> bool {
        let status = self.node.status();
        self.is_rebuilt() && status.term == Term::ZERO && status.last == Index::ZERO
    }
}
