//! Reads that wait for proof that this leader still led when they were asked (thesis, section 6.4).
//!
//! One quorum round serves all reads that were waiting when it began; reads that come during a round wait for the next
//! one, since a round begun before a read proves nothing for it. This file counts rounds; it sends nothing.

use std::collections::VecDeque;

use crate::ids::{Index, Round, Ticket};

#[derive(Default)]
pub(crate) struct Reads {
    /// No round was begun for these.
    waiting: Vec<Ticket>,
    asked: Option<Batch>,
    /// Led by a quorum; what is missing is the state machine.
    confirmed: VecDeque<Batch>,
}

struct Batch {
    round: Round,
    index: Index,
    tickets: Vec<Ticket>,
}

impl Reads {
    pub(crate) fn add(&mut self, ticket: Ticket) {
        self.waiting.push(ticket);
    }

    /// Whether a round should begin.
    pub(crate) fn wants_round(&self) -> bool {
        self.asked.is_none() && !self.waiting.is_empty()
    }

    /// A round begins; the reads in it see what is committed now.
    pub(crate) fn begin(&mut self, round: Round, index: Index) {
        let tickets = std::mem::take(&mut self.waiting);
        self.asked = Some(Batch { round, index, tickets });
    }

    /// A quorum answered this round.
    pub(crate) fn confirm(&mut self, round: Round) {
        if let Some(batch) = self.asked.take_if(|batch| batch.round <= round) {
            self.confirmed.push_back(batch);
        }
    }

    /// The next read that may be answered, if the state machine is at `applied`.
    pub(crate) fn ready(&mut self, applied: Index) -> Option<(Index, Vec<Ticket>)> {
        let batch = self.confirmed.pop_front_if(|batch| batch.index <= applied)?;
        Some((batch.index, batch.tickets))
    }

    /// Every read that was not answered.
    pub(crate) fn abandon(self) -> impl Iterator<Item = Ticket> {
        let asked = self.asked.into_iter().flat_map(|b| b.tickets);
        self.confirmed.into_iter().flat_map(|b| b.tickets).chain(asked).chain(self.waiting)
    }
}
