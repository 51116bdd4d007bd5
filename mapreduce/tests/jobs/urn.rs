//! An election in memory: whoever stood first leads, until its session ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use mapreduce::{Ballots, Candidacy, Error, Term};
use parking_lot::Mutex;
use tokio::sync::Notify;
use world::World;

#[derive(Default)]
struct State {
    last: u64,
    /// Term and session of those that stand.
    standing: BTreeMap<u64, u64>,
}

/// Where it is counted; for one job.
#[derive(Default)]
pub(crate) struct Urn {
    state: Mutex<State>,
    changed: Notify,
}

impl Urn {
    /// Ballots in the name of a session.
    pub(crate) fn voter(self: &Arc<Self>, world: &World, session: u64) -> Arc<dyn Ballots> {
        Arc::new(Voter { urn: self.clone(), world: world.clone(), session })
    }

    /// A session ends, and all that it stood for.
    pub(crate) fn end(&self, session: u64) {
        self.state.lock().standing.retain(|_, of| *of != session);
        self.changed.notify_waiters();
    }

    /// How many stand.
    pub(crate) fn standing(&self) -> usize {
        self.state.lock().standing.len()
    }
}

struct Voter {
    urn: Arc<Urn>,
    world: World,
    session: u64,
}

#[async_trait]
impl Ballots for Voter {
    async fn stand(&self, _: u64, _: &str) -> Result<Box<dyn Candidacy>, Error> {
        let mut state = self.urn.state.lock();
        state.last += 1;
        let term = state.last;
        state.standing.insert(term, self.session);
        Ok(Box::new(Standing { urn: self.urn.clone(), world: self.world.clone(), term }))
    }
}

struct Standing {
    urn: Arc<Urn>,
    world: World,
    term: u64,
}

#[async_trait]
impl Candidacy for Standing {
    fn term(&self) -> Term {
        Term(self.term)
    }

    async fn lead(&self, patience: Duration) -> Result<bool, Error> {
        let deadline = self.world.clock.now() + patience;
        loop {
            let changed = self.urn.changed.notified();
            {
                let state = self.urn.state.lock();
                if !state.standing.contains_key(&self.term) {
                    return Err(Error::Election("it stands no more".to_owned()));
                }
                if state.standing.keys().next() == Some(&self.term) {
                    return Ok(true);
                }
            }
            if self.world.until(deadline, changed).await.is_err() {
                return Ok(false);
            }
        }
    }

    async fn resign(self: Box<Self>) {
        self.urn.state.lock().standing.remove(&self.term);
        self.urn.changed.notify_waiters();
    }
}
