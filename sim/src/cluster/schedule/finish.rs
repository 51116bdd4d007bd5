//! The end of a schedule: a new client finds every file, the volume is whole, and the histories are judged.

use std::sync::Arc;

use parking_lot::Mutex;

use super::Schedule;
use crate::Error;
use crate::cluster::check::{atomic, latest, synced, whole};
use crate::wgl::Verdict;

impl Schedule {
    /// Looks at everything once more, on a client of its own, then judges.
    pub(super) fn finish(&mut self) -> Result<(), Error> {
        let (client, mount) = self.begin_client();
        let ended = Arc::new(Mutex::new(None));
        let last = self.worker(client, &mount).look_at_all(Arc::clone(&ended));
        mount.world.spawn("last", last);
        self.lives.push((client, mount));
        self.until("a new client has seen every file", |_| ended.lock().is_some())?;
        let seen = ended.lock().take();
        if let Some(Err(error)) = seen {
            return Err(self.stuck(format!("the last client: {error}")));
        }
        self.close_all()?;
        self.check_volume()?;
        self.judge_histories()
    }

    fn judge_histories(&mut self) -> Result<(), Error> {
        let (history, steps) = {
            let mut notes = self.notes.lock();
            (notes.history(), notes.steps())
        };
        for (name, judge) in
            [(latest::NAME, latest::judge as fn(&[_]) -> _), (synced::NAME, synced::judge)]
        {
            self.judge(name);
            match judge(&history) {
                Verdict::Linearizable { .. } => {}
                Verdict::Violated { report } => return Err(self.violated(name, report)),
                Verdict::Exhausted { key } => {
                    let given_up = format!("the search for an order was given up: {key}");
                    return Err(self.stuck(given_up));
                }
            }
        }
        match atomic::judge(&steps) {
            Verdict::Linearizable { .. } => {
                self.judge(atomic::NAME);
                Ok(())
            }
            Verdict::Violated { report } => Err(self.violated(atomic::NAME, report)),
            // Too many answers are missing: nothing was judged, and the report counts what was.
            Verdict::Exhausted { .. } => Ok(()),
        }
    }

    /// Unmounts everywhere.
    fn close_all(&mut self) -> Result<(), Error> {
        let left = Arc::new(Mutex::new(self.lives.len()));
        for (client, mount) in &self.lives {
            let (left, slot) = (Arc::clone(&left), Arc::clone(&mount.running));
            let (notes, clock, client) =
                (Arc::clone(&self.notes), Arc::clone(&self.clock), *client);
            mount.world.spawn("close", async move {
                let running = slot.lock().take();
                if let Some(running) = running
                    && let Err(error) = running.view.fs.close().await
                {
                    // One whose lease was lost meanwhile cannot be closed cleanly, and need not.
                    let now = clock.now().as_duration();
                    let mut notes = notes.lock();
                    notes.say(now, || format!("client {client}: close: {error}"));
                    notes.gone(client);
                }
                *left.lock() -= 1;
            });
        }
        self.until("every client is unmounted", |_| *left.lock() == 0)
    }

    /// F2: the volume needs no repair.
    fn check_volume(&mut self) -> Result<(), Error> {
        let found = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&found);
        self.with_disk(|_, disk| async move {
            *slot.lock() = Some(whole::damage(disk).await);
        });
        self.until("the volume is checked", |_| found.lock().is_some())?;
        self.judge(whole::NAME);
        let damage = found.lock().take().flatten();
        damage.map_or(Ok(()), |damage| Err(self.violated(whole::NAME, damage)))
    }
}
