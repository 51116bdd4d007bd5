//! Reads proven by a round of their own: before a quorum read is answered, a majority has heard the leader by messages
//! that it sent *after* the read was asked for (thesis, section 6.4).
//!
//! A read that joins a round already under way breaks this at once; that its answer is stale shows only after a rare
//! chain of delays. Reads by lease rest on clocks and are not judged here.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use ::raft::{Configuration, MemberId, ReadMode, Term, Ticket};

use super::{Invariant, Step, carried};

/// Terms that are remembered.
const TERMS: usize = 8;

#[derive(Debug)]
struct Led {
    term: Term,
    leader: MemberId,
    /// Every configuration that it had.
    groups: Vec<Arc<Configuration>>,
    /// The step in which the newest message was sent that a member took.
    heard: BTreeMap<MemberId, u64>,
}

/// Reads have rounds.
#[derive(Debug, Default)]
pub struct ReadRounds {
    /// The step in which each open quorum read was asked for.
    open: BTreeMap<Ticket, u64>,
    terms: VecDeque<Led>,
}

impl ReadRounds {
    fn led(&mut self, term: Term) -> Option<&mut Led> {
        self.terms.iter_mut().find(|led| led.term == term)
    }

    fn follow(&mut self, step: &Step<'_>) {
        if let Some(status) = step.leads() {
            if self.led(status.term).is_none() {
                self.terms.push_front(Led {
                    term: status.term,
                    leader: status.id,
                    groups: Vec::new(),
                    heard: BTreeMap::new(),
                });
                self.terms.truncate(TERMS);
            }
            if let Some(led) = self.led(status.term)
                && led.groups.last() != Some(&status.configuration)
            {
                led.groups.push(status.configuration.clone());
            }
        }
        if let Some(heard) = step.seen.heard
            && took(step, heard.term)
            && let Some(led) = self.led(heard.term)
        {
            let newest = led.heard.entry(step.id()).or_default();
            *newest = heard.sent.max(*newest);
        }
    }
}

/// Whether the member that moved took a message of this term. It may have crashed right after it answered.
fn took(step: &Step<'_>, term: Term) -> bool {
    match (step.status(), step.before) {
        (Some(status), _) => status.term == term,
        (None, Some(before)) => before.term <= term,
        (None, None) => false,
    }
}

impl Invariant for ReadRounds {
    fn name(&self) -> &'static str {
        "reads proven by a round of their own"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        self.follow(step);
        let quorum = step.seen.asked.iter().filter(|(_, mode)| *mode == ReadMode::Quorum);
        self.open.extend(quorum.map(|(ticket, _)| (*ticket, step.number)));
        let mut judged = false;
        for answer in &step.seen.answered {
            let Some(asked) = self.open.remove(&answer.ticket) else { continue };
            judged = true;
            let proven = self.terms.iter().any(|led| {
                let heard = |id: MemberId| {
                    id == led.leader || led.heard.get(&id).is_some_and(|sent| *sent >= asked)
                };
                led.groups.iter().any(|group| carried(group, heard))
            });
            if !proven {
                let (id, ticket) = (step.id(), answer.ticket);
                return Err(format!(
                    "{id:?} answered {ticket:?}, asked in step {asked}, with no majority heard since"
                ));
            }
        }
        for (ticket, _) in &step.seen.refused {
            self.open.remove(ticket);
        }
        Ok(judged)
    }
}
