//! One schedule: a queue of happenings in simulated time, and after each step the checks.
//!
//! It runs with faults until enough has happened, then heals everything and demands progress. All chance comes from
//! the seed, all order from the queue.

mod nemesis;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use ::raft::{Config, Event, MemberId, ReadMode, Ticket, codec};
use bytes::Bytes;

use super::Report;
use super::disk::Done;
use super::faults::{Fault, Struck, choose};
use super::machine::Machine;
use super::member::{Ask, Member};
use super::net::{Link, Net};
use crate::Error;
use crate::check::{self, Invariant, Seen, Step};
use crate::dice::Dice;

/// Beyond this the schedule is stuck in boredom.
const MOST: u64 = 50_000;
/// How long a healed group may take. Long, because some schedules send one entry a message over links that are slow and
/// reorder, with hundreds of entries to catch up.
const PATIENCE: Duration = Duration::from_secs(60);

enum Happening {
    Deliver { link: Link, number: u64, bytes: Bytes },
    Synced { place: usize, life: u64 },
    Wake { place: usize, life: u64, at: Duration },
    Poll { place: usize, life: u64 },
    Restart { place: usize },
    Client,
    Fault,
}

/// What is demanded after healing.
struct Healed {
    at: Duration,
    /// Tickets from here on were given after healing.
    first: Ticket,
    wrote: bool,
    read: bool,
}

pub(super) struct Schedule {
    seed: u64,
    dice: Dice,
    now: Duration,
    queue: BTreeMap<(Duration, u64), Happening>,
    queued: u64,
    members: Vec<Member>,
    net: Net,
    struck: Struck,
    chosen: Vec<Fault>,
    slow: BTreeMap<usize, Duration>,
    checks: Vec<Box<dyn Invariant>>,
    seen: Seen,
    report: Report,
    /// Percent of events after which the driver takes its time before it polls.
    lazy: u64,
    ticket: Ticket,
    /// The longest time between two faults, in milliseconds.
    calm: u64,
    /// Percent of clients that ask the member that they take for the leader.
    loyal: u64,
    hint: usize,
    target: u64,
    healed: Option<Healed>,
    trace: Option<(usize, VecDeque<String>)>,
    wrong: Option<(&'static str, String)>,
}

impl Schedule {
    pub(super) fn new(seed: u64, lines: Option<usize>) -> Self {
        let mut dice = Dice::new(seed);
        let size = [3, 3, 3, 3, 3, 3, 5, 5, 5, 4, 2, 1][dice.pick(12)];
        let voters: Vec<MemberId> = (1..=size).map(MemberId).collect();
        let drift = dice.chance(30);
        let keep = dice.between(0, 30);
        let every = dice.between(5, 60);
        let window = dice.between(1, 9) as usize;
        // Often one entry a message: then logs differ in more ways.
        let batch_bytes = if dice.chance(50) { 1 } else { dice.between(1, 400) } as usize;
        let longest = [4, 4, 20, 50][dice.pick(4)];
        let mut struck = Struck::default();
        if drift {
            struck.add(Fault::Drift);
        }
        let members = voters.iter().map(|id| {
            let config = Config {
                election_min: Duration::from_millis(100),
                election_max: Duration::from_millis(200),
                heartbeat: Duration::from_millis(25),
                batch_bytes,
                window,
                keep,
                // A checkpoint is a few chunks; clocks differ by a tenth.
                chunk_bytes: 5,
                chunk_window: 2,
                drift: 110,
                ..Config::new(*id, voters.clone())
            };
            let rate = if drift { dice.between(950, 1050) } else { 1000 };
            Member::new(config, rate, every)
        });
        let members: Vec<Member> = members.collect();
        Self {
            seed,
            chosen: choose(&mut dice, members.len()),
            net: Net::new(dice.fork(), longest),
            calm: [60, 300, 300][dice.pick(3)],
            loyal: dice.between(40, 90),
            target: dice.between(500, 1500),
            lazy: dice.between(0, 40),
            now: Duration::ZERO,
            queue: BTreeMap::new(),
            queued: 0,
            members,
            struck,
            slow: BTreeMap::new(),
            checks: check::all(),
            seen: Seen::default(),
            report: Report { schedules: 1, ..Report::default() },
            ticket: Ticket::ZERO,
            hint: 0,
            healed: None,
            trace: lines.map(|n| (n, VecDeque::new())),
            wrong: None,
            dice,
        }
    }

    pub(super) fn run(mut self) -> (Result<Report, Error>, Vec<String>) {
        let end = self.go();
        self.report.faults = self.struck.named();
        let lines = self.trace.map(|(_, lines)| lines.into()).unwrap_or_default();
        (end.map(|()| self.report), lines)
    }

    fn go(&mut self) -> Result<(), Error> {
        for place in 0..self.members.len() {
            self.at(Duration::ZERO, Happening::Restart { place });
        }
        self.at(Duration::from_millis(1), Happening::Client);
        self.at(Duration::from_millis(50), Happening::Fault);
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            self.now = at;
            self.happen(happening);
            if let Some((invariant, what)) = self.wrong.take() {
                let step = self.report.events;
                return Err(Error::Violated { seed: self.seed, step, invariant, what });
            }
            if self.over()? {
                return Ok(());
            }
        }
        Err(self.stuck("nothing is left to happen"))
    }

    /// Whether everything was seen that a schedule must show.
    fn over(&mut self) -> Result<bool, Error> {
        let events = self.report.events;
        let Some(healed) = &self.healed else {
            let kinds = self.struck.kinds();
            if events >= self.target && kinds >= 3 {
                self.heal();
            } else if events > MOST {
                return Err(Error::Tame { seed: self.seed, events, kinds });
            }
            return Ok(false);
        };
        let newest = self.members.iter().map(|m| m.machine.index).max();
        let equal = self.members.iter().all(|m| Some(m.machine.index) == newest);
        if healed.wrote && healed.read && equal && self.members.iter().all(|m| m.node.is_some()) {
            return Ok(true);
        }
        if self.now > healed.at + PATIENCE {
            let what = format!(
                "a command {}, a read {}, machines at {:?}",
                if healed.wrote { "was acknowledged" } else { "was not acknowledged" },
                if healed.read { "was answered" } else { "was not answered" },
                self.members.iter().map(|m| m.machine.index).collect::<Vec<_>>()
            );
            return Err(self.stuck(&what));
        }
        Ok(false)
    }

    fn stuck(&self, what: &str) -> Error {
        Error::Stuck { seed: self.seed, step: self.report.events, what: what.to_owned() }
    }

    fn at(&mut self, at: Duration, happening: Happening) {
        self.queued += 1;
        self.queue.insert((at, self.queued), happening);
    }

    fn happen(&mut self, happening: Happening) {
        let place = match &happening {
            Happening::Client => return self.client(),
            Happening::Fault => return self.strike(),
            Happening::Restart { place } => return self.restart(*place),
            Happening::Deliver { link, .. } => link.1,
            Happening::Synced { place, life }
            | Happening::Wake { place, life, .. }
            | Happening::Poll { place, life } => {
                if self.members[*place].life != *life {
                    return;
                }
                *place
            }
        };
        if self.members[place].paused > self.now {
            // Its queue waits with it.
            return self.at(self.members[place].paused, happening);
        }
        match happening {
            Happening::Deliver { link, number, bytes } => {
                if !self.net.arrives(link, number, self.now, &mut self.struck) {
                    return;
                }
                match codec::decode(bytes) {
                    Ok(message) => self.step(place, Event::Received(message)),
                    Err(error) => self.wrong = Some(("messages as bytes", error.to_string())),
                }
            }
            Happening::Synced { .. } => self.synced(place),
            Happening::Wake { at, .. } => {
                if self.members[place].wake == Some(at) {
                    self.members[place].wake = None;
                    self.step(place, Event::Wake);
                }
            }
            Happening::Poll { .. } => {
                self.members[place].lazy = false;
                self.drain(place);
                self.judge(place);
            }
            Happening::Client | Happening::Fault | Happening::Restart { .. } => {}
        }
    }

    /// Gives a member an event, does what it asks for, and judges.
    fn step(&mut self, place: usize, event: Event) {
        let member = &mut self.members[place];
        if member.node.is_none() {
            return;
        }
        if let Some((most, lines)) = &mut self.trace {
            lines.push_back(format!("{:?} {:?} <- {event:?}", self.now, member.id));
            if lines.len() > *most {
                lines.pop_front();
            }
        }
        self.report.events += 1;
        if let Event::Read { ticket, .. } = &event {
            self.seen.asked.push(*ticket);
        }
        member.handle(self.now, event);
        if self.dice.chance(self.lazy) {
            if !member.lazy {
                member.lazy = true;
                let life = member.life;
                let at = self.now + self.dice.millis(0, 2);
                self.at(at, Happening::Poll { place, life });
            }
        } else {
            self.drain(place);
        }
        self.judge(place);
    }

    /// Does what a member asks for, unless it crashes in between.
    fn drain(&mut self, place: usize) {
        while let Some((effect, asks)) = self.members[place].poll(&mut self.seen) {
            if let Some((most, lines)) = &mut self.trace {
                lines.push_back(format!("    {:?} -> {effect:?}", self.members[place].id));
                if lines.len() > *most {
                    lines.pop_front();
                }
            }
            for ask in asks {
                self.grant(place, ask);
            }
            if let Some(left) = &mut self.members[place].doom {
                *left -= 1;
                if *left == 0 {
                    return self.crash(place, Fault::Crash);
                }
            }
        }
        let member = &mut self.members[place];
        let life = member.life;
        if let Some(at) = member.deadline() {
            let at = at.max(self.now + Duration::from_micros(1));
            if member.wake.is_none_or(|wake| at < wake) {
                member.wake = Some(at);
                self.at(at, Happening::Wake { place, life, at });
            }
        }
    }

    /// Begins a sync, if the disk is free and something waits.
    fn sync(&mut self, place: usize) {
        if !self.members[place].disk.begin() {
            return;
        }
        let slow = self.slow.get(&place).is_some_and(|until| self.now < *until);
        let takes = if slow { self.dice.millis(20, 250) } else { self.dice.millis(0, 3) };
        if slow {
            self.struck.add(Fault::SlowDisk);
        }
        let life = self.members[place].life;
        self.at(self.now + takes, Happening::Synced { place, life });
    }

    fn synced(&mut self, place: usize) {
        if self.members[place].node.is_none() {
            return;
        }
        for done in self.members[place].disk.done() {
            let event = match done {
                Done::Persisted(sequence) => Event::Persisted(sequence),
                Done::Checkpoint(checkpoint) => Event::CheckpointTaken(checkpoint),
            };
            self.step(place, event);
        }
        self.sync(place);
    }

    fn grant(&mut self, place: usize, ask: Ask) {
        match ask {
            Ask::Write(job) => {
                self.members[place].disk.write(job);
                self.sync(place);
            }
            Ask::Send(message) => {
                let link = (place, message.to.0 as usize - 1);
                let bytes = codec::encode(&message);
                let (number, times) = self.net.send(link, self.now, &mut self.struck);
                for at in times {
                    self.at(at, Happening::Deliver { link, number, bytes: bytes.clone() });
                }
            }
            Ask::Read { to, checkpoint, offset, limit } => {
                let event = self.members[place].disk.read(to, checkpoint, offset, limit);
                self.members[place].handle(self.now, event);
            }
            Ask::Hint(leader) => {
                self.hint = leader.map_or(self.dice.pick(self.members.len()), |l| l.0 as usize - 1);
            }
            Ask::Elected => self.report.elected += 1,
            Ask::Wrong(what) => self.wrong = Some(("the driver's contract", what.to_owned())),
        }
    }

    /// Checks every invariant.
    fn judge(&mut self, place: usize) {
        let seen = std::mem::take(&mut self.seen);
        self.report.acknowledged += seen.acknowledged.len() as u64;
        self.report.answered += seen.answered.len() as u64;
        self.report.installed += u64::from(seen.restored.is_some());
        if let Some(healed) = &mut self.healed {
            healed.wrote |= seen.acknowledged.iter().any(|a| a.ticket >= healed.first);
            healed.read |= seen.answered.iter().any(|(ticket, _)| *ticket >= healed.first);
        }
        let step = Step { members: &self.members, moved: place, seen: &seen };
        for check in &mut self.checks {
            match check.check(&step) {
                Ok(judged) => {
                    *self.report.judged.entry(check.name()).or_default() += u64::from(judged);
                }
                Err(what) => {
                    self.wrong.get_or_insert((check.name(), what));
                }
            }
        }
    }

    /// A client does something, mostly at the member that it takes for the leader.
    fn client(&mut self) {
        let done = self.healed.as_ref().is_some_and(|h| h.wrote && h.read);
        if done {
            return;
        }
        let next = self.now + self.dice.millis(1, 25);
        self.at(next, Happening::Client);
        let count = self.members.len();
        let place = if self.dice.chance(self.loyal) { self.hint } else { self.dice.pick(count) };
        let member = &self.members[place];
        if member.node.is_none() || member.paused > self.now {
            self.hint = self.dice.pick(count);
            return;
        }
        let write = self.dice.chance(60);
        for _ in 0..self.dice.between(1, 6) {
            self.ticket = self.ticket.next();
            let ticket = self.ticket;
            self.step(
                place,
                if write {
                    Event::Propose { ticket, command: Machine::command(ticket) }
                } else {
                    Event::Read { ticket, mode: ReadMode::Quorum }
                },
            );
        }
    }
}
