//! Messages on their way to one peer, and the moments at which they leave together.
//!
//! A thread that deals with many events at one moment (the beat of all groups, a parcel that arrived) holds back what can
//! wait until it is done with them. So a beat of a hundred groups is one parcel to each peer and one wake-up of its stream,
//! and so are the answers, where each message would else be on its way before the next is made. Queues are bounded and drop
//! when full. What messages say is not known here.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;

use crate::mesh::proto::{Envelope, Parcel};

/// Messages that may wait for one peer.
const WAITING: usize = 4096;
/// Messages, and bytes of them, that travel together.
const TOGETHER: usize = 512;
const TOGETHER_BYTES: usize = 1 << 20;

thread_local! {
    /// How many [`Together`] this thread has begun and not ended.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
    /// What it holds back, by peer.
    static HELD: RefCell<Vec<(Arc<Line>, Vec<Envelope>)>> = const { RefCell::new(Vec::new()) };
}

/// The messages that wait for one peer.
#[derive(Default)]
pub(crate) struct Line {
    waiting: Mutex<VecDeque<Envelope>>,
    more: AtomicWaker,
    closed: AtomicBool,
}

impl Line {
    /// Queues a message. One that `can_wait` leaves when the last [`Together`] of this thread ends, perhaps after messages
    /// that were queued later.
    pub(crate) fn send(self: &Arc<Self>, envelope: Envelope, can_wait: bool) {
        if !can_wait || DEPTH.get() == 0 {
            return self.push([envelope]);
        }
        HELD.with_borrow_mut(|held| {
            match held.iter_mut().find(|(line, _)| Arc::ptr_eq(line, self)) {
                Some((_, envelopes)) => envelopes.push(envelope),
                None => held.push((self.clone(), vec![envelope])),
            }
        });
    }

    fn push(&self, envelopes: impl IntoIterator<Item = Envelope>) {
        {
            let mut waiting = self.waiting.lock();
            // Full: lost, which the protocol bears.
            let room = WAITING.saturating_sub(waiting.len());
            waiting.extend(envelopes.into_iter().take(room));
        }
        self.more.wake();
    }

    /// What waits, together; `None` at the end.
    pub(crate) fn poll(&self, context: &Context<'_>) -> Poll<Option<Parcel>> {
        self.more.register(context.waker());
        match self.take() {
            Some(parcel) => Poll::Ready(Some(parcel)),
            None if self.is_closed() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn take(&self) -> Option<Parcel> {
        let mut waiting = self.waiting.lock();
        let mut bytes = 0;
        let fits = |envelope: &&Envelope| {
            let first = bytes == 0;
            bytes += envelope.message.len();
            first || bytes < TOGETHER_BYTES
        };
        let count = waiting.iter().take(TOGETHER).take_while(fits).count();
        let envelopes: Vec<Envelope> = waiting.drain(..count).collect();
        (!envelopes.is_empty()).then_some(Parcel { envelopes })
    }

    /// Forgets what waits.
    pub(crate) fn clear(&self) {
        self.waiting.lock().clear();
    }

    /// Nothing is sent any more.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.more.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}

/// While it lives, messages of this thread that can wait are held back; at its end they leave.
pub(crate) struct Together(PhantomData<*const ()>);

impl Together {
    pub(crate) fn begin() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self(PhantomData)
    }
}

impl Drop for Together {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
        if DEPTH.get() == 0 {
            for (line, envelopes) in HELD.take() {
                line.push(envelopes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(group: u64, bytes: usize) -> Envelope {
        Envelope { group, message: vec![0; bytes].into() }
    }

    fn parcel(line: &Line) -> Option<Vec<u64>> {
        let context = Context::from_waker(std::task::Waker::noop());
        match line.poll(&context) {
            Poll::Ready(Some(Parcel { envelopes })) => {
                Some(envelopes.iter().map(|envelope| envelope.group).collect())
            }
            Poll::Ready(None) => panic!("it is closed"),
            Poll::Pending => None,
        }
    }

    #[test]
    fn what_can_wait_leaves_together_when_the_outermost_moment_ends() {
        let line = Arc::new(Line::default());
        let outer = Together::begin();
        line.send(envelope(1, 10), true);
        {
            let _inner = Together::begin();
            line.send(envelope(2, 10), true);
        }
        assert_eq!(parcel(&line), None);
        line.send(envelope(3, 10), false);
        assert_eq!(parcel(&line), Some(vec![3]), "it could not wait");
        drop(outer);
        assert_eq!(parcel(&line), Some(vec![1, 2]));
        line.send(envelope(4, 10), true);
        assert_eq!(parcel(&line), Some(vec![4]));
    }

    #[test]
    fn parcels_and_queues_are_bounded() {
        let line = Arc::new(Line::default());
        for bytes in [TOGETHER_BYTES / 2, TOGETHER_BYTES / 3, TOGETHER_BYTES, TOGETHER_BYTES * 2, 1]
        {
            line.send(envelope(bytes as u64, bytes), true);
        }
        let lengths = std::iter::from_fn(|| parcel(&line)).map(|groups| groups.len());
        assert_eq!(lengths.collect::<Vec<_>>(), [2, 1, 1, 1]);
        for group in 0..WAITING as u64 + 10 {
            line.send(envelope(group, 1), true);
        }
        let all: Vec<Vec<u64>> = std::iter::from_fn(|| parcel(&line)).collect();
        assert!(all.iter().all(|groups| groups.len() == TOGETHER));
        assert_eq!(all.concat(), (0..WAITING as u64).collect::<Vec<_>>());
    }
}
