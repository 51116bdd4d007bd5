//! One schedule: a group, the actors that keep it busy and do it harm, and what is demanded of it.
//!
//! It runs with faults until enough has happened, then heals everything and demands progress; at the end the histories of
//! the sessions are judged. All chance comes from the seed, all order from the group's queue.

mod nemesis;
mod operator;
mod sessions;

use std::time::Duration;

use ::raft::{Config, Event, MemberId, ReadMode, Status, Ticket};

use super::faults::{Fault, choose};
use super::group::{Group, Told};
use super::member::Member;
use super::net::Net;
use super::store::Store;
use super::{Command, Machine, Options, Report, StateMachine};
use crate::Error;
use crate::dice::Dice;
use crate::wgl::{self, Verdict};
use sessions::{Asked, Sessions};

/// Beyond this the schedule is stuck in boredom.
const MOST: u64 = 50_000;
/// How long a healed group may take. Long, because some schedules send one entry a message over links that are slow and
/// reorder, with a thousand entries to catch up.
const PATIENCE: Duration = Duration::from_secs(300);
/// Placements that the search for an order may try on one key.
const BUDGET: u64 = 2_000_000;

/// A turn of an actor.
#[derive(Debug)]
enum Actor {
    /// Clients without a session send a burst.
    Burst,
    /// A fault strikes.
    Fault,
    /// A link that flaps changes: both ways between two places, so many times more.
    Flap(usize, usize, u64),
    /// The operator changes the group or hands leadership on.
    Operator,
    /// A session acts, or loses its patience.
    Session { session: usize, turn: u64 },
    /// A session's message arrives at a member.
    Ask { place: usize, asked: Box<Asked> },
    /// A member's answer arrives at a session.
    Answer(Told),
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
    group: Group<Actor>,
    sessions: Sessions,
    chosen: Vec<Fault>,
    /// Whether an operator changes the group.
    moves: bool,
    ticket: Ticket,
    /// The longest time between two faults, in milliseconds.
    calm: u64,
    /// Percent of clients that ask the member that they take for the leader.
    loyal: u64,
    target: u64,
    /// Faults that may still strike.
    strikes: u64,
    healed: Option<Healed>,
}

impl Schedule {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed);
        let size = [3, 3, 3, 3, 3, 3, 5, 5, 5, 4, 2, 1][dice.pick(12)];
        let moves = dice.chance(50);
        let places = if moves { (size + dice.between(0, 4)).clamp(2, 7) } else { size };
        let longest = [4, 4, 20, 50][dice.pick(4)];
        let members =
            members(&mut dice, size, places, &options.without, &|_| Box::new(Machine::default()));
        let drifts = members.1;
        let net = Net::new(dice.fork(), longest);
        let mut group = Group::new(dice.fork(), members.0, net, options.lines);
        if drifts {
            group.struck.add(Fault::Drift);
        }
        group.lazy = dice.between(0, 40);
        let mut chosen = choose(&mut dice, size as usize, moves);
        chosen.retain(|fault| !options.without.contains(fault));
        Self {
            seed,
            calm: [60, 300, 300][dice.pick(3)],
            loyal: dice.between(40, 90),
            target: dice.between(500, 1500),
            sessions: Sessions::new(&mut dice, places as usize),
            moves,
            ticket: Ticket::ZERO,
            strikes: options.strikes.unwrap_or(u64::MAX),
            healed: None,
            chosen,
            group,
            dice,
        }
    }

    /// Runs to the end; also how many faults were let loose, and the last lines of what happened.
    pub(super) fn run(mut self) -> (Result<Report, Error>, Vec<String>) {
        let mut end = self.play();
        if end.is_ok() {
            end = self.judge_history();
        }
        let (report, lines) = self.group.finish();
        (end.map(|()| report), lines)
    }

    fn play(&mut self) -> Result<(), Error> {
        self.group.at(Duration::from_millis(1), Actor::Burst);
        self.group.at(Duration::from_millis(50), Actor::Fault);
        if self.moves {
            self.group.at(Duration::from_millis(400), Actor::Operator);
        }
        for session in 0..self.sessions.count() {
            self.group.at(Duration::from_millis(2), Actor::Session { session, turn: 0 });
        }
        while let Some(turn) = self.group.next() {
            if let Some(actor) = turn {
                self.act(actor);
            }
            self.hear();
            if let Some((invariant, what)) = self.group.wrong.take() {
                let step = self.group.events;
                return Err(Error::Violated { seed: self.seed, step, invariant, what });
            }
            if self.over()? {
                return Ok(());
            }
        }
        Err(self.stuck("nothing is left to happen"))
    }

    fn act(&mut self, actor: Actor) {
        match actor {
            Actor::Burst => self.burst(),
            Actor::Fault => self.strike(),
            Actor::Flap(one, other, times) => self.flap(one, other, times),
            Actor::Operator => self.operate(),
            Actor::Session { session, turn } => self.session(session, turn),
            Actor::Ask { place, asked } => self.arrive(place, asked),
            Actor::Answer(told) => self.answer(told),
        }
    }

    /// Sends what members told to their clients.
    fn hear(&mut self) {
        for told in std::mem::take(&mut self.group.told) {
            let ticket = match &told {
                Told::Done(ticket, _) | Told::Value(ticket, _) | Told::Refused(ticket, _) => {
                    *ticket
                }
            };
            if let Some(healed) = &mut self.healed
                && ticket >= healed.first
            {
                healed.wrote |= matches!(told, Told::Done(..));
                healed.read |= matches!(told, Told::Value(..));
            }
            if self.sessions.waits_for(ticket) {
                let at = self.group.now + self.group.net.client();
                if !self.loses() {
                    self.group.at(at, Actor::Answer(told));
                }
            }
        }
    }

    /// Whether a message between a client and a member is lost.
    fn loses(&mut self) -> bool {
        let lossy = self.healed.is_none() && self.chosen.contains(&Fault::Loss);
        let loses = lossy && self.dice.chance(4);
        if loses {
            self.group.struck.add(Fault::Loss);
        }
        loses
    }

    /// Whether everything was seen that a schedule must show.
    fn over(&mut self) -> Result<bool, Error> {
        let events = self.group.events;
        let Some(healed) = &self.healed else {
            let kinds = self.group.struck.kinds();
            if events >= self.target && (kinds >= 3 || self.strikes == 0) {
                self.heal();
            } else if events > MOST {
                return Err(Error::Tame { seed: self.seed, events, kinds });
            }
            return Ok(false);
        };
        if healed.wrote && healed.read && self.sessions.are_quiet() && self.agrees().is_none() {
            return Ok(true);
        }
        if self.group.now > healed.at + PATIENCE {
            let what = format!(
                "a command {}, a read {}, sessions are {}, {}",
                if healed.wrote { "was acknowledged" } else { "was not acknowledged" },
                if healed.read { "was answered" } else { "was not answered" },
                if self.sessions.are_quiet() { "quiet" } else { "waiting" },
                self.agrees().unwrap_or_else(|| "members agree".to_owned()),
            );
            return Err(self.stuck(&what));
        }
        Ok(false)
    }

    /// Why the members of the group are not all at the same place under one leader.
    fn agrees(&self) -> Option<String> {
        let Some(leader) = self.group.leader() else { return Some("nobody leads".to_owned()) };
        let Some(status) = &self.group.statuses[leader] else { return Some(String::new()) };
        if status.configuration.is_joint() || status.changing {
            return Some(format!("the change to {:?} does not end", status.configuration));
        }
        let reached = self.group.members[leader].machine.index();
        let lags = |id: &MemberId| {
            let place = id.0 as usize - 1;
            let at = |s: &Status| s.commit == reached && s.applied == reached && !s.rebuilding;
            self.group.members[place].machine.index() != reached
                || !self.group.statuses[place].as_ref().is_some_and(at)
        };
        let lagging: Vec<MemberId> =
            status.configuration.members().into_iter().filter(lags).collect();
        (!lagging.is_empty())
            .then(|| format!("{lagging:?} are not where {:?} is, at {reached:?}", status.id))
    }

    fn stuck(&self, what: &str) -> Error {
        Error::Stuck { seed: self.seed, step: self.group.events, what: what.to_owned() }
    }

    fn judge_history(&mut self) -> Result<(), Error> {
        let history = self.sessions.take_history();
        let report = &mut self.group.report;
        report.count("histories judged", 1);
        report.count("operations in them", history.len() as u64);
        report.count("with unknown outcome", sessions::unknown(&history));
        let what = match wgl::check(&Store, &history, BUDGET) {
            Verdict::Linearizable { .. } => return Ok(()),
            Verdict::Violated { report } => report,
            Verdict::Exhausted { key } => {
                format!("the search for an order on key {key} was given up")
            }
        };
        let step = self.group.events;
        Err(Error::Violated { seed: self.seed, step, invariant: "linearizable histories", what })
    }

    fn next_ticket(&mut self) -> Ticket {
        self.ticket = self.ticket.next();
        self.ticket
    }

    fn read_mode(&mut self) -> ReadMode {
        if self.dice.chance(60) { ReadMode::Quorum } else { ReadMode::Lease }
    }

    /// Clients without a session do something, mostly at the member that they take for the leader.
    fn burst(&mut self) {
        if self.healed.as_ref().is_some_and(|h| h.wrote && h.read) {
            return;
        }
        let next = self.group.now + self.dice.millis(1, 25);
        self.group.at(next, Actor::Burst);
        let count = self.group.members.len();
        let hint = self.group.hint;
        let place = if self.dice.chance(self.loyal) { hint } else { self.dice.pick(count) };
        let member = &self.group.members[place];
        if member.node.is_none() || member.paused > self.group.now {
            self.group.hint = self.dice.pick(count);
            return;
        }
        let write = self.dice.chance(60);
        let mode = self.read_mode();
        for _ in 0..self.dice.between(1, 6) {
            let ticket = self.next_ticket();
            if write {
                let command = Command { ticket, step: None }.encode();
                self.group.step(place, Event::Propose { ticket, command });
            } else {
                self.group.read(place, ticket, 0, mode);
            }
        }
    }
}

/// The members of a schedule, and whether their clocks drift apart.
pub(crate) fn members(
    dice: &mut Dice,
    size: u64,
    places: u64,
    without: &[Fault],
    machine: &dyn Fn(MemberId) -> Box<dyn StateMachine>,
) -> (Vec<Member>, bool) {
    let voters: Vec<MemberId> = (1..=size).map(MemberId).collect();
    // In thousandths, to either side.
    let drift = if dice.chance(30) { [25, 50, 100][dice.pick(3)] } else { 0 };
    let drift = if without.contains(&Fault::Drift) { 0 } else { drift };
    let keep = dice.between(0, 30);
    let every = dice.between(5, 60);
    let window = dice.between(1, 9) as usize;
    // Often one entry a message: then logs differ in more ways.
    let batch_bytes = if dice.chance(50) { 1 } else { dice.between(1, 400) } as usize;
    let chunk_bytes = [16, 50, 200, 4000][dice.pick(4)];
    let chunk_window = dice.between(1, 5);
    let uncommitted_bytes = if dice.chance(20) { 600 } else { 1 << 20 };
    let members = (1..=places).map(MemberId).map(|id| {
        let config = Config {
            election_min: Duration::from_millis(100),
            election_max: Duration::from_millis(200),
            heartbeat: Duration::from_millis(25),
            drift: 2 * drift as u32,
            batch_bytes,
            window,
            chunk_bytes,
            chunk_window,
            keep,
            uncommitted_bytes,
            catch_up_patience: Duration::from_millis(1500),
            ..Config::new(id, if id.0 <= size { voters.clone() } else { Vec::new() })
        };
        let rate = dice.between(1000 - drift, 1001 + drift);
        Member::new(config, rate, every, machine(id))
    });
    (members.collect(), drift > 0)
}
