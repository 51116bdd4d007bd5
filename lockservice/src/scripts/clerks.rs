//! Clerks on the stage: pure machines whose messages the transcript moves one by one.
//!
//! `clerk NAME..` ; `want C SPAN MODE [wish SPAN] [try]` ; `wish C N,N MODE` (a hint) ; `send C [lost]` ; `deliver C
//! [N]` ; `flushed C rN` ; `unpin C pN` ; `giveup C SPAN` ; `forget C tN` ; `reconnect C` ; `stream C` (as it is,
//! without listening again) ; `knows C` ; `time C SECONDS` ; `tidy C SPAN SECONDS MOST` ; `end C` ; `closing C` ; `claiming C` as `claim` ; `back C tN` ;
//! `leave C tN`.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use world::Time;

use super::{stage::Stage, words};
use crate::{
    Error, Name, SessionId, Shard,
    clerk::machine::{Effect, Machine, PinId, RevocationId, Want},
    message::{Command, Event, Reply, Ticket},
};

#[derive(Default)]
pub(super) struct Clerk {
    pub(super) machine: Machine,
    /// By shard.
    pub(super) streams: BTreeMap<Shard, VecDeque<Event>>,
}

fn number(word: &str) -> u64 {
    word.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().unwrap()
}

impl Stage {
    pub(super) fn clerk(&mut self, words: &[&str]) -> Vec<String> {
        if words[0] == "clerk" {
            for name in &words[1..] {
                self.play(&format!("open {name}"));
                let session = self.session(name);
                self.clerks.insert(session, Clerk::default());
                self.reconnect(session);
                self.deliver(session, usize::MAX);
            }
            return Vec::new();
        }
        let session = self.session(words[1]);
        match words[0] {
            "want" => self.want(session, words),
            "wish" => {
                let names: Vec<Name> = words[2].split(',').map(words::name).collect();
                let tickets = self.machine(session).hint(&names, words::mode(words[3]));
                let asks: Vec<String> =
                    tickets.iter().map(|t| format!("asks as t{}", t.0)).collect();
                if asks.is_empty() { vec!["has nothing to ask".into()] } else { asks }
            }
            "send" => self.send(session, words.get(2) == Some(&"lost")),
            "deliver" => {
                let most = words.get(2).map_or(usize::MAX, |word| word.parse().unwrap());
                self.deliver(session, most)
            }
            "flushed" => self.act(session, |m| m.revoked(RevocationId(number(words[2])))),
            "unpin" => self.act(session, |m| m.unpin(PinId(number(words[2])))),
            "giveup" => self.act(session, |m| m.revoke(words::span(words[2]), None)),
            "forget" => self.act(session, |m| m.cancel(Ticket(number(words[2])))),
            "claiming" => {
                let (claim, patience) = words::claim(words);
                let (ticket, effects) = self.machine(session).claim(claim, patience).unwrap();
                let mut told = vec![format!("claims as t{}", ticket.0)];
                told.extend(self.said(&effects));
                told
            }
            "back" => self.act(session, |m| m.take_back(Ticket(number(words[2])))),
            "leave" => self.act(session, |m| m.leave(Ticket(number(words[2])))),
            "closing" => self.act(session, Machine::close),
            "end" => self.act(session, |m| m.end(Error::Expired)),
            "reconnect" => {
                self.reconnect(session);
                Vec::new()
            }
            "time" => {
                self.machine(session).now = Time(number(words[2]) * 1_000_000_000);
                Vec::new()
            }
            "tidy" => {
                let within = words::span(words[2]);
                let idle = Duration::from_secs(number(words[3]));
                let most = words[4].parse().unwrap();
                self.act(session, |m| m.tidy(within, idle, most))
            }
            "knows" => {
                let machine = self.machine(session);
                let line = words::all(&machine.held.all());
                vec![format!(
                    "{line} (newest #{}, flushing {})",
                    machine.newest.0,
                    machine.flushing()
                )]
            }
            other => panic!("no such command: {other}"),
        }
    }

    fn machine(&mut self, session: SessionId) -> &mut Machine {
        &mut self.clerks.get_mut(&session).unwrap().machine
    }

    fn act(
        &mut self,
        session: SessionId,
        act: impl FnOnce(&mut Machine) -> Vec<Effect>,
    ) -> Vec<String> {
        let effects = act(self.machine(session));
        self.said(&effects)
    }

    fn said(&self, effects: &[Effect]) -> Vec<String> {
        effects.iter().filter_map(|e| words::effect(e, |s| self.name(s))).collect()
    }

    fn want(&mut self, session: SessionId, words: &[&str]) -> Vec<String> {
        let need = words::span(words[2]);
        let wish = words.iter().position(|word| *word == "wish");
        let wish = wish.map_or(need, |at| words::span(words[at + 1]));
        let wait = !words.contains(&"try");
        let (want, effects) = self.machine(session).want((need, wish, words::mode(words[3])), wait);
        let first = match want {
            Want::Have(pin, held) => format!("has it, p{}, {}", pin.0, words::held(&held)),
            Want::Asked(ticket) => format!("asks as t{}", ticket.0),
            Want::Revoking => "waits: it must be given up first".to_owned(),
            Want::Asking => "waits: an earlier question is open".to_owned(),
            Want::Straddles => "cannot: it lies in several groups".to_owned(),
            Want::Over(error) => format!("cannot: {error}"),
        };
        let mut told = vec![first];
        told.extend(self.said(&effects));
        told
    }

    fn send(&mut self, session: SessionId, lost: bool) -> Vec<String> {
        let shard = self.shard;
        let Some((seq, asks)) = self.machine(session).batch(shard) else {
            return vec!["has nothing to send".to_owned()];
        };
        let batch = Command::Batch { session, seq, asks: asks.to_vec() };
        let mut told = vec![format!("batch {} of {}", seq.0, asks.len())];
        let reply = self.table_reply(batch);
        told.extend(reply.1);
        match reply.0 {
            _ if lost => {}
            Reply::Moved { group, by } => {
                let effects = self.machine(session).refused_batch(shard, seq, (group, by));
                told.extend(self.said(&effects));
            }
            _ => self.machine(session).acked(shard, seq),
        }
        told
    }

    fn reconnect(&mut self, session: SessionId) {
        let shard = self.shard;
        self.machine(session).listening(shard);
        let events = self.table.listen(session).into();
        self.clerks.get_mut(&session).unwrap().streams.insert(shard, events);
    }

    fn deliver(&mut self, session: SessionId, most: usize) -> Vec<String> {
        let mut told = Vec::new();
        for _ in 0..most {
            let clerk = self.clerks.get_mut(&session).unwrap();
            let stream = clerk.streams.entry(self.shard).or_default();
            let Some(event) = stream.pop_front() else { break };
            told.push(format!("hears: {}", words::event(&event, |s| self.name(s))));
            let shard = self.shard;
            let effects = self.machine(session).event(shard, event);
            told.extend(self.said(&effects).into_iter().map(|line| format!("  {line}")));
        }
        told
    }
}
