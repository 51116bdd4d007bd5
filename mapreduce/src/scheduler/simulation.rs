//! A simulated cluster under the scheduler: workers of different speed that pause, die, come back and repeat
//! themselves, messages that come late, a coordinator that is lost and replaced by one that replays its journal.
//! Whatever happens, the job ends, and the output is what it should be.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

use world::Time;

use super::{Effect, Event, Limits, Scheduler, Sizes, Task, WorkerNo, tests::LIMITS};

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}

/// How rough it is.
#[derive(Clone, Copy)]
struct Weather {
    maps: u32,
    reduces: u32,
    workers: u32,
    /// One event in so many goes wrong; 0: none.
    trouble: u64,
    /// One attempt in so many is ten times slower; 0: none.
    stragglers: u64,
    limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    /// An attempt ends, if its worker still lives in this incarnation.
    End {
        worker: u32,
        incarnation: u32,
        task: (bool, u32),
        attempt: u32,
        fails: bool,
    },
    /// A message arrives.
    Done {
        worker: u32,
        task: (bool, u32),
        attempt: u32,
    },
    Committed {
        task: (bool, u32),
        attempt: u32,
    },
    Beat {
        worker: u32,
        incarnation: u32,
    },
    Back {
        worker: u32,
    },
    Tick,
    /// What was told until now is durable.
    Synced,
    /// Another coordinator goes on.
    Resume,
}

/// What a coordinator keeps: an event, when it was told, what it led to.
type Kept = (Time, Event, Vec<Effect>);

/// Coordinators, one after the other.
#[derive(Default)]
struct Coordinators {
    /// The steps at which one is lost; none: nothing is journalled.
    lost_at: Option<BTreeSet<u64>>,
    steps: u64,
    journal: Vec<Kept>,
    /// Entries of the journal that are durable: their effects were let out.
    durable: usize,
    /// Nobody leads.
    none: bool,
}

struct Machine {
    incarnation: u32,
    alive: bool,
    paused_until: u64,
    held: BTreeSet<(bool, u32, u32)>,
}

struct World {
    dice: Dice,
    weather: Weather,
    scheduler: Scheduler,
    machines: Vec<Machine>,
    /// Which incarnation of which worker has the output of a map attempt.
    outputs: BTreeMap<(u32, u32), (u32, u32)>,
    queue: BinaryHeap<Reverse<(u64, u64, Thing)>>,
    sequence: u64,
    now: u64,
    started: BTreeMap<(bool, u32, u32), u64>,
    accepted: BTreeMap<(bool, u32), u32>,
    /// The attempt that made each part.
    parts: BTreeMap<u32, u32>,
    coordinators: Coordinators,
    verdict: Option<bool>,
}

fn task((reduce, number): (bool, u32)) -> Task {
    if reduce { Task::Reduce(number) } else { Task::Map(number) }
}

fn of(task: Task) -> (bool, u32) {
    match task {
        Task::Map(number) => (false, number),
        Task::Reduce(number) => (true, number),
    }
}

impl World {
    fn new(seed: u64, weather: Weather) -> Self {
        let machine =
            || Machine { incarnation: 0, alive: true, paused_until: 0, held: BTreeSet::new() };
        let hosts = vec![Vec::new(); weather.maps as usize];
        Self {
            dice: Dice(seed),
            weather,
            scheduler: Scheduler::new(hosts, weather.reduces, weather.limits),
            machines: (0..weather.workers).map(|_| machine()).collect(),
            outputs: BTreeMap::new(),
            queue: BinaryHeap::new(),
            sequence: 0,
            now: 0,
            started: BTreeMap::new(),
            accepted: BTreeMap::new(),
            parts: BTreeMap::new(),
            coordinators: Coordinators::default(),
            verdict: None,
        }
    }

    fn at(&mut self, when: u64, thing: Thing) {
        self.sequence += 1;
        self.queue.push(Reverse((when, self.sequence, thing)));
    }

    fn trouble(&mut self) -> bool {
        let chances = self.weather.trouble;
        chances > 0 && self.dice.one_in(chances)
    }

    /// Runs until the job is over; tells how many milliseconds it took.
    fn run(mut self) -> (bool, u64, Self) {
        for worker in 0..self.weather.workers {
            self.at(0, Thing::Back { worker });
        }
        self.at(0, Thing::Tick);
        while self.verdict.is_none() {
            let Some(Reverse((when, _, thing))) = self.queue.pop() else {
                panic!("nothing happens any more")
            };
            self.now = when;
            assert!(when < 100_000_000, "the job does not end");
            self.happen(thing);
        }
        (self.verdict == Some(true), self.now, self)
    }

    fn tell(&mut self, event: Event) {
        let now = Time::ZERO + Duration::from_millis(self.now);
        let Some(lost_at) = &self.coordinators.lost_at else {
            for effect in self.scheduler.handle(now, event) {
                self.act(&effect);
            }
            return;
        };
        if self.coordinators.none {
            return;
        }
        self.coordinators.steps += 1;
        if lost_at.contains(&self.coordinators.steps) {
            return self.lose_coordinator();
        }
        let effects = self.scheduler.handle(now, event.clone());
        self.coordinators.journal.push((now, event, effects));
        let when = self.now + self.dice.below(30);
        self.at(when, Thing::Synced);
    }

    /// Lets out the effects of what is durable now.
    fn sync(&mut self) {
        if self.coordinators.none {
            return;
        }
        let from =
            std::mem::replace(&mut self.coordinators.durable, self.coordinators.journal.len());
        let effects: Vec<_> =
            self.coordinators.journal[from..].iter().flat_map(|kept| kept.2.clone()).collect();
        for effect in effects {
            self.act(&effect);
        }
    }

    /// What was not synced may be there or not; in half a minute another coordinator knows what is.
    fn lose_coordinator(&mut self) {
        let Coordinators { journal, durable, none, .. } = &mut self.coordinators;
        let torn = journal.len() - *durable + 1;
        journal.truncate(*durable + self.dice.below(torn as u64) as usize);
        *none = true;
        self.at(self.now + 30_000, Thing::Resume);
    }

    fn resume(&mut self) {
        let hosts = vec![Vec::new(); self.weather.maps as usize];
        self.scheduler = Scheduler::new(hosts, self.weather.reduces, self.weather.limits);
        self.accepted.clear();
        for (now, event, effects) in &self.coordinators.journal {
            let again = self.scheduler.handle(*now, event.clone());
            assert!(again == *effects, "{event:?} led to {effects:?}, and then to {again:?}");
            for effect in again {
                if let Effect::Accept { task, .. } = effect {
                    *self.accepted.entry(of(task)).or_default() += 1;
                }
            }
        }
        // Its word is that what the other had begun is over.
        for machine in &mut self.machines {
            machine.held.clear();
        }
        self.coordinators.none = false;
        self.coordinators.durable = self.coordinators.journal.len();
        self.tell(Event::Resumed);
    }

    fn happen(&mut self, thing: Thing) {
        match thing {
            Thing::Synced => self.sync(),
            Thing::Resume => self.resume(),
            Thing::Tick => {
                self.at(self.now + 1000, Thing::Tick);
                self.tell(Event::Tick);
            }
            Thing::Back { worker } => {
                let machine = &mut self.machines[worker as usize];
                machine.incarnation += 1;
                machine.alive = true;
                machine.held.clear();
                let incarnation = machine.incarnation;
                self.greet(worker, incarnation);
                self.at(self.now + 3000, Thing::Beat { worker, incarnation });
            }
            Thing::Beat { worker, incarnation } => self.beat(worker, incarnation),
            Thing::End { worker, incarnation, task, attempt, fails } => {
                self.end((worker, incarnation), task, attempt, fails);
            }
            Thing::Done { worker, task: which, attempt } => {
                let worker = WorkerNo(worker);
                self.tell(Event::Done {
                    worker,
                    task: task(which),
                    attempt,
                    sizes: Sizes::default(),
                });
            }
            Thing::Committed { task: which, attempt } => {
                let before = self.parts.insert(which.1, attempt);
                let again = self.coordinators.lost_at.is_some() && before == Some(attempt);
                assert!(before.is_none() || again, "part {} got its name twice", which.1);
                self.tell(Event::Committed { task: task(which), attempt });
            }
        }
    }

    fn greet(&mut self, worker: u32, incarnation: u32) {
        let (worker, incarnation) = (WorkerNo(worker), u64::from(incarnation));
        self.tell(Event::Joined { worker, incarnation, slots: 1, node: None });
    }

    fn beat(&mut self, worker: u32, incarnation: u32) {
        let machine = &self.machines[worker as usize];
        if machine.incarnation != incarnation || !machine.alive {
            return;
        }
        if self.now >= machine.paused_until {
            let number = WorkerNo(worker);
            self.greet(worker, incarnation);
            let held: Vec<_> = self.machines[worker as usize].held.iter().copied().collect();
            for (reduce, which, attempt) in held {
                let end =
                    self.started.get(&(reduce, which, attempt)).copied().unwrap_or(self.now + 1);
                let thousandths = (1000 * 1000 / end.saturating_sub(self.now).max(1000)) as u32 / 2;
                let task = task((reduce, which));
                self.tell(Event::Progress { worker: number, task, attempt, thousandths });
            }
        }
        // Workers must live long enough that all maps can be done at one time.
        let chances = self.weather.trouble * 12;
        if chances > 0 && self.dice.one_in(chances) {
            let machine = &mut self.machines[worker as usize];
            if self.dice.one_in(2) {
                machine.alive = false;
                let when = self.now + 20_000 + self.dice.below(60_000);
                self.at(when, Thing::Back { worker });
            } else {
                machine.paused_until = self.now + 5_000 + self.dice.below(30_000);
            }
        }
        self.at(self.now + 3000, Thing::Beat { worker, incarnation });
    }

    /// An attempt ends on its worker: what it did is now there, and it says so, perhaps late or twice.
    fn end(&mut self, by: (u32, u32), which: (bool, u32), attempt: u32, fails: bool) {
        let (worker, incarnation) = by;
        let machine = &mut self.machines[worker as usize];
        if machine.incarnation != incarnation || !machine.alive {
            return;
        }
        if self.now < machine.paused_until {
            let thing = Thing::End { worker, incarnation, task: which, attempt, fails };
            let when = machine.paused_until;
            return self.at(when, thing);
        }
        if !machine.held.remove(&(which.0, which.1, attempt)) {
            return;
        }
        if which.0 && !self.scheduler.are_maps_done() {
            // It began early, and waits.
            self.machines[worker as usize].held.insert((which.0, which.1, attempt));
            let thing = Thing::End { worker, incarnation, task: which, attempt, fails };
            return self.at(self.now + 500, thing);
        }
        let mut lost = Vec::new();
        if which.0 {
            // A few sources are looked at; all of them would be too many.
            for (source, map, attempt, _) in self.scheduler.sources(which.1).into_iter().take(50) {
                let holder = self.outputs.get(&(map, attempt)).copied();
                let there = holder.is_some_and(|(worker, incarnation)| {
                    let machine = &self.machines[worker as usize];
                    worker == source.0 && machine.alive && machine.incarnation == incarnation
                });
                if !there {
                    lost.push((map, attempt));
                }
            }
        } else {
            self.outputs.insert((which.1, attempt), by);
        }
        if fails || !lost.is_empty() {
            let (worker, task) = (WorkerNo(worker), task(which));
            let reason = "trouble".to_owned();
            return self.tell(Event::Failed { worker, task, attempt, reason, lost, record: None });
        }
        let done = Thing::Done { worker, task: which, attempt };
        let mut when = self.now;
        if self.trouble() {
            when += self.dice.below(20_000);
        }
        if self.trouble() {
            let again = when + self.dice.below(5_000);
            self.at(again, done);
        }
        self.at(when, done);
    }

    fn act(&mut self, effect: &Effect) {
        match *effect {
            Effect::Start { worker, task, attempt, .. } => {
                let (reduce, number) = of(task);
                let finished = reduce && self.parts.contains_key(&number);
                assert!(!finished, "reduce {number} is done and runs again");
                let machine = &mut self.machines[worker.0 as usize];
                let incarnation = machine.incarnation;
                machine.held.insert((reduce, number, attempt));
                let mut takes = 8_000 + self.dice.below(4_000);
                let stragglers = self.weather.stragglers;
                if stragglers > 0 && attempt == 0 && self.dice.one_in(stragglers) {
                    takes *= 10;
                }
                let fails = self.trouble();
                let end = self.now + takes;
                self.started.insert((reduce, number, attempt), end);
                let thing = Thing::End {
                    worker: worker.0,
                    incarnation,
                    task: (reduce, number),
                    attempt,
                    fails,
                };
                self.at(end, thing);
            }
            Effect::Cancel { worker, task, attempt } => {
                let (reduce, number) = of(task);
                self.machines[worker.0 as usize].held.remove(&(reduce, number, attempt));
            }
            Effect::Accept { task, .. } => *self.accepted.entry(of(task)).or_default() += 1,
            Effect::Commit { task, attempt } => {
                let when = self.now + self.dice.below(50);
                self.at(when, Thing::Committed { task: of(task), attempt });
            }
            Effect::Finished => self.verdict = Some(true),
            Effect::GiveUp { .. } => self.verdict = Some(false),
        }
    }

    /// What must be true when the job is over.
    fn check(&self) {
        assert_eq!(self.parts.len() as u32, self.weather.reduces);
        for reduce in 0..self.weather.reduces {
            assert_eq!(self.accepted.get(&(true, reduce)), Some(&1), "reduce {reduce}");
        }
    }
}

fn weather() -> Weather {
    let limits = Limits { attempts: 1000, early_percent: 5, ..LIMITS };
    Weather { maps: 60, reduces: 12, workers: 8, trouble: 0, stragglers: 0, limits }
}

#[test]
fn in_rough_weather_every_part_is_made_once() {
    // The full count is run by `cargo xtask soak`.
    let seeds = std::env::var("PLUMERIA_CASES").ok().and_then(|cases| cases.parse().ok());
    for seed in 0..seeds.unwrap_or(400_u64).min(20_000) {
        let (well, _, world) =
            World::new(seed, Weather { trouble: 12, stragglers: 20, ..weather() }).run();
        assert!(well, "seed {seed}: the job failed");
        world.check();
    }
}

/// Runs a small job whose coordinators are lost at the given steps; tells how many steps there were.
fn with_lost_coordinators(seed: u64, weather: Weather, lost_at: &[u64]) -> u64 {
    let mut world = World::new(seed, weather);
    world.coordinators.lost_at = Some(lost_at.iter().copied().collect());
    let (well, _, world) = world.run();
    assert!(well, "seed {seed}, coordinators lost at {lost_at:?}: the job failed");
    world.check();
    world.coordinators.steps
}

#[test]
fn a_coordinator_may_be_lost_at_every_step() {
    let limits = weather().limits;
    let calm = Weather { maps: 9, reduces: 3, workers: 3, trouble: 0, stragglers: 0, limits };
    for weather in [calm, Weather { trouble: 40, stragglers: 8, ..calm }] {
        for seed in 0..4 {
            let steps = with_lost_coordinators(seed, weather, &[]);
            assert!(steps > 40, "{steps} steps");
            for step in 1..=steps {
                with_lost_coordinators(seed, weather, &[step]);
                // And its successor soon after.
                with_lost_coordinators(seed, weather, &[step, step + 1 + step % 7]);
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let (_, took, world) = World::new(seed, Weather { trouble: 12, ..weather() }).run();
        (took, world.scheduler.tally())
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5).0, run(6).0);
}

#[test]
fn backup_attempts_make_stragglers_cheap() {
    let took = |backups: bool| {
        let limits = Limits { backups, ..weather().limits };
        let mut all = 0;
        for seed in 0..20 {
            let weather = Weather { stragglers: 40, limits, ..weather() };
            all += World::new(seed, weather).run().1;
        }
        all
    };
    let (with, without) = (took(true), took(false));
    assert!(with * 10 < without * 8, "{with} ms with, {without} ms without");
}

#[test]
fn one_worker_of_twenty_costs_little() {
    let limits = weather().limits;
    let big = Weather { maps: 2000, reduces: 40, workers: 20, trouble: 0, stragglers: 0, limits };
    let (_, calm, _) = World::new(1, big).run();
    let mut world = World::new(1, big);
    world.at(calm / 2, Thing::Tick);
    world.machines[3].paused_until = 0;
    // It dies in the middle and does not come back.
    let dies = calm / 2;
    let mut died = false;
    for worker in 0..big.workers {
        world.at(0, Thing::Back { worker });
    }
    while world.verdict.is_none() {
        let Some(Reverse((when, _, thing))) = world.queue.pop() else { panic!("nothing happens") };
        world.now = when;
        if !died && when >= dies {
            died = true;
            world.machines[3].alive = false;
        }
        world.happen(thing);
    }
    let lost = world.now;
    // A twentieth of the work was lost and the rest was done by nineteen: less than a tenth more, with the detection.
    assert!(lost < calm + calm / 10 + 20_000, "{lost} ms instead of {calm} ms");
}

/// Memory of this process, in KiB.
fn resident() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "a test looks at its own process")]
    let bytes = std::fs::read("/proc/self/statm").unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4
}

#[test]
fn the_paper_s_two_hundred_thousand_maps_on_two_thousand_workers_fit_in_memory() {
    let before = resident();
    let limits = weather().limits;
    let paper = Weather {
        maps: 200_000,
        reduces: 5_000,
        workers: 2_000,
        trouble: 0,
        stragglers: 500,
        limits,
    };
    let (well, _, world) = World::new(1, paper).run();
    assert!(well);
    world.check();
    let grown = resident().saturating_sub(before);
    // The simulated cluster is in it too.
    assert!(grown < 400 << 10, "{grown} KiB");
}
