//! Clients with sessions: each has one operation open at a time, repeats it until it is answered, sometimes gives up, and
//! writes down when it asked and when it was answered.
//!
//! A retry goes to another member under the same sequence, so the operation happens once. What was given up may have
//! happened or not; it cannot happen any more when the session's next command was answered, since the machine refuses
//! sequences that are past.

use std::collections::BTreeMap;
use std::time::Duration;

use ::raft::{Event, MemberId, ReadMode, Ticket};

use super::{Actor, Schedule};
use crate::dice::Dice;
use crate::raft::command::{Command, Reply, Request, Step, Value};
use crate::raft::group::Told;
use crate::raft::store::History;
use crate::wgl::{Operation, Outcome};

/// The longest value that is appended to.
const LONG: usize = 6;

/// What a session sends.
#[derive(Debug)]
pub(super) struct Asked {
    ticket: Ticket,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    /// A command for the log.
    Command(Step),
    /// A read beside the log.
    Read(u8, ReadMode),
}

struct Open {
    called: u64,
    what: What,
    tickets: Vec<Ticket>,
    since: Duration,
}

struct Session {
    client: u32,
    sequence: u32,
    hint: usize,
    /// It was told whom to ask.
    told: bool,
    /// Timers of earlier turns mean nothing.
    turn: u64,
    open: Option<Open>,
    /// Values that it saw.
    known: BTreeMap<u8, Option<Value>>,
    /// What it gave up since its last answered command, by place in the history.
    lost: Vec<usize>,
}

/// All sessions of a schedule.
pub(super) struct Sessions {
    sessions: Vec<Session>,
    tickets: BTreeMap<Ticket, usize>,
    history: History,
    moment: u64,
    number: u32,
    keys: u64,
}

impl Sessions {
    pub(super) fn new(dice: &mut Dice, places: usize) -> Self {
        let sessions = (1..=dice.between(2, 6)).map(|client| Session {
            client: client as u32,
            sequence: 0,
            hint: dice.pick(places),
            told: false,
            turn: 0,
            open: None,
            known: BTreeMap::new(),
            lost: Vec::new(),
        });
        Self {
            sessions: sessions.collect(),
            tickets: BTreeMap::new(),
            history: Vec::new(),
            moment: 0,
            number: 0,
            keys: dice.between(1, 4),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.sessions.len()
    }

    pub(super) fn waits_for(&self, ticket: Ticket) -> bool {
        self.tickets.contains_key(&ticket)
    }

    /// Whether every operation was answered or given up.
    pub(super) fn are_quiet(&self) -> bool {
        self.sessions.iter().all(|s| s.open.is_none())
    }

    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// What to do next.
    fn invent(&mut self, session: usize, dice: &mut Dice, mode: ReadMode) -> What {
        let key = dice.between(0, self.keys) as u8;
        self.number += 1;
        let number = self.number;
        let Session { known, sequence, client, .. } = &mut self.sessions[session];
        let seen = known.get(&key).cloned().flatten();
        let request = match dice.pick(10) {
            0..=4 => return What::Read(key, mode),
            5 => Request::Get,
            6 => Request::Cas(seen, number),
            7 if seen.as_ref().is_none_or(|v| v.len() < LONG) => Request::Append(number),
            8 => Request::Delete,
            _ => Request::Put(number),
        };
        *sequence += 1;
        What::Command(Step { client: *client, sequence: *sequence, key, request })
    }

    /// The open operation ends; with no output it is given up.
    fn close(&mut self, session: usize, output: Option<Reply>) {
        let at = self.next_moment();
        let session = &mut self.sessions[session];
        let Some(open) = session.open.take() else { return };
        for ticket in &open.tickets {
            self.tickets.remove(ticket);
        }
        let (key, request, logged) = match open.what {
            What::Command(step) => (step.key, step.request, true),
            What::Read(key, _) => (key, Request::Get, false),
        };
        if let Some(Reply::Value(value)) = &output {
            session.known.insert(key, value.clone());
        }
        let outcome = match output {
            Some(output) => {
                if logged {
                    for lost in session.lost.drain(..) {
                        self.history[lost].outcome = Outcome::Unknown { until: Some(at) };
                    }
                }
                Outcome::Returned { at, output }
            }
            // An unanswered read says nothing.
            None if !logged || request == Request::Get => return,
            None => {
                session.lost.push(self.history.len());
                Outcome::Unknown { until: None }
            }
        };
        let (client, called) = (u64::from(session.client), open.called);
        self.history.push(Operation { client, called, input: (key, request), outcome });
    }

    /// What was asked and answered; what is still open counts as given up.
    pub(super) fn take_history(&mut self) -> History {
        for session in 0..self.count() {
            self.close(session, None);
        }
        std::mem::take(&mut self.history)
    }
}

/// How many operations have no answer.
pub(super) fn unknown(history: &History) -> u64 {
    history.iter().filter(|o| matches!(o.outcome, Outcome::Unknown { .. })).count() as u64
}

impl Schedule {
    /// A session's timer: it begins something, or asks again, or gives up.
    pub(super) fn session(&mut self, session: usize, turn: u64) {
        if self.sessions.sessions[session].turn != turn {
            return;
        }
        let now = self.group.now;
        let ends = self.healed.as_ref().is_some_and(|h| h.wrote && h.read);
        match &self.sessions.sessions[session].open {
            None if ends => return,
            None => {
                let mode = self.read_mode();
                let what = self.sessions.invent(session, &mut self.dice, mode);
                let called = self.sessions.next_moment();
                let open = Open { called, what, tickets: Vec::new(), since: now };
                self.sessions.sessions[session].open = Some(open);
            }
            Some(open) => {
                let tired = now > open.since + Duration::from_millis(1500);
                // Every unknown outcome doubles the orders to be tried.
                let may = self.sessions.sessions[session].lost.len() < 2;
                if tired && may && self.healed.is_none() && self.dice.chance(50) {
                    self.sessions.close(session, None);
                    return self.rest(session, 20);
                }
                let any = self.dice.pick(self.group.members.len());
                let state = &mut self.sessions.sessions[session];
                if !std::mem::take(&mut state.told) {
                    state.hint = any;
                }
            }
        }
        self.ask(session);
    }

    /// The session does something again within so many milliseconds.
    fn rest(&mut self, session: usize, most: u64) {
        let at = self.group.now + self.dice.millis(1, most);
        let state = &mut self.sessions.sessions[session];
        state.turn += 1;
        let turn = state.turn;
        self.group.at(at, Actor::Session { session, turn });
    }

    /// Sends the open operation to the member that the session takes for the leader.
    fn ask(&mut self, session: usize) {
        let ticket = self.next_ticket();
        let patience = self.dice.between(40, 400);
        let state = &mut self.sessions.sessions[session];
        let Some(open) = &mut state.open else { return };
        open.tickets.push(ticket);
        let asked = Box::new(Asked { ticket, what: open.what.clone() });
        let place = state.hint;
        self.sessions.tickets.insert(ticket, session);
        if !self.loses() {
            let at = self.group.now + self.group.net.client();
            self.group.at(at, Actor::Ask { place, asked });
        }
        self.rest(session, patience);
    }

    /// A session's message arrives, perhaps long after the session has gone on.
    pub(super) fn arrive(&mut self, place: usize, asked: Box<Asked>) {
        let member = &mut self.group.members[place];
        if member.paused > self.group.now {
            let at = member.paused;
            return self.group.at(at, Actor::Ask { place, asked });
        }
        if member.node.is_none() {
            return;
        }
        let ticket = asked.ticket;
        let event = match asked.what {
            What::Command(step) => {
                let command = Command { ticket, step: Some(step) }.encode();
                Event::Propose { ticket, command }
            }
            What::Read(key, mode) => {
                member.reading.insert(ticket, key);
                Event::Read { ticket, mode }
            }
        };
        self.group.step(place, event);
    }

    /// A member's answer arrives; an answer to any try of the open operation is an answer to it.
    pub(super) fn answer(&mut self, told: Told) {
        let (ticket, reply) = match told {
            Told::Refused(ticket, leader) => return self.redirect(ticket, leader),
            Told::Done(ticket, reply) => (ticket, reply),
            Told::Value(ticket, value) => (ticket, Some(Reply::Value(value))),
        };
        let Some(session) = self.sessions.tickets.get(&ticket).copied() else { return };
        if reply.is_none() || reply == Some(Reply::Stale) {
            let what = format!("{ticket:?}, an open command, was answered {reply:?}");
            self.group.wrong.get_or_insert(("no duplicate apply", what));
            return;
        }
        self.sessions.close(session, reply);
        self.rest(session, 30);
    }

    fn redirect(&mut self, ticket: Ticket, leader: Option<MemberId>) {
        let Some(session) = self.sessions.tickets.get(&ticket).copied() else { return };
        let state = &mut self.sessions.sessions[session];
        if state.open.as_ref().and_then(|open| open.tickets.last()) != Some(&ticket) {
            return;
        }
        let known = leader.map(|l| l.0 as usize - 1).filter(|l| *l < self.group.members.len());
        let elsewhere = self.dice.pick(self.group.members.len());
        state.hint = known.unwrap_or(elsewhere);
        state.told = true;
        // A leader that is not known yet is asked for a little later.
        let most = if known.is_some() { 3 } else { 60 };
        let at = self.group.now + self.dice.millis(1, most);
        state.turn += 1;
        let turn = state.turn;
        self.group.at(at, Actor::Session { session, turn });
    }
}
