//! Telling reduces that wait for maps where the output of those lies that were done since. What a reduce makes of it is not
//! known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use world::Task as Running;

use super::{
    attempt,
    drive::{Job, News},
};
use crate::{
    proto::FeedRequest,
    scheduler::{Task, WorkerNo},
};

/// Before one that was not there is told again.
const AGAIN: Duration = Duration::from_millis(20);

/// An attempt of a reduce, and where it runs.
pub(super) type Hungry = (WorkerNo, u32, u32);

/// The reduces that wait, and what there is for them.
#[derive(Default)]
pub(super) struct Feeds {
    /// Maps, in the order in which they were done; one that had to run again is in it again.
    done: Vec<u32>,
    waiting: BTreeMap<Hungry, Fed>,
}

/// Nobody is told anything when the job is dropped.
impl Drop for Feeds {
    fn drop(&mut self) {
        let tasks = self.waiting.values().filter_map(|fed| fed.task.as_ref());
        tasks.for_each(Running::abort);
    }
}

/// How much of it an attempt was told.
#[derive(Default)]
struct Fed {
    /// Of [`Feeds::done`].
    told: usize,
    /// Until how far it is being told now.
    telling: Option<usize>,
    /// What tells it, or did last.
    task: Option<Running>,
}

impl Feeds {
    /// A map is done.
    pub(super) fn note(&mut self, map: u32) {
        self.done.push(map);
    }

    /// An attempt begins that was told of all that is done now.
    pub(super) fn wait(&mut self, hungry: Hungry) {
        let told = self.done.len();
        self.waiting.insert(hungry, Fed { told, ..Fed::default() });
    }

    /// An attempt was told, or was not: then it is tried again.
    pub(super) fn heard(&mut self, hungry: Hungry, taken: bool, complete: bool) {
        if taken && complete {
            self.waiting.remove(&hungry);
        } else if let Some(fed) = self.waiting.get_mut(&hungry)
            && let Some(told) = fed.telling.take()
            && taken
        {
            fed.told = told;
        }
    }
}

impl Job {
    /// Tells those that wait what they do not know yet; at once when it is the last, else with the next tick.
    pub(super) fn feed(&mut self, tick: bool) {
        let complete = self.machine.scheduler.are_maps_done();
        if !complete && !tick {
            return;
        }
        let scheduler = &self.machine.scheduler;
        let runs = |(worker, reduce, attempt): &Hungry| {
            scheduler.is_running(*worker, (Task::Reduce(*reduce), *attempt))
        };
        self.state.feeds.waiting.retain(|hungry, _| runs(hungry));
        let until = self.state.feeds.done.len();
        let is_due = |fed: &Fed| fed.telling.is_none() && (complete || fed.told < until);
        let waiting = &mut self.state.feeds.waiting;
        let due: Vec<_> = waiting
            .iter_mut()
            .filter(|(_, fed)| is_due(fed))
            .map(|(hungry, fed)| {
                fed.telling = Some(until);
                (*hungry, fed.told)
            })
            .collect();
        for (hungry, told) in due {
            let new: BTreeSet<_> = self.state.feeds.done[told..until].iter().copied().collect();
            self.tell_one(hungry, &new, complete);
        }
    }

    fn tell_one(&mut self, hungry: Hungry, new: &BTreeSet<u32>, complete: bool) {
        let (worker, reduce, attempt) = hungry;
        let sources = self.machine.scheduler.sources_of(new.iter().copied(), reduce);
        let sources = attempt::sources(self, sources);
        let (job, term) = (self.id, self.term.0);
        let request = FeedRequest { job, term, reduce, attempt, sources, complete };
        let (service, news, world) = (self.service(worker), self.news(), self.world.clone());
        let task = self.world.spawn("job-feed", async move {
            let taken = match service {
                Ok(service) => service.feed(request).await.is_ok_and(|reply| reply.taken),
                Err(_) => false,
            };
            if !taken {
                world.clock.sleep(AGAIN).await;
            }
            // The job may be over already.
            let _ = news.send(News::Fed { hungry, taken, complete }).await;
        });
        if let Some(fed) = self.state.feeds.waiting.get_mut(&hungry) {
            fed.task = Some(task);
        }
    }
}
