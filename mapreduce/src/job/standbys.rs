//! The standbys of a job, as its coordinator sees them: which workers they are, how far they are, and that it waits for them.
//! What they do is not known here.

use std::time::Duration;

use super::drive::{Job, News};
use crate::{
    error::Error,
    failover::journal::Journal,
    proto,
    scheduler::{Event, WorkerNo},
};

/// How long a job waits for its first standby before it begins anything.
const FIRST_STANDBY: Duration = Duration::from_secs(2);
/// Workers that are asked to be standbys.
const STANDBYS: usize = 2;
/// A standby that has replayed so many bytes less than are durable holds the coordinator up.
const LAG: u64 = 1 << 20;

impl Job {
    /// Waits until there is a standby, for a while.
    pub(super) async fn await_first_standby(&mut self) -> Result<(), Error> {
        if !self.is_journalled() {
            return Ok(());
        }
        let durable = self.journal.as_ref().map_or(0, Journal::durable);
        let patience = self.world.clock.now() + FIRST_STANDBY;
        let mut answered = Vec::new();
        while self.state.followed.is_empty() {
            let Ok(Some(news)) = self.world.until(patience, self.inbox.recv()).await else {
                tracing::warn!("the job has no standby");
                break;
            };
            if let News::Event(Event::Joined { worker, .. }, _) = &news
                && !answered.contains(worker)
                && answered.len() < STANDBYS
            {
                answered.push(*worker);
                self.state.standbys.send_replace((answered.clone(), durable));
            }
            self.keep(news)?;
        }
        Ok(())
    }

    /// Keeps news for later, but for what a standby says of itself.
    fn keep(&mut self, mut news: News) -> Result<(), Error> {
        if let News::Pinged(worker, reply) = &mut news {
            self.note_followed(*worker, reply.followed.take())?;
        }
        self.state.backlog.push_back(news);
        Ok(())
    }

    /// Has enough workers follow the journal, as long as they are heard of.
    pub(super) fn choose_standbys(&mut self) {
        if !self.is_journalled() {
            return;
        }
        let scheduler = &self.machine.scheduler;
        let living: Vec<_> = scheduler.living().take(STANDBYS * 2).collect();
        let followed = &mut self.state.followed;
        self.state.standbys.send_if_modified(|(chosen, _)| {
            let before = chosen.clone();
            chosen.retain(|worker| scheduler.living().any(|living| living == *worker));
            followed.retain(|worker, _| chosen.contains(worker));
            for worker in living {
                if chosen.len() < STANDBYS && !chosen.contains(&worker) {
                    chosen.push(worker);
                }
            }
            *chosen != before
        });
    }

    pub(super) fn note_followed(
        &mut self,
        worker: WorkerNo,
        followed: Option<proto::Followed>,
    ) -> Result<(), Error> {
        let Some(followed) = followed else { return Ok(()) };
        if !followed.diverged.is_empty() {
            return Err(Error::Standby {
                place: self.machine.place(worker),
                reason: followed.diverged,
            });
        }
        if followed.term == self.term.0 {
            self.state.followed.insert(worker, followed.length);
        }
        Ok(())
    }

    /// How many bytes the slowest standby that follows is behind.
    fn lag(&self) -> u64 {
        let durable = self.journal.as_ref().map_or(0, Journal::durable);
        let least = self.state.followed.values().min().copied();
        least.map_or(0, |least| durable.saturating_sub(least))
    }

    /// Slows down for a standby that lags; one that does not catch up in time is no standby any more.
    pub(super) async fn wait_for_standbys(&mut self) -> Result<(), Error> {
        let patience = self.world.clock.now() + self.spec.silence;
        while self.lag() > LAG {
            match self.world.until(patience, self.inbox.recv()).await {
                Ok(Some(news)) => self.keep(news)?,
                Ok(None) => return Ok(()),
                Err(_) => {
                    let slow = self.state.followed.iter().min_by_key(|(_, length)| **length);
                    let Some(slow) = slow.map(|(worker, _)| *worker) else { return Ok(()) };
                    tracing::warn!(worker = self.machine.place(slow), "a standby is too slow");
                    self.state.followed.remove(&slow);
                    self.state.standbys.send_modify(|(chosen, _)| chosen.retain(|w| *w != slow));
                }
            }
        }
        Ok(())
    }
}
