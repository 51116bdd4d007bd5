//! The consensus core alone: three members in one thread, messages in memory, a disk that syncs at
//! once. What it measures is the cost of the protocol itself, per command.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use bytes::Bytes;
use clap::Args;
use raft::{
    Checkpoint, Config, Effect, Event, Index, MemberId, Message, Node, Position, Role, Stored,
    Ticket,
};
use serde::Serialize;

/// A checkpoint is reported after so many entries, so that the log in memory stays bounded.
const CHECKPOINT: u64 = 100_000;

/// How the core is driven.
#[derive(Args)]
pub(crate) struct Options {
    /// Members of the group.
    #[arg(long, default_value_t = 3)]
    members: u64,
    /// Commands that are proposed before the effects are done: what comes in during one sync.
    #[arg(long, default_value_t = 256)]
    batch: u64,
    /// Bytes of a command.
    #[arg(long, default_value_t = 16)]
    bytes: usize,
    /// How long to measure, after a second of warming up.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// One line of JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was measured.
#[derive(Serialize)]
struct Row {
    members: u64,
    batch: u64,
    bytes: usize,
    /// Applied on the leader.
    commands: u64,
    seconds: f64,
    commands_per_second: f64,
    nanoseconds_per_command: f64,
    messages: u64,
}

struct Member {
    node: Node,
    checkpointed: u64,
    applied: Position,
    commands: u64,
}

struct Group {
    members: Vec<Member>,
    mail: VecDeque<Message>,
    now: Duration,
    messages: u64,
}

impl Group {
    fn new(size: u64) -> Result<Self> {
        let voters: Vec<MemberId> = (1..=size).map(MemberId).collect();
        let mut members = Vec::new();
        for id in &voters {
            let config = Config::new(*id, voters.clone());
            let node = Node::new(config, id.0, Stored::default())?;
            let applied = Position::default();
            members.push(Member { node, checkpointed: 0, applied, commands: 0 });
        }
        Ok(Self { members, mail: VecDeque::new(), now: Duration::ZERO, messages: 0 })
    }

    fn event(&mut self, place: usize, event: Event) {
        self.members[place].node.handle(self.now, event);
    }

    /// Does everything that a member asks for.
    fn drain(&mut self, place: usize) {
        while let Some(effect) = self.members[place].node.poll() {
            match effect {
                Effect::Send(message) => {
                    self.messages += 1;
                    self.mail.push_back(message);
                }
                Effect::Persist(persist) => self.event(place, Event::Persisted(persist.sequence)),
                Effect::Apply(entries) => {
                    let member = &mut self.members[place];
                    member.commands += entries.len() as u64;
                    member.applied = entries.last().map_or(member.applied, |e| e.position());
                }
                _ => {}
            }
        }
        let member = &mut self.members[place];
        if member.applied.index.0 >= member.checkpointed + CHECKPOINT {
            member.checkpointed = member.applied.index.0;
            let configuration = member.node.status().configuration;
            let last = member.applied;
            let checkpoint = Checkpoint { last, configuration, size: 0, digest: 0 };
            self.event(place, Event::CheckpointTaken(checkpoint));
        }
    }

    fn deliver(&mut self) {
        while let Some(message) = self.mail.pop_front() {
            let place = (message.to.0 - 1) as usize;
            self.event(place, Event::Received(message));
            self.drain(place);
        }
    }

    /// Elects the first member.
    fn elect(&mut self) -> Result<()> {
        for place in 0..self.members.len() {
            self.event(place, Event::Wake);
            self.drain(place);
        }
        if let Some(due) = self.members[0].node.deadline() {
            self.now = due;
            self.event(0, Event::Wake);
            self.drain(0);
        }
        self.deliver();
        let role = self.members[0].node.status().role;
        ensure!(role == Role::Leader { ready: true }, "the first member does not lead: {role:?}");
        Ok(())
    }

    fn batch(&mut self, size: u64, command: &Bytes) {
        for ticket in 0..size {
            self.event(0, Event::Propose { ticket: Ticket(ticket), command: command.clone() });
        }
        self.drain(0);
        self.deliver();
    }
}

/// Measures, and prints a row.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut group = Group::new(options.members)?;
    group.elect()?;
    let command = Bytes::from(vec![7; options.bytes]);
    let run = |group: &mut Group, length: Duration| {
        let (begun, before) = (Instant::now(), group.members[0].commands);
        while begun.elapsed() < length {
            for _ in 0..16 {
                group.batch(options.batch, &command);
            }
            group.now += Duration::from_millis(1);
        }
        (group.members[0].commands - before, begun.elapsed().as_secs_f64())
    };
    run(&mut group, Duration::from_secs(1));
    let messages = group.messages;
    let (commands, seconds) = run(&mut group, Duration::from_secs(options.seconds));
    let status = group.members[0].node.status();
    let applied = group.members.iter().map(|m| m.applied.index).min();
    ensure!(status.commit > Index(commands), "the leader committed {} only", status.commit);
    ensure!(applied > Some(Index(commands)), "a follower applied {applied:?} only");
    let row = Row {
        members: options.members,
        batch: options.batch,
        bytes: options.bytes,
        commands,
        seconds,
        commands_per_second: commands as f64 / seconds,
        nanoseconds_per_command: seconds * 1e9 / commands as f64,
        messages: group.messages - messages,
    };
    if options.json {
        println!("{}", serde_json::to_string(&row)?);
    } else {
        println!("| members | batch | bytes | commands/s | ns a command | commands a message |");
        println!("|---|---|---|---|---|---|");
        println!(
            "| {} | {} | {} | {:.0} | {:.0} | {:.1} |",
            row.members,
            row.batch,
            row.bytes,
            row.commands_per_second,
            row.nanoseconds_per_command,
            row.commands as f64 / row.messages.max(1) as f64
        );
    }
    Ok(())
}
