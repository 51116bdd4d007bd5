//! One schedule: coordinators on a simulated group, clients, the faults, and what is demanded in the end.
//!
//! The group's queue is the order of everything: tasks run until none is ready, then the next thing happens, be it a
//! message between members, a sync of a disk, a timer of some machine or a fault.

mod coordinators;
mod faults;
mod seats;

use std::{sync::Arc, time::Duration};

use ::raft::{Index, MemberId, Status};
use lockservice::Shard;
use parking_lot::Mutex;
use world::World;

use super::{
    check::Judge,
    engine::Wishes,
    history::{Lock, Node},
    machine::{Locks, Replica},
    net::Links,
    shards::Side,
    work::{LIVENESS, Mark, Stage},
};
use crate::{
    Error, Report,
    dice::Dice,
    executor::{Executor, MachineId, Pace},
    raft::{Options, StateMachine, faults::Fault, group::Group, members, net::Net},
    wgl::{self, Model, Operation, Outcome, Verdict},
};
use coordinators::Coordinator;
use faults::Trouble;
use seats::Seat;

/// The lease of a session: longer than a router's patience with a silent coordinator.
const LEASE_MILLIS: u64 = 5_000;
const LEASE: Duration = Duration::from_millis(LEASE_MILLIS);
/// How long a healed cluster may take for everything.
const PATIENCE: Duration = Duration::from_secs(240);
/// Beyond this the schedule is stuck in boredom.
const LONGEST: Duration = Duration::from_secs(120);
/// Placements that the search for an order may try on one key.
const BUDGET: u64 = 2_000_000;

/// A turn of an actor.
#[derive(Clone, Copy, Debug)]
enum Actor {
    /// A timer of some machine is due.
    Tick(Duration),
    /// A fault strikes.
    Fault,
    /// A client goes on after a freeze.
    Thaw(usize, MachineId),
    /// A client comes back as a new one.
    Join(usize),
    /// Messages of clients are in no trouble any more.
    Fair,
    /// A client that hears nothing says nothing either.
    Mute(usize),
}

pub(super) struct Schedule {
    seed: u64,
    dice: Dice,
    executor: Executor,
    /// A machine that is never frozen: what is on its way is there.
    ether: World,
    group: Group<Actor>,
    replicas: Vec<Arc<Mutex<Replica>>>,
    /// The shards behind home.
    sides: Vec<Arc<Mutex<Side>>>,
    coordinators: Vec<Coordinator>,
    seats: Vec<Seat>,
    wishes: Arc<Mutex<Wishes>>,
    links: Arc<Mutex<Links>>,
    judge: Arc<Mutex<Judge>>,
    /// When the group's queue wakes the executor.
    tick: Option<Duration>,
    trouble: Trouble,
    stage: Arc<Mark>,
    healed: Option<Duration>,
    turns: u64,
    length: Duration,
    report: Report,
}

impl Schedule {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed);
        let size = if dice.chance(70) { 3 } else { 5 };
        let judge = Arc::new(Mutex::new(Judge::default()));
        let shards = [1, 1, 2, 3][dice.pick(4)];
        let replicas: Vec<_> =
            (0..size).map(|_| Replica::new(Shard::HOME, shards, Arc::clone(&judge))).collect();
        let side = |shard| Side::new(Shard(shard), shards, size as usize, &judge, dice.fork());
        let sides: Vec<_> = (1..shards).map(side).collect();
        let machine = |id: MemberId| -> Box<dyn StateMachine> {
            Box::new(Locks(Arc::clone(&replicas[id.0 as usize - 1])))
        };
        let (built, drifts) = members(&mut dice, size, size, &options.without, &machine);
        let net = Net::new(dice.fork(), 4);
        let mut group = Group::new(dice.fork(), built, net, options.lines);
        if drifts {
            group.struck.add(Fault::Drift);
        }
        let mut executor = Executor::new(dice.fork());
        let (_, ether) = executor.machine(Pace { offset: Duration::ZERO, fast: 0 });
        let calm_links = dice.between(0, 6);
        let links = Links::new(dice.fork(), size as usize, calm_links);
        let trouble = Trouble::new(&mut dice, size as usize, options);
        let length = dice.millis(8_000, 30_000);
        let mut schedule = Self {
            seed,
            executor,
            ether,
            group,
            replicas,
            sides,
            coordinators: Vec::new(),
            seats: Vec::new(),
            wishes: Arc::default(),
            links: Arc::new(Mutex::new(links)),
            judge,
            tick: None,
            trouble,
            stage: Arc::default(),
            healed: None,
            turns: 0,
            length,
            report: Report::default(),
            dice,
        };
        schedule.staff();
        for _ in 0..schedule.dice.between(3, 7) {
            schedule.take_seat();
        }
        schedule
    }

    /// Runs to the end; also the last lines of what happened.
    pub(super) fn run(mut self) -> (Result<Report, Error>, Vec<String>) {
        let mut end = self.play();
        if end.is_ok() {
            end = self.judge_histories();
        }
        self.seats.clear();
        // Clerks and servers hold what holds them.
        let servers = std::mem::take(&mut self.links.lock().up);
        drop(servers);
        let judge = std::mem::take(&mut *self.judge.lock());
        let (group, lines) = self.group.finish();
        let mut report = self.report;
        report.count("events of consensus", group.of("events"));
        report.count("turns of tasks", self.turns);
        for what in ["schedules", "leaders elected", "checkpoints installed"] {
            report.count(what, group.of(what));
        }
        report.faults = group.faults;
        report.judged = group.judged;
        let struck = self.links.lock().struck.clone();
        report.add(&Report { counts: judge.counts, faults: struck, judged: judge.judged });
        (end.map(|()| report), lines)
    }

    fn play(&mut self) -> Result<(), Error> {
        self.group.at(Duration::from_millis(400), Actor::Fault);
        loop {
            if self.settle() {
                Judge::exclusion(&self.judge);
            }
            self.look_after_seats();
            let wrong = self.judge.lock().wrong.take().or_else(|| self.group.wrong.take());
            if let Some((LIVENESS, what)) = wrong {
                return Err(self.stuck(&what));
            }
            if let Some((invariant, what)) = wrong {
                return Err(Error::Violated { seed: self.seed, step: self.turns, invariant, what });
            }
            if self.over()? {
                return Ok(());
            }
            if let Some(at) = self.executor.next_timer()
                && self.tick.is_none_or(|tick| at < tick)
            {
                self.tick = Some(at);
                self.group.at(at.max(self.group.now), Actor::Tick(at));
            }
            let Some(turn) = self.group.next() else {
                return Err(self.stuck("nothing is left to happen"));
            };
            self.executor.advance(self.group.now);
            if let Some(actor) = turn {
                self.act(actor);
            }
        }
    }

    fn act(&mut self, actor: Actor) {
        match actor {
            // One that an earlier one took the place of is of no use any more.
            Actor::Tick(at) => self.tick = self.tick.filter(|tick| *tick != at),
            Actor::Fault => self.strike(),
            Actor::Thaw(seat, machine) => self.thaw(seat, machine),
            Actor::Join(seat) => self.join(seat),
            Actor::Mute(seat) if self.healed.is_none() => {
                let until = self.ether.clock.now() + LEASE;
                self.links.lock().cut_off(seat, until);
            }
            Actor::Mute(_) => {}
            // Healing is fairer still.
            Actor::Fair if self.healed.is_some() => {}
            Actor::Fair => self.links.lock().trouble = self.trouble.base,
        }
    }

    /// Lets all tasks run, and the group do what they ask of it, until nobody has anything to do now.
    ///
    /// Whether any task did anything.
    fn settle(&mut self) -> bool {
        let before = self.turns;
        loop {
            self.follow();
            let mut busy = false;
            while self.executor.turn() {
                self.turns += 1;
                busy = true;
            }
            if !(self.grant_wishes() | self.answer() | busy) {
                return self.turns > before;
            }
        }
    }

    /// Whether everything was seen that a schedule must show.
    fn over(&mut self) -> Result<bool, Error> {
        let now = self.group.now;
        let Some(healed) = self.healed else {
            let kinds = self.kinds();
            let events = self.group.events + self.turns;
            let enough = events >= 500 && (kinds >= 3 || self.trouble.is_over());
            if now >= self.length && enough {
                self.heal();
            } else if now > LONGEST {
                return Err(Error::Tame { seed: self.seed, events, kinds });
            }
            return Ok(false);
        };
        let waits = self.waits();
        if waits.is_none() {
            let peace = self.stage.get() == Stage::Peace;
            if let Some(leader) = self.group.leader().filter(|_| peace) {
                self.judge.lock().unclaimed(&self.replicas[leader].lock().table);
            }
            self.stage.set(Stage::Peace);
            return Ok(peace);
        }
        match waits.filter(|_| now > healed + PATIENCE) {
            Some(what) => Err(self.stuck(&what)),
            None => Ok(false),
        }
    }

    /// Kinds of faults that struck so far, without what is always there.
    fn kinds(&self) -> usize {
        self.group.struck.kinds() + self.links.lock().struck.len()
    }

    /// What is still to come after healing.
    fn waits(&self) -> Option<String> {
        if let Some(seat) = self.seats.iter().position(|seat| !seat.is_content(self.stage.get())) {
            return Some(format!("client {seat} has not got every lock"));
        }
        let Some(leader) = self.group.leader() else { return Some("nobody leads".to_owned()) };
        let groups = self.replicas[leader].lock().table.assignment().groups;
        if let Some(row) = groups.iter().find(|row| row.moving.is_some()) {
            return Some(format!("{:?} is on its way", row.group));
        }
        let rows = self.replicas[leader].lock().table.list_sessions();
        if let Some(row) = rows.iter().find(|row| !row.live) {
            return Some(format!("{:?} is not recovered by {:?}", row.session, row.recoverer));
        }
        let index = |place: usize| self.group.members[place].machine.index();
        let reached: Index = index(leader);
        let behind = |s: &Option<Status>| s.as_ref().is_none_or(|s| s.applied < reached);
        let place = self.group.statuses.iter().position(behind)?;
        // Something is always under way: it need only be close behind.
        (index(place).0 + 50 < reached.0)
            .then(|| format!("coordinator {place} is at {:?}, not {reached:?}", index(place)))
    }

    fn stuck(&self, what: &str) -> Error {
        Error::Stuck { seed: self.seed, step: self.turns, what: what.to_owned() }
    }

    fn judge_histories(&mut self) -> Result<(), Error> {
        let histories = std::mem::take(&mut self.judge.lock().histories);
        self.judge_history("grants", &Lock, &histories.locks)?;
        self.judge_history("operations of the registry", &Node, &histories.nodes)
    }

    fn judge_history<M: Model>(
        &mut self,
        what: &'static str,
        model: &M,
        history: &[Operation<M::Input, M::Output>],
    ) -> Result<(), Error>
    where
        M::Input: Clone,
        M::Output: Clone,
    {
        let unknown = history.iter().filter(|op| matches!(op.outcome, Outcome::Unknown { .. }));
        self.report.count("operations of unknown outcome", unknown.count() as u64);
        self.report.count(what, history.len() as u64);
        let report = match wgl::check(model, history, BUDGET) {
            Verdict::Linearizable { .. } => return Ok(()),
            Verdict::Violated { report } => report,
            Verdict::Exhausted { key } => format!("the search at {key} was given up"),
        };
        let report = format!("{what}: {report}");
        let invariant = "linearizable histories";
        Err(Error::Violated { seed: self.seed, step: self.turns, invariant, what: report })
    }

    /// No more faults; from here on everybody gets what they wait for.
    fn heal(&mut self) {
        self.healed = Some(self.group.now);
        self.group.heal();
        self.links.lock().heal();
        self.sides.iter().for_each(|side| side.lock().heal());
        for seat in 0..self.seats.len() {
            let machine = self.seats[seat].machine;
            self.thaw(seat, machine);
        }
        self.stage.set(Stage::Calm);
        if !self.sides.is_empty() {
            // While everybody waits for every lock.
            (0..4).for_each(|_| self.move_some());
        }
    }
}
