//! Windows: the short stretches in which an answer is computed and sent.
//!
//! An answer that was computed before a lock was given up must not reach the kernel after the
//! kernel was told to forget. So each poll of an operation, together with the reply that follows it, is
//! a window, and an invalidation first waits until the windows that were open when it began are
//! closed. What is computed in a window is not known here.

use parking_lot::{Condvar, Mutex};

#[derive(Default)]
pub(crate) struct Windows {
    state: Mutex<State>,
    closed: Condvar,
    /// One invalidation flips the phase at a time.
    turn: Mutex<()>,
}

#[derive(Default)]
struct State {
    phase: usize,
    open: [u64; 2],
}

/// An open window; dropping it closes it.
pub(crate) struct Window<'a> {
    windows: &'a Windows,
    phase: usize,
}

impl Windows {
    pub(crate) fn open(&self) -> Window<'_> {
        let mut state = self.state.lock();
        let phase = state.phase;
        state.open[phase] += 1;
        Window { windows: self, phase }
    }

    /// Blocks until every window that is open now is closed. Windows are bounded by one poll and one
    /// reply, neither of which waits for anybody, so this has no deadline of its own.
    pub(crate) fn pass(&self) {
        let _turn = self.turn.lock();
        let mut state = self.state.lock();
        let before = state.phase;
        if state.open == [0, 0] {
            return;
        }
        state.phase = 1 - before;
        while state.open[before] > 0 {
            self.closed.wait(&mut state);
        }
    }
}

impl Drop for Window<'_> {
    fn drop(&mut self) {
        let mut state = self.windows.state.lock();
        state.open[self.phase] -= 1;
        if state.open[self.phase] == 0 && state.phase != self.phase {
            self.windows.closed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use super::Windows;

    #[test]
    fn passing_waits_for_the_windows_open_before_it_and_not_for_later_ones() {
        let windows = Arc::new(Windows::default());
        let closed = Arc::new(AtomicBool::new(false));
        let early = windows.open();
        std::thread::scope(|scope| {
            let passer = {
                let (windows, closed) = (windows.clone(), closed.clone());
                scope.spawn(move || {
                    windows.pass();
                    assert!(closed.load(Ordering::SeqCst), "passed while an early window was open");
                })
            };
            // The pass has begun when new windows open in the other phase.
            let late = loop {
                let window = windows.open();
                if window.phase != early.phase {
                    break window;
                }
                std::thread::yield_now();
            };
            closed.store(true, Ordering::SeqCst);
            drop(early);
            passer.join().expect("the pass ends while a late window is open");
            drop(late);
        });
    }

    #[test]
    fn passing_with_no_window_open_returns_at_once() {
        Windows::default().pass();
    }
}
