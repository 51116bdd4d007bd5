//! An empty directory: the first start of a group, or a node that was emptied and has forgotten what
//! it promised. The two look alike from inside, so the others are asked.
//!
//! Such a node begins as one that is rebuilt: it receives, but neither votes nor counts. If no other
//! founder has ever been in a term, nobody has ever asked for a vote, so nothing was promised and
//! nothing committed: then it is a first start, and the node takes part at once. All of them must
//! be heard for that. Otherwise it stays as it is until the others have brought it up to date.

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
};

/// The first pause between two rounds of asking, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(200));
/// How long one node may be silent.
const SILENCE: Duration = Duration::from_secs(1);

/// Asks the other `founders` until this node takes part, by their word or because it was rebuilt.
pub(crate) async fn run<M: StateMachine>(
    world: World,
    shared: Weak<Shared<M>>,
    founders: Vec<NodeId>,
) {
    let mut pause = PAUSE.0;
    loop {
        let Some(shared) = shared.upgrade().filter(|shared| shared.is_blank()) else { return };
        if shared.all_are_new(&founders).await {
            if let Err(error) = shared.take_part(&founders).await {
                shared.stop(&error.to_string());
            }
            return;
        }
        drop(shared);
        world.clock.sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

impl<M: StateMachine> Shared<M> {
    /// Whether this node has promised nothing since it started, and waits to take part.
    fn is_blank(&self) -> bool {
        self.core.lock().is_blank()
    }

    /// Whether every other founder was heard, and has never been in a term.
    async fn all_are_new(&self, founders: &[NodeId]) -> bool {
        let deadline = self.world.clock.now() + SILENCE;
        let others = founders.iter().filter(|node| **node != self.config.me);
        let looks = others.map(|node| self.transport.peek(self.config.group, *node, deadline));
        let looks = futures_util::future::join_all(looks).await;
        looks.iter().all(|look| look.as_ref().is_some_and(|status| status.term == Term::ZERO))
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
    fn is_blank(&self) -> bool {
        let status = self.node.status();
        let nothing = status.term == Term::ZERO && status.last == Index::ZERO;
        status.rebuilding && nothing && self.stopped.is_none() && !self.paused
    }
}
