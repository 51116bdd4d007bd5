//! Advisory locks at the shell of a clerk: who asks waits for the answer, and may take the question
//! back.

use std::{future::Future, pin::pin, sync::Arc};

use futures_util::future::{Either, select};
use tokio::sync::oneshot;

use super::{Effect, Shared, State, asked::Asked};
use crate::{
    advisory::{Claim, Claimed, Patience},
    error::Error,
    message::Ticket,
};

impl State {
    fn leave(&mut self, ticket: Ticket) -> Vec<Effect> {
        self.claims.remove(&ticket);
        self.machine.leave(ticket)
    }
}

impl Shared {
    /// Claims, and waits for the answer: for other holders without end until `back` is ready, and from
    /// then on, as for all that does not wait for them, until the service's patience is at its end.
    pub(super) async fn claim(
        self: &Arc<Self>,
        claim: Claim,
        patience: Patience,
        back: impl Future<Output = ()> + Send,
    ) -> Result<Claimed, Error> {
        if !self.awake() {
            return Err(self.over().unwrap_or(Error::Expired));
        }
        let (sender, mut receiver) = oneshot::channel();
        let (ticket, effects) = {
            let mut state = self.state.lock();
            let (ticket, effects) = state.machine.claim(claim, patience)?;
            state.claims.insert(ticket, sender);
            (ticket, effects)
        };
        self.run(effects);
        let _asked = Asked { shared: self, ticket, take_back: State::leave };
        let closed = |_| Err(Error::Closed);
        if patience == Patience::Wait {
            match select(&mut receiver, pin!(back)).await {
                Either::Left((answer, _)) => return answer.unwrap_or_else(closed),
                Either::Right(((), _)) => {
                    let effects = self.state.lock().machine.take_back(ticket);
                    self.run(effects);
                }
            }
        }
        let deadline = self.world.clock.now() + self.patience;
        match self.world.until(deadline, receiver).await {
            Ok(answer) => answer.unwrap_or_else(closed),
            Err(_) => Err(Error::Unreachable),
        }
    }
}
