//! The sequences that a chain has seen, so that a retry happens once: per writer, from its floor on.
//! Pure. What the mutations were is not known here.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    bug::{self, Bug},
    disk::Fence,
    message::{Seen, Ticket, Writer},
    place::{Order, Sequence},
};

/// Writers that a chain remembers; beyond it, the ones whose last mutation is oldest and has an
/// answer are forgotten. Far more than there are mounts.
const WRITERS: usize = 4096;

#[derive(Default)]
struct Record {
    floor: Sequence,
    done: BTreeSet<Sequence>,
    ordered: BTreeMap<Sequence, Order>,
    touched: u64,
}

/// What is known of a ticket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Known {
    /// Nothing: it is new.
    New,
    /// It is on its way, under this order.
    Ordered(Order),
    /// It was done.
    Done,
    /// It is below the floor: answered before.
    Below,
}

/// The table of a chain.
#[derive(Default)]
pub(crate) struct SeenTable {
    writers: BTreeMap<Writer, Record>,
    clock: u64,
}

impl SeenTable {
    /// Looks a ticket up, and raises the writer's floor.
    pub(crate) fn look(&mut self, ticket: &Ticket) -> Known {
        self.clock += 1;
        let clock = self.clock;
        let record = self.writers.entry(ticket.writer).or_default();
        record.touched = clock;
        record.raise(ticket.floor);
        let known = if bug::on(Bug::ForgetSequences) {
            Known::New
        } else if ticket.sequence < record.floor {
            Known::Below
        } else if let Some(order) = record.ordered.get(&ticket.sequence) {
            Known::Ordered(*order)
        } else if record.done.contains(&ticket.sequence) {
            Known::Done
        } else {
            Known::New
        };
        self.prune();
        known
    }

    /// The mutation has an order now.
    pub(crate) fn ordered(&mut self, ticket: &Ticket, order: Order) {
        self.look(ticket);
        let record = self.writers.entry(ticket.writer).or_default();
        record.ordered.insert(ticket.sequence, order);
    }

    /// The mutation is complete.
    pub(crate) fn done(&mut self, ticket: &Ticket) {
        if let Some(record) = self.writers.get_mut(&ticket.writer)
            && record.ordered.remove(&ticket.sequence).is_some()
            && ticket.sequence >= record.floor
        {
            record.done.insert(ticket.sequence);
        }
    }

    /// A fenced session needs no memory: it is refused.
    pub(crate) fn drop_session(&mut self, session: Fence) {
        self.writers.retain(|writer, _| writer.session != session);
    }

    /// What another member of the chain must know.
    pub(crate) fn list(&self) -> Vec<Seen> {
        self.writers
            .iter()
            .map(|(writer, record)| {
                let done = record.done.iter().chain(record.ordered.keys()).copied();
                Seen { writer: *writer, floor: record.floor, done: done.collect() }
            })
            .collect()
    }

    /// Takes in what another member knows: all of it is done.
    pub(crate) fn merge(&mut self, seen: &[Seen]) {
        for other in seen {
            self.clock += 1;
            let record = self.writers.entry(other.writer).or_default();
            record.touched = self.clock;
            record.done.extend(other.done.iter().copied());
            record.raise(other.floor);
            for sequence in &record.done {
                record.ordered.remove(sequence);
            }
        }
        self.prune();
    }

    fn prune(&mut self) {
        while self.writers.len() > WRITERS {
            let idle = self.writers.iter().filter(|(_, record)| record.ordered.is_empty());
            let Some(writer) =
                idle.min_by_key(|(_, record)| record.touched).map(|(writer, _)| *writer)
            else {
                return;
            };
            self.writers.remove(&writer);
        }
    }
}

impl Record {
    fn raise(&mut self, floor: Sequence) {
        if floor > self.floor {
            self.floor = floor;
            self.done = self.done.split_off(&floor);
        }
    }
}
