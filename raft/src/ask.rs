//! Reads at a follower: it asks the leader for an index and answers from its own state machine.
//!
//! Thesis, section 6.4. One question is under way at a time, and carries all reads of a kind that waited for it; it is
//! repeated when a message was lost, and given up after an election timeout or when the leader changes. The leader's part
//! is in `read`.

use std::collections::VecDeque;
use std::time::Duration;

use crate::effect::Effect;
use crate::ids::{Index, MemberId, Serial, Ticket};
use crate::message::{Body, ReadMode};
use crate::node::{Node, State};
use crate::read::Asker;

#[derive(Default)]
pub(crate) struct Asks {
    waiting: VecDeque<(Ticket, ReadMode)>,
    open: Option<Question>,
    /// Answered; what is missing is the state machine.
    known: VecDeque<(Index, Vec<Ticket>)>,
}

struct Question {
    serial: Serial,
    mode: ReadMode,
    tickets: Vec<Ticket>,
    begun: Duration,
    sent: Duration,
}

impl Asks {
    /// When a question is to be repeated or given up.
    pub(crate) fn deadline(&self, node: &Node) -> Option<Duration> {
        let open = self.open.as_ref()?;
        let repeat = open.sent + node.config.heartbeat * 2;
        Some(repeat.min(open.begun + node.config.election_max))
    }
}

impl Node {
    /// A client wants to read here.
    pub(crate) fn read_asked(&mut self, ticket: Ticket, mode: ReadMode) {
        match &mut self.state {
            State::Leader(_) => self.read_at_leader(Asker::Here(ticket), mode),
            State::Follower(follower) if follower.leader.is_some() => {
                self.asks.waiting.push_back((ticket, mode));
            }
            _ => self.outbox.push(Effect::ReadRefused { ticket, leader: None }),
        }
    }

    /// Asks the leader for the reads that wait.
    pub(crate) fn ask_leader(&mut self) {
        let State::Follower(follower) = &self.state else { return };
        let Some(leader) = follower.leader else { return };
        let (None, Some((_, mode))) = (&self.asks.open, self.asks.waiting.front()) else { return };
        let mode = *mode;
        let waiting = std::mem::take(&mut self.asks.waiting);
        let (now, later): (VecDeque<_>, VecDeque<_>) =
            waiting.into_iter().partition(|(_, other)| *other == mode);
        self.asks.waiting = later;
        self.serial = Serial(self.serial.0.wrapping_add(1));
        let tickets = now.into_iter().map(|(ticket, _)| ticket).collect();
        let (serial, begun) = (self.serial, self.now);
        self.asks.open = Some(Question { serial, mode, tickets, begun, sent: begun });
        self.send(leader, Body::ReadIndex { serial, mode }, self.need_hard());
    }

    /// Repeats a question whose answer is late, or gives it up.
    pub(crate) fn ask_again(&mut self) {
        let (now, config) = (self.now, &self.config);
        let (again, end) = (config.heartbeat * 2, config.election_max);
        let Some(open) = &mut self.asks.open else { return };
        if now >= open.begun + end {
            self.refuse_asks(self.leader(), false);
        } else if now >= open.sent + again {
            open.sent = now;
            let body = Body::ReadIndex { serial: open.serial, mode: open.mode };
            if let Some(leader) = self.leader() {
                self.send(leader, body, self.need_hard());
            }
        }
    }

    /// The leader answered.
    pub(crate) fn read_answered(&mut self, serial: Serial, index: Option<Index>) {
        let Some(open) = self.asks.open.take_if(|open| open.serial == serial) else { return };
        match index {
            Some(index) => self.asks.known.push_back((index, open.tickets)),
            None => {
                let leader = self.leader();
                for ticket in open.tickets {
                    self.outbox.push(Effect::ReadRefused { ticket, leader });
                }
            }
        }
    }

    /// Nobody will answer what was asked; with `all`, nor what waits to be asked.
    pub(crate) fn refuse_asks(&mut self, leader: Option<MemberId>, all: bool) {
        let open = self.asks.open.take().into_iter().flat_map(|open| open.tickets);
        let mut tickets: Vec<Ticket> = open.collect();
        if all {
            tickets.extend(self.asks.waiting.drain(..).map(|(ticket, _)| ticket));
        }
        for ticket in tickets {
            self.outbox.push(Effect::ReadRefused { ticket, leader });
        }
    }

    /// Answers reads whose index the state machine has reached.
    pub(crate) fn release_asks(&mut self) {
        let applied = self.applied;
        while let Some((index, tickets)) = self.asks.known.pop_front_if(|(at, _)| *at <= applied) {
            for ticket in tickets {
                self.outbox.push(Effect::ReadReady { ticket, index });
            }
        }
    }
}
