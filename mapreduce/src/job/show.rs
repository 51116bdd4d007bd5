//! What a running job tells of itself: progress for a line, a view for pages and for those who ask the workers. Who
//! looks is not known here.

use std::{sync::Arc, time::Duration};

use super::{Watch, drive::Job};
use crate::{
    counters::name,
    progress::{Attempt, Phase, Progress, View},
    scheduler::Task,
};

/// Rates that are remembered, one for each distance or a multiple of it.
const RATES: usize = 120;
/// Attempts that are shown.
const SHOWN: usize = 100;

impl Job {
    pub(super) fn progress(&self, phase: Phase) -> Progress {
        let scheduler = &self.machine.scheduler;
        let (maps, reduces) = scheduler.counts();
        let all = self.splits.len() as u32;
        let total: u64 = self.splits.iter().map(|split| split.bytes).sum();
        let counted = self.machine.counted().iter();
        let done = counted.filter(|(task, _)| matches!(task, Task::Map(_)));
        let done: u64 = done.map(|(_, counters)| counters.input_bytes()).sum();
        let reading: u64 = if maps == all { 0 } else { self.state.reading.values().sum() };
        let bytes = (done + reading).min(total);
        let now = self.now();
        let mapping = now.since(self.state.maps_began);
        let speed = (u128::from(bytes) * 1000 / mapping.as_millis().max(1)) as u64;
        let eta = (speed > 0 && maps < all).then(|| Duration::from_secs((total - bytes) / speed));
        let phase = match phase {
            Phase::Map if maps == all => Phase::Reduce,
            phase => phase,
        };
        let tally = scheduler.tally();
        Progress {
            phase,
            maps: (maps, all),
            reduces: (reduces, self.spec.reduces),
            bytes: (bytes, total),
            workers: scheduler.workers(),
            failures: tally.failures,
            backups: tally.backups,
            stragglers: scheduler.stragglers(now),
            elapsed: now.since(world::Time::ZERO),
            bytes_per_second: speed,
            eta,
        }
    }

    /// What others may want to know.
    pub(super) fn show(&mut self, phase: Phase, watch: &Watch) {
        let now = self.progress(phase);
        watch.progress.send_replace(now);
        self.rate(now.bytes.0);
        let mut attempts = self.machine.scheduler.running(self.now());
        attempts.truncate(SHOWN);
        let counters = self.machine.counters();
        let view = View {
            id: format!("{:016x}", self.id),
            name: self.spec.name.clone(),
            output: self.spec.output.clone(),
            skipped: counters.framework(name::SKIPPED),
            skips: self.machine.skips(),
            progress: now,
            counters,
            attempts: attempts
                .into_iter()
                .map(|(worker, task, attempt, thousandths, since)| Attempt {
                    task: task.to_string(),
                    attempt,
                    label: task.label(attempt),
                    worker: self.machine.place(worker),
                    thousandths,
                    since,
                })
                .collect(),
            failures: self.machine.failures().cloned().collect(),
            rates: self.state.rates.clone(),
            rate_every: self.state.rate_every,
        };
        self.state.view.send_replace(Arc::new(serde_json::to_vec(&view).unwrap_or_default()));
        watch.page.send_replace(view);
    }

    /// Notes how fast it goes; when there are many notes, two become one.
    fn rate(&mut self, bytes: u64) {
        let now = self.now();
        let (then, before) = self.state.rated;
        if now.since(then) < self.state.rate_every {
            return;
        }
        let millis = now.since(then).as_millis().max(1);
        self.state.rates.push((u128::from(bytes.saturating_sub(before)) * 1000 / millis) as u64);
        self.state.rated = (now, bytes);
        if self.state.rates.len() > RATES {
            let pairs = self.state.rates.chunks(2);
            self.state.rates =
                pairs.map(|two| two.iter().sum::<u64>() / two.len() as u64).collect();
            self.state.rate_every *= 2;
        }
    }
}
