//! A question of a clerk whose asker may go away before it is answered.

use std::sync::Arc;

use super::{Shared, State, machine::Effect};
use crate::message::Ticket;

/// Takes a question back when whoever asked is gone.
pub(super) struct Asked<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) ticket: Ticket,
    pub(super) take_back: fn(&mut State, Ticket) -> Vec<Effect>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let effects = (self.take_back)(&mut self.shared.state.lock(), self.ticket);
        self.shared.run(effects);
    }
}

impl State {
    pub(super) fn cancel(&mut self, ticket: Ticket) -> Vec<Effect> {
        self.answers.remove(&ticket);
        self.machine.cancel(ticket)
    }
}
