//! The end of a session that its client wants: nothing more is asked for, all is given back, and what
//! it recovers it recovers to the end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use world::Time;

use super::{Shared, tasks};
use crate::{
    error::Error,
    name::{Name, Span},
};

impl Shared {
    /// Gives all up, ends what it recovers, and then the session.
    pub(super) async fn close(self: &Arc<Self>) -> Result<(), Error> {
        let all = Span::new(Name(0), Name(u64::MAX)).expect("it is not empty");
        let deadline = self.world.clock.now() + self.patience;
        // Twice: what the first time waits for may yet want something.
        match self.give_up(all).await {
            Err(Error::Closed) => return Ok(()),
            given_up => given_up?,
        }
        let effects = self.state.lock().machine.close();
        self.run(effects);
        let idle = async {
            loop {
                let changed = self.changed.notified();
                self.give_up(all).await?;
                if self.state.lock().machine.is_idle() {
                    return Ok(());
                }
                changed.await;
            }
        };
        let closed = match self.world.until(deadline, idle).await {
            Ok(Ok(())) => self.end_session(deadline).await,
            Ok(Err(Error::Closed)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Deadline),
        };
        self.end(Error::Closed);
        self.attached.send_replace(None);
        closed
    }

    /// Tells the service that the session ends, again and again while it still recovers another: a
    /// session that is gone is not fenced, so what it replays must have come to its end.
    async fn end_session(&self, deadline: Time) -> Result<(), Error> {
        loop {
            self.messages.fetch_add(1, Ordering::Relaxed);
            let now = self.world.clock.now();
            let unheard = now + self.patience.min(Duration::from_secs(10));
            let close = self.service.close(self.session, unheard);
            match self.world.until(unheard, close).await {
                // An earlier try may have got through.
                Ok(Ok(()) | Err(Error::Expired)) => return Ok(()),
                Ok(Err(Error::Recovering)) if now < deadline => {
                    self.world.clock.sleep(tasks::BACK_OFF).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(Error::Unreachable),
            }
        }
    }
}
