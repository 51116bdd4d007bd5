//! A group in simulated time: a queue of happenings, members, network, disks, and the checks after each step.
//!
//! It does what happens; who makes things happen (clients, faults, an operator) are *actors*, whose turns it hands back
//! to the schedule. All order comes from the queue, all chance from the seed.

use std::collections::BTreeMap;
use std::time::Duration;

use ::raft::{Body, Event, MemberId, Message, ReadMode, Role, Status, Ticket, codec};
use bytes::Bytes;

use super::command::{Reply, Value};
use super::disk::{Done, Job};
use super::faults::{Fault, Struck};
use super::member::{Ask, Member};
use super::net::{Link, Net};
use crate::agenda::Agenda;
use crate::check::{self, Delta, Heard, Invariant, Logs, Seen, Step};
use crate::dice::Dice;
use crate::simulation::{Lines, Report};

enum Happening<A> {
    Deliver { link: Link, number: u64, step: u64, bytes: Bytes },
    Synced { place: usize, life: u64 },
    ChunkRead { place: usize, life: u64, event: Box<Event> },
    Wake { place: usize, life: u64, at: Duration },
    Poll { place: usize, life: u64 },
    Restart { place: usize },
    Actor(A),
}

/// What a client is told.
#[derive(Debug)]
pub(crate) enum Told {
    /// A command is done; a session's has a reply.
    Done(Ticket, Option<Reply>),
    /// A read of a key was answered.
    Value(Ticket, Option<Value>),
    /// Not here; perhaps there.
    Refused(Ticket, Option<MemberId>),
}

/// A group and its world. `A` is a turn of an actor.
pub(crate) struct Group<A> {
    pub(crate) now: Duration,
    pub(crate) dice: Dice,
    pub(crate) members: Vec<Member>,
    pub(crate) net: Net,
    pub(crate) struck: Struck,
    /// Disks that are slow, and until when.
    pub(crate) slow: BTreeMap<usize, Duration>,
    /// Events that members handled.
    pub(crate) events: u64,
    pub(crate) report: Report,
    /// Whom members take for the leader.
    pub(crate) hint: usize,
    /// Percent of events after which the driver takes its time before it polls.
    pub(crate) lazy: u64,
    /// The first thing that was seen to be wrong: which invariant, and how.
    pub(crate) wrong: Option<(&'static str, String)>,
    pub(crate) told: Vec<Told>,
    /// What each member was like after its last step.
    pub(crate) statuses: Vec<Option<Status>>,
    /// Crashed members come back only after at most so many milliseconds.
    pub(crate) absence: u64,
    logs: Logs,
    checks: Vec<Box<dyn Invariant>>,
    judged: Vec<u64>,
    seen: Seen,
    queue: Agenda<Happening<A>>,
    lines: Lines,
}

impl<A> Group<A> {
    pub(crate) fn new(dice: Dice, members: Vec<Member>, net: Net, lines: Option<usize>) -> Self {
        let checks = check::all();
        let count = members.len();
        let mut group = Self {
            now: Duration::ZERO,
            dice,
            net,
            struck: Struck::default(),
            slow: BTreeMap::new(),
            events: 0,
            report: Report::default(),
            hint: 0,
            lazy: 0,
            wrong: None,
            told: Vec::new(),
            statuses: vec![None; count],
            absence: 500,
            logs: Logs::new(count),
            judged: vec![0; checks.len()],
            checks,
            seen: Seen::default(),
            queue: Agenda::default(),
            lines: Lines::new(lines),
            members,
        };
        for place in 0..count {
            group.put(Duration::ZERO, Happening::Restart { place });
        }
        group
    }

    /// The report, whole, and the last lines of what happened.
    pub(crate) fn finish(mut self) -> (Report, Vec<String>) {
        self.report.count("schedules", 1);
        self.report.count("events", self.events);
        self.report.faults = self.struck.named();
        for (check, n) in self.checks.iter().zip(&self.judged) {
            self.report.judged.insert(check.name(), *n);
        }
        let lines = self.lines.take();
        (self.report, lines)
    }

    fn put(&mut self, at: Duration, happening: Happening<A>) {
        self.queue.put(at, happening);
    }

    /// An actor has its turn then.
    pub(crate) fn at(&mut self, at: Duration, actor: A) {
        self.put(at, Happening::Actor(actor));
    }

    /// Lets the next thing happen; the turn of an actor is the caller's to do. `None` if nothing is left.
    pub(crate) fn next(&mut self) -> Option<Option<A>> {
        let (at, happening) = self.queue.pop()?;
        self.now = at;
        match happening {
            Happening::Actor(actor) => return Some(Some(actor)),
            other => self.happen(other),
        }
        Some(None)
    }

    fn happen(&mut self, happening: Happening<A>) {
        let place = match &happening {
            Happening::Actor(_) => return,
            Happening::Restart { place } => return self.restart(*place),
            Happening::Deliver { link, .. } => link.1,
            Happening::Synced { place, life }
            | Happening::ChunkRead { place, life, .. }
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
            return self.put(self.members[place].paused, happening);
        }
        match happening {
            Happening::Deliver { link, number, step, bytes } => {
                if self.net.arrives(link, number, self.now, &mut self.struck) {
                    self.deliver(place, step, bytes);
                }
            }
            Happening::Synced { .. } => self.synced(place),
            Happening::ChunkRead { event, .. } => self.step(place, *event),
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
            Happening::Actor(_) | Happening::Restart { .. } => {}
        }
    }

    fn deliver(&mut self, place: usize, step: u64, bytes: Bytes) {
        match codec::decode(bytes) {
            Ok(message) => {
                let claims = matches!(message.body, Body::Append(_) | Body::Install(_));
                self.seen.heard =
                    claims.then_some(Heard { from: message.from, term: message.term, sent: step });
                self.step(place, Event::Received(message));
            }
            Err(error) => self.wrong = Some(("messages as bytes", error.to_string())),
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        self.lines.say(line);
    }

    /// Gives a member an event, does what it asks for, and judges.
    pub(crate) fn step(&mut self, place: usize, event: Event) {
        if self.members[place].node.is_none() {
            self.seen.heard = None;
            return;
        }
        let (now, id) = (self.now, self.members[place].id);
        self.note(|| format!("{now:?} {id:?} <- {event:?}"));
        self.events += 1;
        if let Event::Read { ticket, mode } = &event {
            self.seen.asked.push((*ticket, *mode));
        }
        let member = &mut self.members[place];
        member.handle(self.now, event);
        if self.dice.chance(self.lazy) {
            if !member.lazy {
                member.lazy = true;
                let life = member.life;
                let at = self.now + self.dice.millis(0, 2);
                self.put(at, Happening::Poll { place, life });
            }
        } else {
            self.drain(place);
        }
        self.judge(place);
    }

    /// A client reads a key at a member.
    pub(crate) fn read(&mut self, place: usize, ticket: Ticket, key: u8, mode: ReadMode) {
        let member = &mut self.members[place];
        if member.node.is_some() {
            member.reading.insert(ticket, key);
        }
        self.step(place, Event::Read { ticket, mode });
    }

    /// Does what a member asks for, unless it crashes in between.
    fn drain(&mut self, place: usize) {
        while let Some(effect) = self.members[place].poll() {
            let id = self.members[place].id;
            self.note(|| format!("    {id:?} -> {effect:?}"));
            for ask in self.members[place].perform(effect, &mut self.seen) {
                self.grant(place, ask);
            }
            if let Some(left) = &mut self.members[place].doom {
                *left -= 1;
                if *left == 0 {
                    self.fall(place, Fault::Crash);
                    return self.plan_return(place);
                }
            }
        }
        let member = &mut self.members[place];
        let life = member.life;
        if let Some(at) = member.deadline() {
            let at = at.max(self.now + Duration::from_micros(1));
            if member.wake.is_none_or(|wake| at < wake) {
                member.wake = Some(at);
                self.put(at, Happening::Wake { place, life, at });
            }
        }
    }

    fn grant(&mut self, place: usize, ask: Ask) {
        match ask {
            Ask::Write(job) => {
                if self.members[place].disk.spoil
                    && matches!(&job, Job::Persist(p) if !p.chunks.is_empty())
                {
                    self.struck.add(Fault::SpoiledChunk);
                }
                self.members[place].disk.write(job);
                self.sync(place);
            }
            Ask::Send(message) => self.send(place, &message),
            Ask::Read(event) => {
                let at = self.now + self.dice.millis(0, 3);
                let (life, event) = (self.members[place].life, Box::new(event));
                self.put(at, Happening::ChunkRead { place, life, event });
            }
            Ask::Hint(leader) => {
                let known = leader.map(|l| l.0 as usize - 1).filter(|l| *l < self.members.len());
                self.hint = known.unwrap_or_else(|| self.dice.pick(self.members.len()));
            }
            Ask::Elected => self.report.count("leaders elected", 1),
            Ask::Wrong(what) => {
                self.wrong.get_or_insert(("the driver's contract", what.to_owned()));
            }
        }
    }

    fn send(&mut self, place: usize, message: &Message) {
        let link = (place, (message.to.0 as usize).wrapping_sub(1));
        if link.1 >= self.members.len() {
            let what = format!("{message:?} is for nobody");
            self.wrong.get_or_insert(("the driver's contract", what));
            return;
        }
        let bytes = codec::encode(message);
        let (number, times) = self.net.send(link, self.now, &mut self.struck);
        let step = self.events;
        for at in times {
            self.put(at, Happening::Deliver { link, number, step, bytes: bytes.clone() });
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
        self.put(self.now + takes, Happening::Synced { place, life });
    }

    fn synced(&mut self, place: usize) {
        if self.members[place].node.is_none() {
            return;
        }
        let life = self.members[place].life;
        for done in self.members[place].disk.done() {
            let event = match done {
                Done::Persisted(sequence) => Event::Persisted(sequence),
                Done::Checkpoint(name) => Event::CheckpointTaken(name),
                Done::Damaged(name) => Event::CheckpointDamaged(name),
            };
            // It may crash between two reports.
            if self.members[place].life == life {
                self.step(place, event);
            }
        }
        self.sync(place);
    }

    /// Stops a member, which loses what it had not synced, and plans its return.
    pub(crate) fn crash(&mut self, place: usize, fault: Fault) {
        if self.members[place].node.is_some() {
            self.fall(place, fault);
            self.plan_return(place);
            self.judge(place);
        }
    }

    /// Stops a member for good, which loses what it had not synced.
    pub(crate) fn kill(&mut self, place: usize, fault: Fault) {
        self.fall(place, fault);
        self.judge(place);
    }

    fn fall(&mut self, place: usize, fault: Fault) {
        let member = &mut self.members[place];
        member.stop();
        self.struck.add(fault);
        if member.disk.crash(&mut self.dice) {
            self.struck.add(Fault::LostWrites);
        }
        let (now, id) = (self.now, self.members[place].id);
        self.note(|| format!("{now:?} {id:?} crashes"));
    }

    fn plan_return(&mut self, place: usize) {
        let at = self.now + self.dice.millis(0, self.absence);
        self.put(at, Happening::Restart { place });
    }

    /// Starts a member that is down.
    pub(crate) fn restart(&mut self, place: usize) {
        let seed = self.dice.roll();
        let member = &mut self.members[place];
        if member.node.is_some() {
            return;
        }
        if let Err(error) = member.start(seed) {
            self.wrong.get_or_insert(("what a disk may hold", error.to_string()));
            return;
        }
        self.step(place, Event::Wake);
    }

    /// The place of the leader of the newest term, if one is up.
    pub(crate) fn leader(&self) -> Option<usize> {
        let leads = |s: &&Status| matches!(s.role, Role::Leader { .. });
        let newest = self.statuses.iter().flatten().filter(leads).max_by_key(|s| s.term)?;
        Some(newest.id.0 as usize - 1)
    }

    /// Counts what came out of one step.
    fn count(&mut self, seen: &Seen) {
        for (what, times) in [
            ("commands acknowledged", seen.acknowledged.len() as u64),
            ("reads answered", seen.answered.len() as u64),
            ("checkpoints installed", u64::from(seen.restored.is_some())),
            ("changes of the group", seen.changed),
            ("transfers of leadership", seen.transferred),
        ] {
            self.report.count(what, times);
        }
    }

    /// Checks every invariant.
    fn judge(&mut self, place: usize) {
        let mut seen = std::mem::take(&mut self.seen);
        self.count(&seen);
        let node = self.members[place].node.as_ref();
        let before = std::mem::replace(&mut self.statuses[place], node.map(|n| n.status()));
        let delta = match self.logs.look(place, self.members[place].life, node, self.events) {
            Ok(delta) => delta,
            Err(what) => {
                self.wrong.get_or_insert(("log matching", what));
                Delta::default()
            }
        };
        let step = Step {
            number: self.events,
            now: self.now,
            members: &self.members,
            statuses: &self.statuses,
            before: before.as_ref(),
            logs: &self.logs,
            delta,
            moved: place,
            seen: &seen,
        };
        for (check, judged) in self.checks.iter_mut().zip(&mut self.judged) {
            match check.check(&step) {
                Ok(yes) => *judged += u64::from(yes),
                Err(what) => {
                    self.wrong.get_or_insert((check.name(), what));
                }
            }
        }
        self.told.extend(seen.acknowledged.drain(..).map(|a| Told::Done(a.ticket, a.reply)));
        let values = seen.answered.drain(..);
        self.told.extend(values.filter_map(|a| a.value.map(|v| Told::Value(a.ticket, v))));
        self.told.extend(seen.refused.drain(..).map(|(ticket, to)| Told::Refused(ticket, to)));
    }
}
