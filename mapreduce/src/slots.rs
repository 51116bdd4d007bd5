//! The slots of a worker, shared fairly by jobs: whoever waits longest among those that had the least for their
//! priority comes next (stride scheduling, Waldspurger and Weihl, 1995). What runs in a slot is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// What a slot costs a job of weight 1.
const STRIDE: u64 = 1 << 20;

#[derive(Default)]
struct Queue {
    /// What the job has had, for its weight.
    pass: u64,
    weight: u32,
    waiting: VecDeque<oneshot::Sender<Slot>>,
    holding: u32,
}

struct State {
    free: u32,
    /// The pass of the job that was served last: jobs that come begin there.
    now: u64,
    jobs: BTreeMap<u64, Queue>,
}

/// The slots.
#[derive(Clone)]
pub(crate) struct Slots(Arc<Mutex<State>>);

/// One of them; given back when dropped.
pub(crate) struct Slot {
    slots: Slots,
    job: u64,
}

impl Slots {
    pub(crate) fn new(count: u32) -> Self {
        Self(Arc::new(Mutex::new(State { free: count, now: 0, jobs: BTreeMap::new() })))
    }

    /// Waits for a slot. A job of weight 2 gets twice as many as one of weight 1 while both wait.
    pub(crate) async fn take(&self, job: u64, weight: u32) -> Slot {
        loop {
            let turn = {
                let mut state = self.0.lock();
                let now = state.now;
                let queue = state.jobs.entry(job).or_default();
                if queue.waiting.is_empty() && queue.holding == 0 {
                    queue.pass = queue.pass.max(now);
                }
                queue.weight = weight.max(1);
                let (sender, turn) = oneshot::channel();
                queue.waiting.push_back(sender);
                turn
            };
            self.serve();
            // The sender is dropped only with the queue, which waits for this very turn.
            if let Ok(slot) = turn.await {
                return slot;
            }
        }
    }

    /// Gives free slots to those whose turn it is.
    fn serve(&self) {
        loop {
            let mut state = self.0.lock();
            if state.free == 0 {
                return;
            }
            let next = state.jobs.iter().filter(|(_, queue)| !queue.waiting.is_empty());
            let next = next.min_by_key(|(_, queue)| queue.pass).map(|(job, _)| *job);
            let Some(job) = next else { return };
            let Some(queue) = state.jobs.get_mut(&job) else { return };
            let Some(turn) = queue.waiting.pop_front() else { return };
            if turn.is_closed() {
                // Whoever waited has given up.
                continue;
            }
            let pass = queue.pass;
            queue.pass += STRIDE / u64::from(queue.weight);
            queue.holding += 1;
            state.now = state.now.max(pass);
            state.free -= 1;
            drop(state);
            // One that is not wanted any more comes back by itself.
            let _ = turn.send(Slot { slots: self.clone(), job });
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        {
            let mut state = self.slots.0.lock();
            state.free += 1;
            if let Some(queue) = state.jobs.get_mut(&self.job) {
                queue.holding -= 1;
                if queue.holding == 0 && queue.waiting.is_empty() {
                    state.jobs.remove(&self.job);
                }
            }
        }
        self.slots.serve();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::Slots;

    /// Serves 60 times while every job always waits; tells how often each was served.
    fn shares(weights: &[u32]) -> Vec<u32> {
        let slots = Slots::new(1);
        let mut held = slots.take(99, 1).now_or_never();
        let mut waiting: Vec<_> =
            (0..weights.len()).map(|job| Box::pin(slots.take(job as u64, weights[job]))).collect();
        for turn in &mut waiting {
            assert!(turn.as_mut().now_or_never().is_none());
        }
        let mut served = vec![0; weights.len()];
        for _ in 0..60 {
            drop(held.take());
            for job in 0..weights.len() {
                if let Some(slot) = waiting[job].as_mut().now_or_never() {
                    served[job] += 1;
                    held = Some(slot);
                    waiting[job] = Box::pin(slots.take(job as u64, weights[job]));
                    assert!(waiting[job].as_mut().now_or_never().is_none());
                    break;
                }
            }
        }
        served
    }

    #[test]
    fn equal_jobs_share_equally_and_others_by_their_weight() {
        assert_eq!(shares(&[1, 1, 1]), [20, 20, 20]);
        assert_eq!(shares(&[4, 2]), [40, 20]);
    }

    #[test]
    fn a_slot_that_nobody_wants_any_more_goes_to_the_next() {
        let slots = Slots::new(1);
        let held = slots.take(1, 1).now_or_never().unwrap();
        let mut gone = Box::pin(slots.take(1, 1));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut next = Box::pin(slots.take(2, 1));
        assert!(next.as_mut().now_or_never().is_none());
        drop(gone);
        drop(held);
        assert!(next.as_mut().now_or_never().is_some());
    }
}
