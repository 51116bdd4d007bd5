//! One schedule: clients that write, read, discard and flush a handful of sectors, faults, and what is demanded.
//!
//! It runs with faults until enough has happened, then heals everything and demands that the cluster comes to rest, whole;
//! at the end all is read once more, the replicas are compared, and the history is judged.

mod judge;
mod nemesis;
mod worker;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use ::blockstore::{Offset, VirtualDisk, client::Client};
use parking_lot::Mutex;
use world::Clock;

use super::{
    Options,
    cluster::{CAPACITY, Cluster, LEASE},
    faults::{Fault, choose},
    net::Place,
    oracle::{self, History, OpId, Value},
};
use crate::{Error, Report, agenda::Agenda, dice::Dice, simulation::Lines};
use worker::Worker;

/// The least that a schedule must be.
const EVENTS: u64 = 500;
const KINDS: usize = 3;
/// The most turns of the nemesis.
const TURNS: u64 = 120;
/// How long the healed cluster may take, and the last reads.
const PATIENCE: Duration = Duration::from_secs(240);
/// The most turns of one schedule.
const MOST: u64 = 3_000_000;

/// What a schedule's clients share.
#[derive(Default)]
struct Shared {
    history: History,
    value: Value,
    /// Everybody may lose power: then what was not flushed may be lost.
    lossy: bool,
    stop: bool,
    busy: u64,
    report: Report,
    wrong: Option<(&'static str, String)>,
    /// Acknowledged in this turn.
    acknowledged: Vec<(OpId, Value)>,
    lines: Lines,
}

impl Shared {
    fn judge(&mut self, invariant: &'static str) {
        self.report.judge(invariant);
    }

    fn violate(&mut self, invariant: &'static str, what: String) {
        self.wrong.get_or_insert((invariant, what));
    }

    fn say(&mut self, now: Duration, line: impl FnOnce() -> String) {
        self.lines.say_at(now, line);
    }
}

type Handle = Arc<Mutex<Option<Arc<Client>>>>;

/// A mount, as far as the disk is concerned.
struct Session {
    number: u64,
    disk: Handle,
}

/// What is to be done later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Later {
    Start(Place),
    Thaw(Place),
    Refill(Place),
}

pub(super) struct Schedule {
    seed: u64,
    dice: Dice,
    clock: Arc<dyn Clock>,
    cluster: Cluster,
    shared: Arc<Mutex<Shared>>,
    sessions: Vec<Session>,
    joined: u64,
    faults: Vec<Fault>,
    /// Kinds that strike wherever messages travel.
    sure: Vec<Fault>,
    /// Faults that are still let loose.
    strikes: u64,
    /// All of them are.
    is_whole_schedule: bool,
    steps: u64,
    lossy: bool,
    later: Agenda<Later>,
    copies: u64,
    /// Servers that are drained, and those that an operator took out.
    leaving: BTreeSet<Place>,
    removed: Vec<Place>,
    /// Those that are about to end.
    stopping: BTreeSet<Place>,
    /// When something last went wrong or was put right: leases may run out for some time after.
    disturbed: Duration,
    /// Those that the map has let go and that are still on.
    taken_out: Arc<Mutex<Vec<Place>>>,
}

impl Schedule {
    pub(super) fn new(seed: u64, options: &Options) -> Self {
        let mut dice = Dice::new(seed ^ 0xb10c);
        let copies = [3, 3, 3, 2][dice.pick(4)];
        let servers = copies + [0, 0, 1, 2][dice.pick(4)];
        let drift = dice.chance(30) && !options.without.contains(&Fault::Drift);
        let lossy = dice.chance(25) && !options.without.contains(&Fault::PowerLossOfAll);
        let mut cluster = Cluster::new(dice.fork(), servers, copies as u8, drift);
        if drift {
            cluster.struck().add(Fault::Drift);
        }
        let mut faults = choose(&mut dice, lossy);
        let mut sure = vec![Fault::Loss, Fault::Delay, Fault::Duplicate];
        for some in [&mut faults, &mut sure] {
            some.retain(|fault| !options.without.contains(fault));
        }
        let lines = Lines::new(options.lines);
        let shared = Shared { lines, lossy, ..Shared::default() };
        Self {
            seed,
            dice,
            clock: cluster.true_clock(),
            cluster,
            shared: Arc::new(Mutex::new(shared)),
            sessions: Vec::new(),
            joined: 0,
            faults,
            sure,
            strikes: options.strikes.unwrap_or(u64::MAX),
            is_whole_schedule: options.strikes.is_none(),
            steps: 0,
            lossy,
            later: Agenda::default(),
            copies,
            leaving: BTreeSet::new(),
            removed: Vec::new(),
            stopping: BTreeSet::new(),
            disturbed: Duration::ZERO,
            taken_out: Arc::default(),
        }
    }

    pub(super) fn run(mut self) -> (Result<Report, Error>, Vec<String>) {
        let end = self.go();
        let mut shared = self.shared.lock();
        let lines = shared.lines.take();
        let mut report = std::mem::take(&mut shared.report);
        drop(shared);
        report.count("schedules", 1);
        report.count("with power loss of all", u64::from(self.lossy));
        report.count("events", self.steps);
        report.faults = self.cluster.struck().named();
        (end.map(|()| report), lines)
    }

    fn go(&mut self) -> Result<(), Error> {
        for id in self.cluster.servers() {
            self.cluster.start(id);
        }
        for _ in 0..self.dice.between(2, 4) {
            self.join();
        }
        let strikes = self.dice.between(8, 20);
        let mut turns = 0;
        // More of them where hardly anything came of the first.
        while turns < strikes || (turns < TURNS && self.is_tame()) {
            turns += 1;
            let calm = self.dice.millis(20, 1500);
            self.pass(calm)?;
            match self.sure.pop_if(|_| turns > strikes) {
                Some(fault) => self.strike_with(fault, 1),
                None => self.strike(),
            }
        }
        self.heal()?;
        self.finish()?;
        if self.is_whole_schedule && self.is_tame() {
            let kinds = self.cluster.struck().kinds();
            return Err(Error::Tame { seed: self.seed, events: self.steps, kinds });
        }
        Ok(())
    }

    fn is_tame(&self) -> bool {
        self.steps < EVENTS || self.cluster.struck().kinds() < KINDS
    }

    /// Lets simulated time pass, with every check after every turn.
    fn pass(&mut self, time: Duration) -> Result<(), Error> {
        let until = self.now() + time;
        loop {
            while self.cluster.executor.turn() {
                self.check()?;
            }
            if self.look_after() {
                continue;
            }
            let more = self.cluster.executor.go_on(self.later.next(), until);
            let now = self.now();
            while let Some(what) = self.later.due(now) {
                self.do_now(what);
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn in_a_while(&mut self, time: Duration, what: Later) {
        self.later.put(self.now() + time, what);
    }

    fn do_now(&mut self, what: Later) {
        self.say(|| format!("{what:?}"));
        self.disturbed = self.now();
        match what {
            Later::Start(id) if self.removed.contains(&id) => {}
            Later::Start(id) => self.cluster.start(id),
            Later::Thaw(id) => self.cluster.thaw(id),
            Later::Refill(id) => {
                if let Some(disk) = self.cluster.disk(id) {
                    disk.resize(CAPACITY);
                }
            }
        }
    }

    /// Processes that ended by themselves, or whose power went, are gone; they start again later.
    fn look_after(&mut self) -> bool {
        let dead: Vec<Place> =
            self.cluster.disks().filter(|(_, disk)| disk.is_dead()).map(|(id, _)| id).collect();
        let mut ended = self.cluster.ended();
        ended.retain(|id| !dead.contains(id));
        let any = !dead.is_empty() || !ended.is_empty();
        for id in dead {
            self.cluster.struck().add(Fault::PowerCut);
            let keeps = self.dice.between(0, 101);
            self.down(id, Some(keeps));
        }
        for id in ended {
            self.down(id, None);
        }
        self.count_mishaps();
        self.switch_off();
        any
    }

    /// The true time.
    fn now(&self) -> Duration {
        now(&*self.clock)
    }

    fn say(&self, line: impl FnOnce() -> String) {
        self.shared.lock().say(self.now(), line);
    }

    fn violated(&self, invariant: &'static str, what: String) -> Error {
        Error::Violated { seed: self.seed, step: self.steps, invariant, what }
    }

    fn stuck(&self, what: String) -> Error {
        Error::Stuck { seed: self.seed, step: self.steps, what }
    }

    /// A new session with a client of its own that works until it is fenced or told to stop.
    fn join(&mut self) -> Handle {
        // Numbers of sessions are never used again.
        self.joined += 1;
        let number = self.joined;
        let disk = Handle::default();
        let world = self.cluster.open(1000 + number, number, Arc::clone(&disk));
        for _ in 0..self.dice.between(1, 3) {
            let worker = Worker {
                session: number,
                world: world.clone(),
                clock: Arc::clone(&self.clock),
                shared: Arc::clone(&self.shared),
                disk: Arc::clone(&disk),
                dice: self.dice.fork(),
                lossy: self.lossy,
            };
            world.spawn("worker", worker.work());
        }
        self.sessions.push(Session { number, disk: Arc::clone(&disk) });
        disk
    }

    /// Ends all faults and demands that everything comes to rest, whole.
    fn heal(&mut self) -> Result<(), Error> {
        self.say(|| "all is healed".to_owned());
        self.cluster.net.mend();
        for id in self.cluster.servers() {
            self.cluster.thaw(id);
            self.cluster.slow_down(id, 0);
            self.do_now(Later::Refill(id));
        }
        self.cluster.disks().for_each(|(_, disk)| disk.disarm());
        for what in self.later.take().filter(|what| matches!(what, Later::Start(_))) {
            self.in_a_while(Duration::ZERO, what);
        }
        self.shared.lock().stop = true;
        let end = self.now() + PATIENCE;
        loop {
            self.pass(LEASE)?;
            let busy = self.shared.lock().busy;
            let up = self.all_run();
            if busy == 0 && up && self.is_whole() {
                return Ok(());
            }
            if self.now() > end {
                let chart = self.cluster.chart();
                let what = format!("{busy} workers wait, all servers run: {up}, {chart:?}");
                return Err(self.stuck(what));
            }
        }
    }

    fn all_run(&self) -> bool {
        let servers = self.cluster.servers();
        servers.iter().all(|id| self.removed.contains(id) || self.cluster.is_running(*id))
    }

    /// Whether all chains have as many equal members as they should.
    fn is_whole(&self) -> bool {
        let Some(chart) = self.cluster.chart() else { return false };
        let whole = |chain: &::blockstore::link::Chain| {
            chain.equal && chain.serving().count() as u64 == self.copies
        };
        chart.chains.len() as u32 == chart.bits.groups() && chart.chains.iter().all(whole)
    }

    /// Reads everything once more, compares the replicas, and judges the history.
    fn finish(&mut self) -> Result<(), Error> {
        let sectors = self.shared.lock().history.sectors();
        let disk = self.join();
        self.pass(Duration::from_secs(1))?;
        let Some(disk) = disk.lock().clone() else {
            return Err(self.stuck("the last reader cannot open the disk".to_owned()));
        };
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
        let struck = self.cluster.struck();
        let rots = struck.has(Fault::BitRot) || struck.has(Fault::Misdirected);
        shared.lock().busy += 1;
        self.cluster.bystander().spawn("last", async move {
            for sector in sectors {
                let began = now(&*clock);
                let read = disk.read(Offset(sector), 512).await;
                let (shared, now) = (&mut shared.lock(), now(&*clock));
                match read {
                    Ok(bytes) => worker::see(shared, 0, sector, (began, now), &bytes),
                    Err(_) if rots => shared.judge(oracle::CHECKSUMS),
                    Err(error) => {
                        shared.violate(oracle::CHECKSUMS, format!("{}: {error}", at(sector)));
                    }
                }
            }
            shared.lock().busy -= 1;
        });
        let end = self.now() + PATIENCE;
        while self.shared.lock().busy != 0 {
            self.pass(LEASE)?;
            if self.now() > end {
                return Err(self.stuck("the last reads have no answer".to_owned()));
            }
        }
        self.compare()?;
        self.judge_history()
    }
}

/// What this clock shows.
fn now(clock: &dyn Clock) -> Duration {
    Duration::from_nanos(clock.now().0)
}

/// How a sentence about a sector begins.
fn at(sector: u64) -> String {
    format!("sector at {sector}")
}
