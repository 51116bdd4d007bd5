//! The stage of a transcript: members, their disks, and the messages between them, moved by commands.
//!
//! | command | does |
//! |---|---|
//! | `group N [batch=B] [keep=K] [chunk=C] [chunks=W] [limit=U] [log=L] [rounds=R]` | N members that are not started |
//! | `join N...` | more members that are not started, and in no group |
//! | `stored N term=T [vote=V] [terms...]` | what member N's disk holds; `same` leaves the log as it is |
//! | `start [N...]`, `crash N...` | all or some; a crash loses what was not synced |
//! | `empty N` | the disk of N, which is down, loses everything; it is started as one that rebuilds |
//! | `timeout N` | moves time to N's deadline and wakes it |
//! | `pass MS`, `beat N TIMES` | moves time; lets N time out and delivers all, again and again |
//! | `clock N MS` | N's clock jumps |
//! | `deliver [A->B...] [count=C]` | delivers what is under way, and what comes of it; or only on these links |
//! | `drop [A->B...]` | loses what is under way |
//! | `late A->B`, `arrive` | puts the oldest message aside; brings what was put aside back |
//! | `cut N...` or `cut A->B...`, `heal` | links that lose everything |
//! | `hold N`, `step N`, `sync N` | N's disk does not sync; syncs what it has now; syncs from now on |
//! | `damage N`, `blind N` | N's disk damages the next checkpoint that it collects; N cannot read its checkpoint (again: it can) |
//! | `propose N TEXT...`, `read N [COUNT]`, `lease N [COUNT]` | a client; `lease` is a read by lease |
//! | `change N ID... [+ ID...]` | the group is to be these voters and learners |
//! | `transfer N TO` | N is to hand leadership on |
//! | `checkpoint N` | a checkpoint of what N applied |
//! | `status` | all members |
//!
//! `quiet COMMAND` does it without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use raft::{
    Config, Configuration, Effect, Entry, Event, Index, MemberId, Message, Node, Payload, ReadMode,
    Term, Ticket, codec,
};

use crate::actor::Actor;
use crate::words;

#[derive(Default)]
pub(crate) struct Stage {
    now: Duration,
    config: Option<Config>,
    actors: BTreeMap<u64, Actor>,
    under_way: Vec<Message>,
    aside: Vec<Message>,
    cut: BTreeSet<(u64, u64)>,
    ticket: u64,
    told: Vec<String>,
}

fn number(word: &str) -> u64 {
    word.parse().unwrap_or_else(|_| panic!("{word} is no number"))
}

fn option(words: &[&str], name: &str) -> Option<u64> {
    words.iter().find_map(|w| w.strip_prefix(name)?.strip_prefix('=')).map(number)
}

fn numbers(words: &[&str]) -> Vec<u64> {
    words.iter().filter(|w| !w.contains(['=', '>'])).map(|w| number(w)).collect()
}

fn links(words: &[&str]) -> Vec<(u64, u64)> {
    let pairs = words.iter().filter_map(|w| w.split_once("->"));
    pairs.map(|(a, b)| (number(a), number(b))).collect()
}

impl Stage {
    pub(crate) fn play(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        self.command(&words);
        std::mem::take(&mut self.told)
    }

    fn command(&mut self, words: &[&str]) {
        let (verb, rest) = words.split_first().expect("a command has a verb");
        match *verb {
            "quiet" => {
                self.command(rest);
                self.told.clear();
            }
            "group" => self.group(rest),
            "stored" => self.stored(rest),
            "join" => {
                let more = numbers(rest);
                self.actors.extend(more.into_iter().map(|id| (id, Actor::default())));
            }
            "start" => self.start(rest),
            "crash" => self.crash(rest),
            "timeout" => self.timeout(number(rest[0])),
            "pass" => self.now += Duration::from_millis(number(rest[0])),
            "beat" => {
                for _ in 0..number(rest[1]) {
                    self.timeout(number(rest[0]));
                    self.deliver(&[]);
                }
            }
            "deliver" => self.deliver(rest),
            "drop" => {
                let links = links(rest);
                self.under_way.retain(|m| !picked(&links, m));
            }
            "late" => {
                let links = links(rest);
                let at = self.under_way.iter().position(|m| picked(&links, m));
                let message = self.under_way.remove(at.expect("a message on this link"));
                self.aside.push(message);
            }
            "arrive" => self.under_way.append(&mut self.aside),
            "cut" => self.cut(rest),
            "heal" => self.cut.clear(),
            "propose" | "read" | "lease" | "change" | "transfer" => self.client(verb, rest),
            "checkpoint" => {
                let actor = self.actor(number(rest[0]));
                let applied = actor.node.as_ref().expect("a member that is up").status().applied;
                let taken = actor.checkpoint(applied);
                self.event(number(rest[0]), taken);
                self.drain(number(rest[0]));
            }
            "status" => self.status(),
            _ => self.disk(verb, number(rest[0]), rest),
        }
    }

    fn disk(&mut self, verb: &str, id: u64, rest: &[&str]) {
        let actor = self.actor(id);
        match verb {
            "hold" => actor.holds = true,
            "sync" => self.sync(id, false),
            "step" => self.sync(id, true),
            "empty" => actor.empty(),
            "damage" => actor.damages = true,
            "blind" => actor.blind = !actor.blind,
            "clock" => actor.ahead += rest[1].parse::<i64>().expect("milliseconds"),
            _ => panic!("unknown command {verb}"),
        }
    }

    fn client(&mut self, verb: &str, rest: &[&str]) {
        let id = number(rest[0]);
        match verb {
            "propose" => {
                for text in &rest[1..] {
                    let ticket = self.next_ticket();
                    let command = Bytes::copy_from_slice(text.as_bytes());
                    self.event(id, Event::Propose { ticket, command });
                }
            }
            "change" => {
                let mut lists = rest[1..]
                    .split(|word| *word == "+")
                    .map(|list| list.iter().map(|word| MemberId(number(word))).collect::<Vec<_>>());
                let target = Configuration {
                    voters: lists.next().unwrap_or_default(),
                    learners: lists.next().unwrap_or_default(),
                    ..Configuration::default()
                };
                let ticket = self.next_ticket();
                self.event(id, Event::Change { ticket, target });
            }
            "transfer" => {
                let (ticket, to) = (self.next_ticket(), MemberId(number(rest[1])));
                self.event(id, Event::Transfer { ticket, to });
            }
            _ => {
                let mode = if verb == "lease" { ReadMode::Lease } else { ReadMode::Quorum };
                for _ in 0..rest.get(1).map_or(1, |w| number(w)) {
                    let ticket = self.next_ticket();
                    self.event(id, Event::Read { ticket, mode });
                }
            }
        }
        self.drain(id);
    }

    fn actor(&mut self, id: u64) -> &mut Actor {
        self.actors.get_mut(&id).expect("the group has this member")
    }

    fn next_ticket(&mut self) -> Ticket {
        self.ticket += 1;
        Ticket(self.ticket)
    }

    fn group(&mut self, words: &[&str]) {
        let count = number(words[0]);
        let voters: Vec<MemberId> = (1..=count).map(MemberId).collect();
        let mut config = Config::new(MemberId(1), voters.clone());
        config.batch_bytes = option(words, "batch").map_or(10_000, |b| b as usize);
        config.keep = option(words, "keep").unwrap_or(0);
        config.chunk_bytes = option(words, "chunk").unwrap_or(1000);
        config.chunk_window = option(words, "chunks").unwrap_or(2);
        config.uncommitted_bytes = option(words, "limit").map_or(10_000, |b| b as usize);
        config.log_bytes = option(words, "log").map_or(1_000_000, |b| b as usize);
        config.catch_up_rounds = option(words, "rounds").map_or(10, |r| r as u32);
        self.config = Some(config);
        self.actors = (1..=count).map(|id| (id, Actor::new(voters.clone()))).collect();
    }

    fn stored(&mut self, words: &[&str]) {
        let same = words.contains(&"same");
        let words: Vec<&str> = words.iter().copied().filter(|w| *w != "same").collect();
        let words = &words[..];
        let ids = numbers(words);
        let stored = &mut self.actor(ids[0]).stored;
        stored.hard.term = Term(option(words, "term").expect("term="));
        stored.hard.vote = option(words, "vote").map(MemberId);
        if same {
            return;
        }
        stored.entries = (ids[1..].iter().zip(1..))
            .map(|(term, index)| Entry {
                index: Index(index),
                term: Term(*term),
                payload: Payload::Command(format!("old{index}").into()),
            })
            .collect();
    }

    fn start(&mut self, words: &[&str]) {
        let some = numbers(words);
        let ids = if some.is_empty() { self.actors.keys().copied().collect() } else { some };
        for id in ids {
            let mut config = self.config.clone().expect("group first");
            let actor = self.actor(id);
            actor.begin();
            config.id = MemberId(id);
            config.voters.clone_from(&actor.voters);
            let seed = 6 + actor.life;
            actor.node = Some(Node::new(config, seed, actor.stored.clone()).expect("a sound disk"));
            // A node arms its timer with the first event.
            self.event(id, Event::Wake);
            self.drain(id);
        }
    }

    fn crash(&mut self, words: &[&str]) {
        for id in numbers(words) {
            let actor = self.actor(id);
            actor.node = None;
            actor.holds = false;
            let lost = std::mem::take(&mut actor.unsynced).len();
            if lost > 0 {
                self.told.push(format!("n{id} loses {lost} writes"));
            }
        }
    }

    fn timeout(&mut self, id: u64) {
        let actor = self.actor(id);
        let ahead = actor.ahead;
        let node = actor.node.as_ref().expect("a member that is up");
        let deadline = node.deadline().expect("something to wait for");
        self.now = self.now.max(shift(deadline, -ahead));
        self.event(id, Event::Wake);
        self.drain(id);
    }

    fn cut(&mut self, words: &[&str]) {
        self.cut.extend(links(words));
        for id in numbers(words) {
            let others: Vec<u64> = self.actors.keys().copied().filter(|o| *o != id).collect();
            self.cut.extend(others.into_iter().flat_map(|o| [(id, o), (o, id)]));
        }
    }

    fn deliver(&mut self, words: &[&str]) {
        let links = links(words);
        let mut left = option(words, "count").unwrap_or(1000);
        while left > 0
            && let Some(at) = self.under_way.iter().position(|m| picked(&links, m))
        {
            left -= 1;
            let message = self.under_way.remove(at);
            let link = (message.from.0, message.to.0);
            let up = self.actors.get(&link.1).is_some_and(|a| a.node.is_some());
            if self.cut.contains(&link) || !up {
                self.told.push(format!("{} (lost)", words::message(&message)));
                continue;
            }
            self.told.push(words::message(&message));
            // Through bytes, as between processes.
            let message = codec::decode(codec::encode(&message)).expect("a sound message");
            self.event(link.1, Event::Received(message));
            self.drain(link.1);
        }
    }

    fn sync(&mut self, id: u64, holds: bool) {
        let actor = self.actor(id);
        actor.holds = holds;
        for event in actor.sync() {
            self.event(id, event);
        }
        self.drain(id);
    }

    fn status(&mut self) {
        for (id, actor) in &self.actors {
            self.told.push(match &actor.node {
                None => format!("n{id} down"),
                Some(node) => {
                    let terms: Vec<u64> = node.entries().map(|e| e.term.0).collect();
                    words::status(&node.status(), &terms, shift(self.now, actor.ahead))
                }
            });
        }
    }

    fn event(&mut self, id: u64, event: Event) {
        let now = shift(self.now, self.actor(id).ahead);
        self.actor(id).node.as_mut().expect("a member that is up").handle(now, event);
    }

    fn drain(&mut self, id: u64) {
        while let Some(effect) = self.actor(id).node.as_mut().and_then(Node::poll) {
            match effect {
                Effect::Send(message) => self.under_way.push(message),
                other => {
                    self.told.push(format!("  n{id} {}", words::effect(&other)));
                    if let Some(event) = self.actor(id).act(other) {
                        self.event(id, event);
                    }
                }
            }
        }
        if !self.actor(id).holds && !self.actor(id).unsynced.is_empty() {
            self.sync(id, false);
        }
    }
}

fn picked(links: &[(u64, u64)], message: &Message) -> bool {
    links.is_empty() || links.contains(&(message.from.0, message.to.0))
}

fn shift(time: Duration, by: i64) -> Duration {
    let by_millis = Duration::from_millis(by.unsigned_abs());
    if by < 0 { time.saturating_sub(by_millis) } else { time + by_millis }
}
