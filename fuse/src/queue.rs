//! The queue in front of a notifier thread: one item per key, merged while it waits, each with
//! everybody who waits for it. What is done with an item is not known here.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

/// Items waiting for the thread that serves them.
pub(crate) struct Queue<K, V> {
    state: Mutex<State<K, V>>,
    changed: Condvar,
    limit: usize,
}

struct State<K, V> {
    items: BTreeMap<K, (V, Vec<oneshot::Sender<()>>)>,
    order: VecDeque<K>,
    /// Items being worked on.
    busy: usize,
    paused: bool,
    stopped: bool,
}

/// Nothing more is accepted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// As many keys wait as may.
    Full,
    /// The queue was stopped.
    Stopped,
}

impl<K: Ord + Clone, V> Queue<K, V> {
    pub(crate) fn new(limit: usize) -> Self {
        let state = State {
            items: BTreeMap::new(),
            order: VecDeque::new(),
            busy: 0,
            paused: false,
            stopped: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new(), limit }
    }

    /// Adds an item, or merges it into the one that waits under the same key. The receiver hears when
    /// the item is done, or is dropped when the queue is stopped.
    pub(crate) fn push(
        &self,
        key: &K,
        value: V,
        merge: impl FnOnce(&mut V, V),
    ) -> Result<oneshot::Receiver<()>, Refused> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.state.lock();
        if state.stopped {
            return Err(Refused::Stopped);
        }
        if let Some((waiting, senders)) = state.items.get_mut(key) {
            merge(waiting, value);
            senders.push(sender);
            return Ok(receiver);
        }
        if state.items.len() >= self.limit {
            return Err(Refused::Full);
        }
        state.items.insert(key.clone(), (value, vec![sender]));
        state.order.push_back(key.clone());
        self.changed.notify_all();
        Ok(receiver)
    }

    /// Takes items one after the other, oldest first, and does `work` on each, until the queue is stopped.
    /// Several threads may serve one queue.
    pub(crate) fn serve(&self, mut work: impl FnMut(&K, V)) {
        loop {
            let mut state = self.state.lock();
            let (key, value, senders) = loop {
                if state.stopped {
                    return;
                }
                if !state.paused
                    && let Some(key) = state.order.pop_front()
                    && let Some((value, senders)) = state.items.remove(&key)
                {
                    break (key, value, senders);
                }
                self.changed.wait(&mut state);
            };
            state.busy += 1;
            drop(state);
            work(&key, value);
            self.state.lock().busy -= 1;
            self.changed.notify_all();
            for sender in senders {
                // A waiter that has gone needs no answer.
                let _ = sender.send(());
            }
        }
    }

    /// Begins no more items until [`Queue::resume`], and waits for those in progress for at most `limit`.
    pub(crate) fn pause(&self, limit: std::time::Duration) {
        let mut state = self.state.lock();
        state.paused = true;
        if state.busy > 0 {
            self.changed.wait_while_for(&mut state, |state| state.busy > 0, limit);
        }
    }

    /// Goes on after [`Queue::pause`].
    pub(crate) fn resume(&self) {
        self.state.lock().paused = false;
        self.changed.notify_all();
    }

    /// Drops what waits and ends the serving thread after the items that they are at. Waits for those items for at most `limit`.
    pub(crate) fn stop(&self, limit: std::time::Duration) {
        let mut state = self.state.lock();
        state.stopped = true;
        state.items.clear();
        state.order.clear();
        self.changed.notify_all();
        if state.busy > 0 {
            self.changed.wait_while_for(&mut state, |state| state.busy > 0, limit);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{Queue, Refused};

    #[test]
    fn items_of_one_key_are_merged_and_all_who_wait_hear_of_it() {
        let queue = Arc::new(Queue::<u8, u32>::new(2));
        let first = queue.push(&7, 1, |old, new| *old += new).unwrap();
        let second = queue.push(&7, 10, |old, new| *old += new).unwrap();
        let third = queue.push(&8, 100, |old, new| *old += new).unwrap();
        assert_eq!(queue.push(&9, 1, |_, _| ()).unwrap_err(), Refused::Full);
        let mut seen = Vec::new();
        std::thread::scope(|scope| {
            let server = queue.clone();
            let seen = &mut seen;
            scope.spawn(move || server.serve(|key, value| seen.push((*key, value))));
            for waiter in [first, second, third] {
                waiter.blocking_recv().unwrap();
            }
            queue.stop(Duration::from_secs(1));
        });
        assert_eq!(seen, [(7, 11), (8, 100)]);
        assert_eq!(queue.push(&7, 1, |_, _| ()).unwrap_err(), Refused::Stopped);
    }
}
