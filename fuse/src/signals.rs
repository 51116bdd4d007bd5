//! Whether a process that waits for an answer was sent a signal meanwhile. The kernel would tell so by
//! FUSE_INTERRUPT, but the crate that speaks to it answers that request by itself; so whoever waits for
//! long looks at the process instead (`docs/decisions/0018-advisory-locks.md`).
//!
//! It does not know what the process waits for.

use std::time::Duration;

use world::World;

/// How soon a signal is noticed: at first, and once the process has waited for long.
const SOON: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(250);
/// How long a process may wait that cannot be looked at: one of another PID namespace.
const UNSEEN: Duration = Duration::from_secs(60);

/// A process whose request is under way.
pub struct Interrupted {
    world: World,
    /// Its thread; 0 if it has no number here.
    thread: u32,
}

impl Interrupted {
    pub(crate) fn new(world: &World, thread: u32) -> Self {
        Self { world: world.clone(), thread }
    }

    /// Ready when the process was sent a signal that it does not hold off, or is gone. One that
    /// cannot be looked at counts as interrupted after a minute, or nothing could end its wait.
    pub async fn wait(self) {
        if self.thread == 0 {
            return self.world.clock.sleep(UNSEEN).await;
        }
        let mut pause = SOON;
        while !is_signalled(self.thread) {
            self.world.clock.sleep(pause).await;
            pause = (pause * 2).min(LATER);
        }
    }
}

fn is_signalled(thread: u32) -> bool {
    // One that is gone needs no answer.
    std::fs::read_to_string(format!("/proc/{thread}/status"))
        .map_or(true, |status| pending(&status))
}

/// Whether a thread's status tells of a signal that is due.
fn pending(status: &str) -> bool {
    let mask = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default()
    };
    (mask("SigPnd:") | mask("ShdPnd:")) & !mask("SigBlk:") != 0
}

#[cfg(test)]
mod tests {
    use super::pending;

    fn status(own: &str, shared: &str, blocked: &str) -> String {
        format!("Name:\tx\nSigPnd:\t{own}\nShdPnd:\t{shared}\nSigBlk:\t{blocked}\nSigIgn:\tff\n")
    }

    #[test]
    fn a_signal_interrupts_unless_it_is_blocked() {
        assert!(!pending(&status("0", "0", "0")));
        assert!(pending(&status("0000000000000100", "0", "0")), "SIGKILL to the thread");
        assert!(pending(&status("0", "0000000000004000", "0")), "SIGTERM to the process");
        assert!(!pending(&status("0", "0000000000004000", "0000000000004000")));
    }

    #[test]
    fn a_process_that_is_gone_counts_as_interrupted() {
        assert!(super::is_signalled(u32::MAX));
        assert!(!super::is_signalled(std::process::id()));
    }
}
