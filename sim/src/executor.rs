//! Machines without an operating system: their tasks, clocks and dice, on one thread, in an order that the seed decides.
//!
//! The code of a room runs here unchanged, shells and all, in a [`World`] whose time is simulated. A *machine* has a clock
//! that drifts, can be frozen (none of its tasks is polled, while time goes on), and can be killed (all its tasks are
//! dropped). Tasks are polled in rounds: all that were woken in one are polled in the next, oldest first. What machines say to each other, and what it is that
//! they do, is not known here; there is no network and no disk.

mod nowhere;

use std::{
    collections::{BTreeMap, VecDeque},
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use world::{Clock, Task, Tasks, Time, Wall, World};

use crate::dice::Dice;
use nowhere::Nowhere;

/// A machine of an [`Executor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MachineId(usize);

impl std::fmt::Display for MachineId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// How a machine's clock goes.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// What it shows at the beginning.
    pub offset: Duration,
    /// How many millionths it runs fast; negative if slow.
    pub fast: i64,
}

impl Pace {
    /// What it shows at the true time `now`.
    #[must_use]
    pub fn shows(self, now: Duration) -> Time {
        let now = i128::try_from(now.as_nanos()).unwrap_or(i128::MAX);
        let offset = i128::try_from(self.offset.as_nanos()).unwrap_or(i128::MAX);
        let shown = offset + now + now * i128::from(self.fast) / 1_000_000;
        Time(u64::try_from(shown).unwrap_or_default())
    }

    /// The first true time at which it shows `time` or later.
    fn when(self, time: Time) -> Duration {
        let offset = u64::try_from(self.offset.as_nanos()).unwrap_or(u64::MAX);
        let ahead = i128::from(time.0.saturating_sub(offset));
        let now = ahead * 1_000_000 / (1_000_000 + i128::from(self.fast));
        let mut now = Duration::from_nanos(u64::try_from(now).unwrap_or(u64::MAX));
        while self.shows(now) < time {
            now += Duration::from_nanos(1);
        }
        now
    }
}

#[derive(Default)]
struct Machine {
    frozen: bool,
    /// Woken while it was frozen.
    stalled: Vec<u64>,
}

/// A task that is being polled has no future here.
struct Slot {
    machine: MachineId,
    future: Option<BoxFuture<'static, ()>>,
    woken: bool,
}

#[derive(Default)]
struct State {
    now: Duration,
    machines: Vec<Machine>,
    tasks: BTreeMap<u64, Slot>,
    ready: VecDeque<u64>,
    /// To be polled when all that are ready were. Sorted then: who wakes several does so in no certain order
    /// (tokio's watch channels ask a dice of their own).
    woken: Vec<u64>,
    timers: BTreeMap<(Duration, u64), Waker>,
    next: u64,
    running: Option<MachineId>,
}

impl State {
    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn wake(&mut self, task: u64) {
        let Some(slot) = self.tasks.get_mut(&task) else { return };
        if std::mem::replace(&mut slot.woken, true) {
            return;
        }
        let machine = &mut self.machines[slot.machine.0];
        if machine.frozen {
            machine.stalled.push(task);
        } else {
            self.woken.push(task);
        }
    }
}

struct Shared(Mutex<State>);

/// Runs the tasks of all machines.
pub struct Executor {
    shared: Arc<Shared>,
    dice: Dice,
}

impl Executor {
    /// With no machine; `dice` seeds the dice of each.
    #[must_use]
    pub fn new(dice: Dice) -> Self {
        Self { shared: Arc::new(Shared(Mutex::default())), dice }
    }

    /// One more machine, and its world.
    pub fn machine(&mut self, pace: Pace) -> (MachineId, World) {
        let mut state = self.shared.0.lock();
        let id = MachineId(state.machines.len());
        state.machines.push(Machine::default());
        drop(state);
        let world = World {
            clock: Arc::new(SimClock { pace, shared: Arc::clone(&self.shared) }),
            net: Arc::new(Nowhere),
            disk: Arc::new(Nowhere),
            tasks: Arc::new(SimTasks { machine: id, shared: Arc::downgrade(&self.shared) }),
            dice: Arc::new(SimDice(Mutex::new(self.dice.fork()))),
        };
        (id, world)
    }

    /// The true time.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.shared.0.lock().now
    }

    /// When the next timer is due.
    #[must_use]
    pub fn next_timer(&self) -> Option<Duration> {
        self.shared.0.lock().timers.keys().next().map(|(at, _)| *at)
    }

    /// Lets time go on to `now`, and wakes whoever waited for it.
    pub fn advance(&self, now: Duration) {
        let mut due = Vec::new();
        {
            let mut state = self.shared.0.lock();
            state.now = state.now.max(now);
            let until = (state.now, u64::MAX);
            let later = state.timers.split_off(&until);
            due.extend(std::mem::replace(&mut state.timers, later).into_values());
        }
        due.into_iter().for_each(Waker::wake);
    }

    /// Lets time go on to the next timer, or to `due` if that is earlier, but not beyond `until`. Whether there was either.
    pub fn go_on(&self, due: Option<Duration>, until: Duration) -> bool {
        let next = due.into_iter().chain(self.next_timer()).min().filter(|next| *next <= until);
        self.advance(next.unwrap_or(until));
        next.is_some()
    }

    /// Polls the first task that is ready; whether there was one.
    pub fn turn(&self) -> bool {
        let (task, mut future) = {
            let mut state = self.shared.0.lock();
            if state.ready.is_empty() {
                let mut woken = std::mem::take(&mut state.woken);
                woken.sort_unstable();
                state.ready.extend(woken);
            }
            let Some(task) = state.ready.pop_front() else { return false };
            let Some(slot) = state.tasks.get_mut(&task) else { return true };
            slot.woken = false;
            if state.machines[state.tasks[&task].machine.0].frozen {
                state.wake(task);
                return true;
            }
            let Some(future) = state.tasks.get_mut(&task).and_then(|slot| slot.future.take())
            else {
                return true;
            };
            state.running = state.tasks.get(&task).map(|slot| slot.machine);
            (task, future)
        };
        let waker = Waker::from(Arc::new(Wakes { task, shared: Arc::downgrade(&self.shared) }));
        let done = future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let mut state = self.shared.0.lock();
        if done {
            state.tasks.remove(&task);
        } else if let Some(slot) = state.tasks.get_mut(&task) {
            slot.future = Some(future);
            return true;
        }
        drop(state);
        // It may look at this state when it is dropped.
        drop(future);
        true
    }

    /// From now on no task of `machine` is polled.
    pub fn freeze(&self, machine: MachineId) {
        self.shared.0.lock().machines[machine.0].frozen = true;
    }

    /// The machine goes on, and learns what time it is.
    pub fn thaw(&self, machine: MachineId) {
        let mut state = self.shared.0.lock();
        state.machines[machine.0].frozen = false;
        let stalled = std::mem::take(&mut state.machines[machine.0].stalled);
        state.woken.extend(stalled);
    }

    /// Drops all tasks of `machine`, and those that they begin while they are dropped.
    pub fn kill(&self, machine: MachineId) {
        loop {
            let mut gone = Vec::new();
            {
                let mut state = self.shared.0.lock();
                state.machines[machine.0].frozen = false;
                state.machines[machine.0].stalled.clear();
                let of = state.tasks.iter().filter(|(_, slot)| slot.machine == machine);
                let of: Vec<u64> = of.map(|(task, _)| *task).collect();
                gone.extend(of.iter().filter_map(|task| state.tasks.remove(task)));
            }
            if gone.is_empty() {
                return;
            }
        }
    }

    /// What tells, at any time, which machine's task is being polled, or was last.
    pub fn running(&self) -> impl Fn() -> Option<MachineId> + Send + Sync + 'static {
        let shared = Arc::downgrade(&self.shared);
        move || shared.upgrade()?.0.lock().running
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Tasks own what owns them.
        let tasks = std::mem::take(&mut self.shared.0.lock().tasks);
        drop(tasks);
        let timers = std::mem::take(&mut self.shared.0.lock().timers);
        drop(timers);
    }
}

struct Wakes {
    task: u64,
    shared: Weak<Shared>,
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        if let Some(shared) = self.shared.upgrade() {
            shared.0.lock().wake(self.task);
        }
    }
}

struct SimTasks {
    machine: MachineId,
    shared: Weak<Shared>,
}

impl Tasks for SimTasks {
    fn spawn(&self, _: &'static str, future: BoxFuture<'static, ()>) -> Task {
        let Some(shared) = self.shared.upgrade() else { return Task::new(Box::new(|| {})) };
        let mut state = shared.0.lock();
        let task = state.fresh();
        let slot = Slot { machine: self.machine, future: Some(future), woken: false };
        state.tasks.insert(task, slot);
        state.wake(task);
        drop(state);
        let shared = self.shared.clone();
        Task::new(Box::new(move || {
            let gone = shared.upgrade().and_then(|shared| shared.0.lock().tasks.remove(&task));
            drop(gone);
        }))
    }

    fn blocking(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }

    fn thread(&self, _: &'static str, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

struct SimClock {
    pace: Pace,
    shared: Arc<Shared>,
}

impl Clock for SimClock {
    fn now(&self) -> Time {
        self.pace.shows(self.shared.0.lock().now)
    }

    fn wall(&self) -> Wall {
        Wall { seconds: i64::try_from(self.now().0 / 1_000_000_000).unwrap_or_default(), nanos: 0 }
    }

    fn sleep_until(&self, deadline: Time) -> BoxFuture<'static, ()> {
        let at = (deadline < Time::NEVER).then(|| self.pace.when(deadline));
        Box::pin(Sleep { at, timer: None, shared: Arc::clone(&self.shared) })
    }
}

/// Ready at a true time; never without one.
struct Sleep {
    at: Option<Duration>,
    timer: Option<(Duration, u64)>,
    shared: Arc<Shared>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let Some(at) = self.at else { return Poll::Pending };
        let shared = Arc::clone(&self.shared);
        let mut state = shared.0.lock();
        if state.now >= at {
            return Poll::Ready(());
        }
        let timer = *self.timer.get_or_insert_with(|| (at, state.fresh()));
        let before = state.timers.insert(timer, context.waker().clone());
        drop(state);
        drop(before);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        let waker = self.timer.and_then(|timer| self.shared.0.lock().timers.remove(&timer));
        drop(waker);
    }
}

struct SimDice(Mutex<Dice>);

impl world::Dice for SimDice {
    fn fill(&self, bytes: &mut [u8]) {
        let mut dice = self.0.lock();
        for piece in bytes.chunks_mut(8) {
            piece.copy_from_slice(&dice.roll().to_le_bytes()[..piece.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STILL: Pace = Pace { offset: Duration::from_secs(9), fast: 0 };

    /// Runs until nothing is left to do or `until` has come.
    fn run(executor: &Executor, until: Duration) {
        loop {
            while executor.turn() {}
            match executor.next_timer().filter(|at| *at <= until) {
                Some(at) => executor.advance(at),
                None => return executor.advance(until),
            }
        }
    }

    fn told(
        executor: &mut Executor,
        pace: Pace,
        pause: Duration,
    ) -> (MachineId, Arc<Mutex<Vec<Duration>>>) {
        let (machine, world) = executor.machine(pace);
        let told = Arc::new(Mutex::new(Vec::new()));
        let (own, clock) = (Arc::clone(&told), Arc::clone(&world.clock));
        let begun = clock.now();
        world.spawn("tell", async move {
            loop {
                clock.sleep(pause).await;
                own.lock().push(clock.now().since(begun));
            }
        });
        (machine, told)
    }

    #[test]
    fn clocks_run_at_their_own_pace() {
        let mut executor = Executor::new(Dice::new(1));
        let pause = Duration::from_millis(10);
        let (_, right) = told(&mut executor, STILL, pause);
        let (_, fast) = told(&mut executor, Pace { fast: 20_000, ..STILL }, pause);
        run(&executor, Duration::from_secs(10));
        assert_eq!(right.lock().len(), 1000);
        // Each sleep ends at the first nanosecond of the true time at which it is over.
        assert!((1015..=1020).contains(&fast.lock().len()), "{}", fast.lock().len());
        assert!(right.lock()[0] >= pause && right.lock()[0] < pause * 2, "{:?}", right.lock()[0]);
    }

    #[test]
    fn a_frozen_machine_does_nothing_and_then_learns_that_time_went_on() {
        let mut executor = Executor::new(Dice::new(1));
        let (machine, told) = told(&mut executor, STILL, Duration::from_millis(10));
        run(&executor, Duration::from_millis(1));
        executor.freeze(machine);
        run(&executor, Duration::from_secs(1));
        assert!(told.lock().is_empty());
        executor.thaw(machine);
        run(&executor, Duration::from_millis(1005));
        assert_eq!(*told.lock(), [Duration::from_secs(1)]);
    }

    #[test]
    fn the_tasks_of_a_killed_machine_are_gone() {
        let mut executor = Executor::new(Dice::new(1));
        let (machine, told) = told(&mut executor, STILL, Duration::from_millis(10));
        run(&executor, Duration::from_millis(25));
        executor.kill(machine);
        run(&executor, Duration::from_secs(1));
        assert_eq!(told.lock().len(), 2);
        assert_eq!(Arc::strong_count(&told), 1, "what they owned is dropped");
    }
}
