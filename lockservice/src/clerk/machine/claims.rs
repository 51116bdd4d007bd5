//! Advisory locks in the machine of a clerk: what was claimed and is not answered yet. What is held
//! is the service's to know.

use std::collections::BTreeMap;

use super::{Effect, Machine};
use crate::{
    advisory::{Claim, Claimed, Patience},
    error::Error,
    message::{Ask, Ticket},
};

/// A claim that was not answered yet.
struct Open {
    claim: Claim,
    patience: Patience,
    /// It is no longer waited for; the answer says whether it came first.
    back: bool,
    /// Nobody is there to hear the answer.
    left: bool,
}

/// The claims of one clerk that were not answered yet.
#[derive(Default)]
pub(super) struct Claims(BTreeMap<Ticket, Open>);

impl Machine {
    /// Somebody claims an advisory lock.
    ///
    /// # Errors
    /// If the session is over, or about to be.
    pub fn claim(
        &mut self,
        claim: Claim,
        patience: Patience,
    ) -> Result<(Ticket, Vec<Effect>), Error> {
        if let Some(error) = self.over.clone().or(self.closing.then_some(Error::Closed)) {
            return Err(error);
        }
        let ticket = Ticket(self.fresh());
        self.claims.0.insert(ticket, Open { claim, patience, back: false, left: false });
        self.queue.push(Ask::Claim { ticket, claim, patience });
        Ok((ticket, vec![Effect::Send]))
    }

    /// A claim is not waited for any longer. It is answered all the same: it may have come first.
    pub fn take_back(&mut self, ticket: Ticket) -> Vec<Effect> {
        let Some(open) = self.claims.0.get_mut(&ticket) else { return Vec::new() };
        if !std::mem::replace(&mut open.back, true) && open.patience == Patience::Wait {
            self.queue.push(Ask::Cancel(ticket));
        }
        vec![Effect::Send]
    }

    /// Nobody waits for the answer to a claim any more: what it gets is given up.
    pub fn leave(&mut self, ticket: Ticket) -> Vec<Effect> {
        let effects = self.take_back(ticket);
        if let Some(open) = self.claims.0.get_mut(&ticket) {
            open.left = true;
        }
        effects
    }

    pub(super) fn claimed(&mut self, ticket: Ticket, claimed: Claimed) -> Vec<Effect> {
        let Some(Open { claim, patience, left, .. }) = self.claims.0.remove(&ticket) else {
            return Vec::new();
        };
        if !left {
            return vec![Effect::Claimed(ticket, Ok(claimed))];
        }
        let got = claimed == Claimed::Done && claim.mode.is_some() && patience != Patience::Test;
        if got && let Ok((ticket, effects)) = self.claim(Claim { mode: None, ..claim }, patience) {
            if let Some(open) = self.claims.0.get_mut(&ticket) {
                open.left = true;
            }
            return effects;
        }
        Vec::new()
    }

    /// A new stream begins. What is neither on its way nor waiting at the service was answered where
    /// nobody heard it: it is asked once more, which changes nothing that it did.
    pub(super) fn ask_again(&mut self, unasked: &[Ticket], waiting: &[Ticket]) -> Vec<Effect> {
        let lost =
            self.claims.0.iter().filter(|(t, _)| !unasked.contains(t) && !waiting.contains(t));
        let mut effects = Vec::new();
        for (&ticket, open) in lost {
            let patience = if open.back { Patience::Try } else { open.patience };
            self.queue.push(Ask::Claim { ticket, claim: open.claim, patience });
            effects = vec![Effect::Send];
        }
        effects
    }

    pub(super) fn end_claims(&mut self, error: &Error) -> Vec<Effect> {
        let claims = std::mem::take(&mut self.claims.0);
        claims.into_keys().map(|ticket| Effect::Claimed(ticket, Err(error.clone()))).collect()
    }
}
