//! One schedule: a cluster is made, clients work, faults strike, everything is healed and judged.

mod begin;
mod finish;
mod nemesis;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ::fs::{Config, InodeNo};
use ::lockservice::engine::Direct;
use ::lockservice::{Locks, Mode, Span};
use parking_lot::Mutex;
use world::Clock;

use super::check::{foreign, locks};
use super::faults::{Fault, choose};
use super::locks::Desk;
use super::mount::{Mount, Ways};
use super::notes::Notes;
use super::told::Told;
use super::work::Worker;
use super::{Options, Scope};
use crate::agenda::Agenda;
use crate::blockstore::cluster::Cluster as Servers;
use crate::blockstore::net::Place;
use crate::dice::Dice;
use crate::executor::{MachineId, Pace};
use crate::{Error, Report, Tally};

/// The lease of sessions.
const LEASE: Duration = Duration::from_secs(2);
/// The place of the lock service.
const LOCK_SERVICE: Place = 101;
/// The place of who formats and checks the volume.
const MAKER: Place = 900;
/// Clients are at this place and those after it.
const CLIENTS: Place = 1000;
/// How long a quiet cluster may take for something.
const PATIENCE: Duration = Duration::from_secs(240);
/// The least that a schedule must be.
const EVENTS: u64 = 500;
const KINDS: usize = 3;
/// The most strikes of one schedule.
const STRIKES: u64 = 100;
/// The most turns of one schedule.
const MOST: u64 = 20_000_000;
/// Locks are compared after so many turns: each comparison costs as much as many of them.
const COMPARE: u64 = 32;

/// What is to be done later.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Later {
    Start(Place),
    Thaw(MachineId),
    ThawServer(Place),
    /// A new client, with this many users.
    Join,
}

/// A client and its number for the judge.
type Life = (u64, Mount);

pub(super) struct Schedule {
    seed: u64,
    dice: Dice,
    clock: Arc<dyn Clock>,
    servers: Servers,
    engine: Arc<Direct>,
    locks: Option<MachineId>,
    desks: Vec<(Place, Desk)>,
    notes: Arc<Mutex<Notes>>,
    config: Config,
    /// Whether there is a kernel above each mount that keeps what it was told.
    keeps: bool,
    /// Bytes from one sector that is written to the next.
    stride: u64,
    lives: Vec<Life>,
    begun: u64,
    dirs: Vec<InodeNo>,
    faults: Vec<Fault>,
    strikes: u64,
    is_whole_schedule: bool,
    /// Servers that are not running, or about to.
    down: BTreeSet<Place>,
    later: Agenda<Later>,
    steps: u64,
    drift: bool,
    struck: Tally,
    report: Report,
}

impl Schedule {
    pub(super) fn new(seed: u64, scope: Scope, options: &Options) -> Self {
        let mut dice = Dice::new(seed ^ 0xc105);
        let drift = dice.chance(30) && !options.without.contains(&Fault::Drift);
        let (servers, copies) = match scope {
            Scope::Cluster => (3 + [0, 0, 1][dice.pick(3)], 3),
            Scope::Files => (1, 1),
        };
        let mut servers = Servers::new(dice.fork(), servers, copies, drift);
        let config = Config {
            // Some caches are so small that clean pages go and dirty ones must be written early.
            cache_bytes: [1 << 20, 8 << 20, 64 << 20][dice.pick(3)],
            log_push_after: dice.millis(5, 5000),
            data_push_after: dice.millis(50, 20_000),
            patience: Duration::from_secs(60),
            ..Config::default()
        };
        let keeps = dice.chance(50);
        let stride = [512, 4608, 20_480][dice.pick(3)];
        let mut faults = choose(&mut dice, scope);
        faults.retain(|fault| !options.without.contains(fault));
        Self {
            seed,
            clock: servers.true_clock(),
            servers,
            dice,
            engine: Arc::default(),
            locks: None,
            desks: Vec::new(),
            notes: Arc::new(Mutex::new(Notes::new(options.lines))),
            config,
            keeps,
            stride,
            lives: Vec::new(),
            begun: 0,
            dirs: Vec::new(),
            faults,
            strikes: options.strikes.unwrap_or(u64::MAX),
            is_whole_schedule: options.strikes.is_none() && options.without.is_empty(),
            down: BTreeSet::new(),
            later: Agenda::default(),
            steps: 0,
            drift,
            struck: Tally::new(),
            report: Report::default(),
        }
    }

    pub(super) fn run(mut self) -> (Result<Report, Error>, Vec<String>) {
        let end = if self.notes.lock().keeps_lines() {
            let told = Told {
                clock: Arc::clone(&self.clock),
                running: Box::new(self.servers.executor.running()),
                notes: Arc::clone(&self.notes),
            };
            tracing::subscriber::with_default(told, || self.go())
        } else {
            self.go()
        };
        let mut notes = self.notes.lock();
        let mut report = std::mem::take(&mut self.report);
        report.judged.insert(foreign::NAME, notes.foreign.judged);
        report.faults = self.all_faults();
        for (what, n) in [
            ("schedules", 1),
            ("events", self.steps),
            ("simulated milliseconds", u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)),
            ("operations judged", notes.count()),
            ("file-system clients", self.begun),
        ] {
            report.count(what, n);
        }
        let lines = notes.take_lines();
        drop(notes);
        (end.map(|()| report), lines)
    }

    fn go(&mut self) -> Result<(), Error> {
        if self.drift {
            self.struck.insert(Fault::Drift.name(), 1);
        }
        self.begin()?;
        for _ in 0..self.dice.between(2, 5) {
            self.join();
        }
        let strikes = self.dice.between(8, 24);
        let mut turns = 0;
        // More of them where hardly anything came of the first.
        while turns < strikes || (turns < STRIKES && self.is_tame()) {
            turns += 1;
            let calm = self.dice.millis(50, 5000);
            self.pass(calm)?;
            self.strike();
        }
        self.heal()?;
        self.finish()?;
        if self.is_tame() {
            let kinds = self.all_faults().len();
            return Err(Error::Tame { seed: self.seed, events: self.steps, kinds });
        }
        Ok(())
    }

    /// Whether this is a whole schedule, and too little happened in it.
    fn is_tame(&self) -> bool {
        self.is_whole_schedule && (self.steps < EVENTS || self.all_faults().len() < KINDS)
    }

    /// How often each kind of fault struck, those of the network and of disks included.
    fn all_faults(&self) -> Tally {
        let mut all = self.struck.clone();
        for (name, n) in self.servers.struck().named() {
            *all.entry(name).or_default() += n;
        }
        all
    }

    /// The true time.
    fn now(&self) -> Duration {
        self.clock.now().as_duration()
    }

    fn in_a_while(&mut self, time: Duration, what: Later) {
        self.later.put(self.now() + time, what);
    }

    fn do_now(&mut self, what: Later) {
        self.say(|| format!("{what:?}"));
        match what {
            Later::Start(id) => {
                self.down.remove(&id);
                self.servers.start(id);
            }
            Later::Thaw(machine) => self.servers.executor.thaw(machine),
            Later::ThawServer(id) => self.servers.thaw(id),
            Later::Join => self.join(),
        }
    }

    /// Lets time pass until something is so.
    fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<(), Error> {
        let end = self.now() + PATIENCE;
        while !done(self) {
            if self.now() >= end {
                return Err(self.stuck(format!("not so after {PATIENCE:?}: {what}")));
            }
            self.pass(Duration::from_millis(100))?;
        }
        Ok(())
    }

    /// Lets simulated time pass, with checks all along.
    fn pass(&mut self, time: Duration) -> Result<(), Error> {
        let until = self.now() + time;
        loop {
            while self.servers.executor.turn() {
                self.steps += 1;
                if self.steps.is_multiple_of(COMPARE) {
                    self.compare()?;
                }
                if self.steps > MOST {
                    return Err(self.stuck("more turns than any schedule should take".to_owned()));
                }
            }
            if let Some(what) = self.notes.lock().foreign.found.take() {
                return Err(self.violated(foreign::NAME, what));
            }
            if self.look_after() {
                continue;
            }
            let more = self.servers.executor.go_on(self.later.next(), until);
            let now = self.now();
            while let Some(what) = self.later.due(now) {
                self.do_now(what);
            }
            if !more {
                return Ok(());
            }
        }
    }

    /// Servers whose process ended by itself start again, and clients that lost their lease give way to new ones, as
    /// whoever looks after them would have it.
    fn look_after(&mut self) -> bool {
        let ended = self.servers.ended();
        let lost = std::mem::take(&mut self.notes.lock().lost);
        let any = !ended.is_empty() || !lost.is_empty();
        for id in ended {
            self.say(|| format!("server {id} ended by itself"));
            self.end_server(id, None, Duration::from_millis(300));
        }
        for client in lost {
            self.say(|| format!("client {client} lost its lease"));
            self.end_client(client, Duration::ZERO);
        }
        any
    }

    fn say(&self, line: impl FnOnce() -> String) {
        self.notes.lock().say(self.now(), line);
    }

    fn violated(&self, invariant: &'static str, what: String) -> Error {
        Error::Violated { seed: self.seed, step: self.steps, invariant, what }
    }

    fn stuck(&self, what: String) -> Error {
        Error::Stuck { seed: self.seed, step: self.steps, what }
    }

    fn judge(&mut self, invariant: &'static str) {
        self.report.judge(invariant);
    }

    /// L1, as far as clients think that they may use what they hold.
    fn compare(&mut self) -> Result<(), Error> {
        let mut held: Vec<(Span, Mode, u64)> = Vec::new();
        for (client, mount) in &self.lives {
            let running = mount.running.lock();
            let Some(running) = &*running else { continue };
            if mount.world.clock.now() < running.clerk.valid_until() {
                held.extend(running.clerk.all_held().iter().map(|h| (h.span, h.mode, *client)));
            }
        }
        if held.len() > 1 {
            self.judge(locks::NAME);
        }
        locks::conflict(held).map_or(Ok(()), |what| Err(self.violated(locks::NAME, what)))
    }

    fn pace(&mut self) -> Pace {
        // Leases allow for clocks that differ by one in fifty.
        let fast = if self.drift { 9_000 - self.dice.between(0, 18_000).cast_signed() } else { 0 };
        Pace { offset: self.dice.millis(0, 100_000), fast }
    }

    fn begin_mount(&mut self, place: Place) -> Mount {
        let pace = self.pace();
        let config = self.config.clone();
        let keeps = self.keeps;
        let ways = Ways { servers: &mut self.servers, desks: &self.desks, config, keeps };
        Mount::begin(place, pace, ways)
    }

    /// A new client and its users.
    fn join(&mut self) {
        let (client, mount) = self.begin_client();
        for _ in 0..self.dice.between(1, 3) {
            let worker = self.worker(client, &mount);
            mount.world.spawn("worker", worker.work());
        }
        self.lives.push((client, mount));
    }

    fn begin_client(&mut self) -> Life {
        self.begun += 1;
        let client = self.begun;
        let mount = self.begin_mount(CLIENTS + client);
        let machine = mount.machine;
        self.say(|| format!("client {client} begins on machine {machine}"));
        (client, mount)
    }

    fn worker(&mut self, client: u64, mount: &Mount) -> Worker {
        Worker {
            client,
            world: mount.world.clone(),
            clock: Arc::clone(&self.clock),
            running: Arc::clone(&mount.running),
            notes: Arc::clone(&self.notes),
            dice: self.dice.fork(),
            dirs: self.dirs.clone(),
            stride: self.stride,
            longest: [30, 300, 1500][self.dice.pick(3)],
            operation: 0,
        }
    }

    /// Kills a client; another comes in its place after a while.
    fn end_client(&mut self, client: u64, away: Duration) {
        let Some(at) = self.lives.iter().position(|(number, _)| *number == client) else { return };
        let (_, mount) = self.lives.remove(at);
        self.notes.lock().died(client, self.clock.now().0);
        let gone = mount.running.lock().take();
        drop(gone);
        self.servers.executor.kill(mount.machine);
        self.in_a_while(away, Later::Join);
    }

    /// A server's process ends; with a number, its disk keeps so many percent of what was not synced.
    fn end_server(&mut self, id: Place, power: Option<u64>, away: Duration) {
        self.say(|| format!("server {id} ends"));
        self.servers.kill(id, power);
        self.down.insert(id);
        self.in_a_while(away, Later::Start(id));
    }

    /// Whether all chains have as many equal members as they should.
    fn is_whole(&self) -> bool {
        let Some(chart) = self.servers.chart() else { return false };
        let whole = |chain: &::blockstore::link::Chain| {
            chain.equal && chain.serving().count() == usize::from(chart.replication)
        };
        chart.chains.len() as u32 == chart.bits.groups() && chart.chains.iter().all(whole)
    }
}
