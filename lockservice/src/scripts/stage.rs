//! A table on a stage, and sessions before it: the commands of a transcript.
//!
//! `open NAME.. [unable|replace]` ; `get S SPAN MODE [wish SPAN] [try]` ; `hint S N,N MODE` ; `release S
//! SPAN` ; `downgrade S SPAN` ; `cancel S TICKET` ; `able S` ; `expire S` ; `close S` ; `recovered DEAD by S` ; `listen
//! S` ; `claim S FILE BYTES MODE by N [try|test]` (`none` gives up) ; `claims` ; `deafen S` ; `restart` ; `held` ; `waiting` ; `again` (the last batch once more) ; `create S PATH
//! DATA [ephemeral] [sequential] [v=N]` ; `set S PATH DATA [v=N]` ; `delete S PATH [v=N]` ; `read PATH` ; `hear`.
//! Those for clerks are in `clerks`, those for shards, and `at K COMMAND`, in `shards`.

use std::{collections::BTreeMap, time::Duration};

use super::{clerks::Clerk, words};
use crate::{
    Grant, Held, SessionId, Shard, Span, Table,
    message::{Acquire, Ask, Client, Command, Event, Kind, Reply, Seq, Ticket},
    registry::{Make, NodePath, Op, Question, What},
};

#[derive(Default)]
pub(super) struct Stage {
    /// Of the shard that commands are for.
    pub(super) table: Table,
    pub(super) shard: Shard,
    /// Of all other shards.
    pub(super) others: BTreeMap<Shard, Table>,
    pub(super) names: BTreeMap<String, SessionId>,
    pub(super) clerks: BTreeMap<SessionId, Clerk>,
    next: u64,
    last: Option<Command>,
}

impl Stage {
    pub(super) fn play(&mut self, command: &str) -> Vec<String> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let mut told = match words[0] {
            "open" => self.open(&words[1..]),
            "get" | "hint" | "release" | "downgrade" | "cancel" | "able" | "claim" => {
                self.ask(&words)
            }
            "create" | "set" | "delete" => self.node(&words),
            "read" => self.read(words[1]),
            "hear" => {
                self.table.tree_mut().hear();
                Vec::new()
            }
            "held" => self.held(),
            "waiting" => self.waiting(),
            "claims" => self.claims(),
            "expire" => self.run(Command::Expire(self.session(words[1]))),
            "close" => self.run(Command::Close(self.session(words[1]))),
            "recovered" => {
                let (dead, by) = (self.session(words[1]), self.session(words[3]));
                self.run(Command::Recovered { dead, by, seen: Grant(0) })
            }
            "again" => self.last.clone().map(|last| self.run(last)).unwrap_or_default(),
            "listen" => self.listen(words[1]),
            "deafen" => {
                self.table.deafen(self.session(words[1]));
                Vec::new()
            }
            "restart" => {
                self.table = Table::load(&self.table.save()).unwrap();
                Vec::new()
            }
            "at" | "shards" | "move" | "place" | "where" | "probe" | "freeze" | "bring"
            | "drop" | "placed" | "news" | "retire" | "estate" | "seen" => self.shards(&words),
            _ => self.clerk(&words),
        };
        self.table.check().unwrap();
        let told_changes = self.table.tree_mut().drain();
        told.extend(told_changes.iter().map(words::change));
        told
    }

    pub(super) fn session(&self, name: &str) -> SessionId {
        *self.names.get(name).unwrap_or_else(|| panic!("nobody is called {name}"))
    }

    pub(super) fn name(&self, session: SessionId) -> String {
        let found = self.names.iter().rev().find(|(_, id)| **id == session);
        found.map_or_else(|| session.0.to_string(), |(name, _)| name.clone())
    }

    /// Applies a command; what was answered and told to those who listen.
    pub(super) fn run(&mut self, command: Command) -> Vec<String> {
        self.table_reply(command).1
    }

    /// As [`Stage::run`], with the reply as it is.
    pub(super) fn table_reply(&mut self, command: Command) -> (Reply, Vec<String>) {
        let reply = self.table.handle(command.clone());
        self.last = Some(command);
        let said = words::reply(&reply, |session| self.name(session));
        let mut told: Vec<String> = said.into_iter().collect();
        for (session, event) in self.table.drain() {
            if let Some(clerk) = self.clerks.get_mut(&session) {
                clerk.streams.entry(self.shard).or_default().push_back(event);
            } else {
                told.push(self.told(session, &event));
            }
        }
        (reply, told)
    }

    fn told(&self, session: SessionId, event: &Event) -> String {
        format!("{}: {}", self.name(session), words::event(event, |s| self.name(s)))
    }

    fn open(&mut self, words: &[&str]) -> Vec<String> {
        let flag = |flag: &str| words.contains(&flag);
        let mut told = Vec::new();
        for name in words.iter().filter(|word| !["unable", "replace"].contains(word)) {
            self.next += 1;
            let client = Client {
                owner: name.trim_end_matches('\'').to_string(),
                host: String::new(),
                kind: Kind::Mount,
                able: !flag("unable"),
                nonce: self.next,
            };
            let before: Vec<SessionId> = self.table.living().collect();
            let mut answer = self.run(Command::Open { client, replace: flag("replace") });
            let session = self.table.living().find(|session| !before.contains(session)).unwrap();
            self.names.insert((*name).to_owned(), session);
            answer.remove(0);
            told.extend(answer);
            let listening = self.table.listen(session);
            told.extend(listening[1..].iter().map(|event| self.told(session, event)));
        }
        told
    }

    fn listen(&mut self, name: &str) -> Vec<String> {
        let session = self.session(name);
        let events = self.table.listen(session);
        events.iter().map(|event| self.told(session, event)).collect()
    }

    fn parts(&self, session: SessionId, within: Span) -> Vec<Held> {
        let cut = |held: Held| held.span.intersection(within).map(|span| Held { span, ..held });
        self.table.held_by(session).into_iter().filter_map(cut).collect()
    }

    fn ask(&mut self, words: &[&str]) -> Vec<String> {
        let session = self.session(words[1]);
        self.next += 1;
        let ticket = Ticket(self.next);
        let asks = match words[0] {
            "get" => {
                let need = words::span(words[2]);
                let wish = words.iter().position(|word| *word == "wish");
                let wish = wish.map_or(need, |at| words::span(words[at + 1]));
                let wait = !words.contains(&"try");
                let mode = words::mode(words[3]);
                vec![Ask::Acquire(Acquire { ticket, need, wish, mode, wait })]
            }
            "hint" => {
                let names = words[2].split(',').map(words::name).collect();
                vec![Ask::Hint { ticket, names, mode: words::mode(words[3]) }]
            }
            "release" => {
                self.parts(session, words::span(words[2])).into_iter().map(Ask::Release).collect()
            }
            "downgrade" => {
                self.parts(session, words::span(words[2])).into_iter().map(Ask::Downgrade).collect()
            }
            "able" => vec![Ask::Able],
            "claim" => {
                let (claim, patience) = words::claim(words);
                vec![Ask::Claim { ticket, claim, patience }]
            }
            _ => vec![Ask::Cancel(Ticket(words[2].trim_start_matches('t').parse().unwrap()))],
        };
        let seq = Seq(self.next);
        // Whoever speaks here has heard of every move.
        let heard = self.table.view().into_iter().flat_map(|view| view.here);
        let heard = heard.map(|(group, by)| Ask::At(group, by));
        let asks = heard.filter(|_| words[0] != "able").chain(asks).collect();
        self.run(Command::Batch { session, seq, asks })
    }

    fn node(&mut self, words: &[&str]) -> Vec<String> {
        let session = self.session(words[1]);
        let path = NodePath::new(words[2]).unwrap();
        let version = words.iter().find_map(|word| word.strip_prefix("v="));
        let version = version.map(|version| version.parse().unwrap());
        let data = || words[3].trim_matches('"').to_owned().into();
        let op = match words[0] {
            "create" => {
                let make = Make {
                    ephemeral: words.contains(&"ephemeral"),
                    sequential: words.contains(&"sequential"),
                };
                Op::Create { path, data: data(), make, version }
            }
            "set" => Op::Set { path, data: data(), version },
            _ => Op::Delete { path, version },
        };
        self.next += 1;
        self.run(Command::Tree { session, seq: Seq(self.next), ops: vec![op] })
    }

    fn read(&self, path: &str) -> Vec<String> {
        let path = NodePath::new(path).unwrap();
        let ask =
            |what| self.table.tree().read(&Question { path: path.clone(), what, version: None });
        match (ask(What::Data), ask(What::Children)) {
            (Ok(mut node), Ok(with)) => {
                node.children = with.children;
                vec![words::node(&node, |session| self.name(session))]
            }
            (Err(refusal), _) | (_, Err(refusal)) => vec![refusal.to_string()],
        }
    }

    fn held(&self) -> Vec<String> {
        let rows = self.table.list_sessions();
        let row = |row: &crate::message::SessionRow| {
            let state = match (row.live, row.recoverer) {
                (true, _) => String::new(),
                (false, Some(by)) => format!(" (dead, {} recovers it)", self.name(by)),
                (false, None) => " (dead, nobody recovers it)".to_owned(),
            };
            let all = words::all(&self.table.held_by(row.session));
            format!("{}{state}: {all}", self.name(row.session))
        };
        rows.iter().map(row).collect()
    }

    fn claims(&self) -> Vec<String> {
        let rows = self.table.list_locks(&|_| Duration::ZERO, &|_| Duration::ZERO).claims;
        let row = |row: &crate::advisory::ClaimRow| {
            let claim = &row.claim;
            let verb = if row.waits { "waits for" } else { "has" };
            let (what, file) = (words::said_stretch(claim.stretch), claim.file);
            let mode = claim.mode.map_or("nothing", words::said_mode);
            let who = self.name(row.session);
            format!("{} of {who} {verb} {what} of file {file} {mode}", claim.by.0)
        };
        rows.iter().map(row).collect()
    }

    fn waiting(&self) -> Vec<String> {
        let none = |_| Duration::ZERO;
        let none_of = |_| Duration::ZERO;
        let rows = self.table.list_locks(&none, &none_of);
        let row = |row: &crate::message::WaiterRow| {
            let on: Vec<String> = row.on.iter().map(|session| self.name(*session)).collect();
            let (need, mode) = (words::said(row.need), words::said_mode(row.mode));
            format!("{} for {need} {mode}, which {} holds", self.name(row.session), on.join(" "))
        };
        rows.waiters.iter().map(row).collect()
    }
}
