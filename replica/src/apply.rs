//! What happens to the state machine, in the order of the log. Whoever adds steps does them, if
//! nobody is at it: a committed command is applied and answered on the thread that learned of the
//! commit, without a task switch. What the commands mean is not known here.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::MutexGuard;
use raft::{Checkpoint, Configuration, Entry, Event, Payload, Position};
use wire::NodeId;

use crate::{
    checkpoint::Files,
    command::Command,
    driver::{Reply, Shared, Waiter},
    error::{Error, REBUILD},
    machine::{Damaged, StateMachine},
    members,
    runtime::Work,
    session::Sessions,
    status::Role,
};

/// A checkpoint is taken after this many bytes of commands at the latest.
const CHECKPOINT_BYTES: usize = 32 << 20;
/// Sessions and addresses in a checkpoint are not larger than this, each.
const TABLE_MAX: u64 = 256 << 20;
/// More answers than this are given by a task, so that the disk is not kept waiting by it.
const MANY: usize = 16;

/// What a caller gets.
type Outcome = Result<Bytes, Error>;

/// One thing to do, in order with the others.
pub(crate) enum Step {
    Apply(Vec<(Entry, Option<Waiter>)>),
    Restore(Checkpoint),
    Role(Role),
    /// Everything that the answer is to reflect was applied by earlier steps.
    Answer(Reply<()>, Result<(), Error>),
    Reply(Reply<Bytes>, Error),
    /// Perhaps a checkpoint is due.
    Look,
}

/// The hosted machine, what is replicated beside it, and how far they are.
pub(crate) struct Machine<M> {
    pub(crate) machine: M,
    pub(crate) sessions: Sessions,
    /// Where the nodes of the group are reached, as far as it was said.
    pub(crate) book: BTreeMap<NodeId, String>,
    configuration: Arc<Configuration>,
    pub(crate) applied: Position,
    entries: u64,
    bytes: usize,
    /// One checkpoint is written at a time.
    writing: Arc<AtomicBool>,
    /// The next step waits for a thread that may block for long.
    restoring: bool,
}

/// An answer, sent after the machine's lock was let go.
enum Answer {
    Command(Reply<Bytes>, Outcome),
    Other(Reply<()>, Result<(), Error>),
}

impl Answer {
    fn give(self) {
        // Callers past their deadline listen no more.
        match self {
            Self::Command(reply, result) => drop(reply.send(result)),
            Self::Other(reply, result) => drop(reply.send(result)),
        }
    }
}

impl<M> Machine<M> {
    pub(crate) fn new(machine: M, configuration: Configuration) -> Self {
        Self {
            machine,
            sessions: Sessions::default(),
            book: BTreeMap::new(),
            configuration: Arc::new(configuration),
            applied: Position::default(),
            entries: 0,
            bytes: 0,
            writing: Arc::default(),
            restoring: false,
        }
    }
}

impl<M: StateMachine> Machine<M> {
    /// Takes over everything from the checkpoint in use.
    pub(crate) fn restore(
        &mut self,
        checkpoint: &Checkpoint,
        files: &Files,
    ) -> Result<(), Damaged> {
        let mut from = files.read().ok_or_else(|| Damaged("it is gone".to_owned()))?;
        let sessions = read_table(&mut from)?;
        self.sessions = Sessions::decode(sessions).map_err(|odd| Damaged(odd.to_owned()))?;
        self.book = members::decode_book(read_table(&mut from)?)
            .ok_or_else(|| Damaged("the addresses cannot be read".to_owned()))?;
        self.machine.restore(&mut from)?;
        self.applied = checkpoint.last;
        self.configuration = checkpoint.configuration.clone();
        (self.entries, self.bytes) = (0, 0);
        Ok(())
    }

    /// Applies an entry; gives the answer for whoever waits for it.
    fn apply(&mut self, entry: &Entry) -> Result<Option<Outcome>, Error> {
        self.applied = entry.position();
        self.entries += 1;
        let command = match &entry.payload {
            Payload::Noop => return Ok(None),
            Payload::Configuration(configuration) => {
                self.configuration = configuration.clone();
                return Ok(None);
            }
            Payload::Command(command) => command.clone(),
        };
        self.bytes += command.len();
        let index = entry.index;
        let Self { machine, sessions, .. } = self;
        let command = Command::decode(command).ok_or_else(|| {
            Error::Refused(format!("entry {index} is of another release: run that one"))
        })?;
        Ok(Some(match command {
            Command::Plain(command) => Ok(machine.apply(index, &command)),
            Command::Enrol(stamp) => {
                let client = sessions.enrol(index, stamp);
                Ok(Bytes::copy_from_slice(&client.0.to_le_bytes()))
            }
            Command::Call(stamp, caller, command) => {
                sessions.call(index, stamp, caller, || machine.apply(index, &command))
            }
            Command::Book(book) => {
                self.book = book;
                Ok(Bytes::new())
            }
        }))
    }

    /// Everything, frozen.
    fn freeze(&self) -> impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + use<M> {
        let (sessions, book) = (self.sessions.clone(), self.book.clone());
        let image = self.machine.checkpoint();
        move |out| {
            for table in [sessions.encode(), members::encode_book(&book)] {
                out.write_all(&(table.len() as u64).to_le_bytes())?;
                out.write_all(&table)?;
            }
            image.write(out)
        }
    }
}

/// Reads a table that its length stands before.
fn read_table(from: &mut dyn Read) -> Result<Bytes, Damaged> {
    let mut length = [0; 8];
    from.read_exact(&mut length)?;
    let length = u64::from_le_bytes(length);
    let mut bytes = Vec::new();
    from.take(length.min(TABLE_MAX)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length {
        Ok(bytes.into())
    } else {
        Err(Damaged("it is cut off".into()))
    }
}

impl<M: StateMachine> Shared<M> {
    /// Sends what is to be sent and does the steps that wait, unless another is at it, who then
    /// looks again.
    pub(crate) fn drain(&self) {
        self.send();
        self.work(false);
    }

    fn work(&self, may_block: bool) {
        loop {
            if self.steps.lock().is_empty() {
                return;
            }
            // Whoever may block has work that nobody else does, so it waits for its turn.
            let lock = if may_block { Some(self.machine.lock()) } else { self.machine.try_lock() };
            let Some(mut machine) = lock else { return };
            if machine.restoring && !may_block {
                return;
            }
            let steps = std::mem::take(&mut *self.steps.lock());
            let mut answers = Vec::new();
            let done = catch_unwind(AssertUnwindSafe(|| {
                self.steps(&mut machine, steps, may_block, &mut answers)
            }));
            let failure = match done {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                // The machine's state is unknown now, and must not be served.
                Err(_) => {
                    let panicked = "the state machine panicked; see the log of this process";
                    Some(panicked.to_owned())
                }
            };
            self.finish(machine, answers, failure);
        }
    }

    fn steps(
        &self,
        machine: &mut Machine<M>,
        mut steps: VecDeque<Step>,
        may_block: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        while let Some(step) = steps.pop_front() {
            if matches!(step, Step::Restore(_)) && !may_block {
                steps.push_front(step);
                machine.restoring = true;
                {
                    let mut waiting = self.steps.lock();
                    steps.append(&mut waiting);
                    *waiting = steps;
                }
                if let Some(shared) = self.itself.upgrade() {
                    self.world.tasks.blocking(Box::new(move || shared.work(true)));
                }
                return Ok(());
            }
            self.step(machine, step, answers)?;
        }
        Ok(())
    }

    /// Tells everybody how far the machine is, and answers.
    fn finish(
        &self,
        mut machine: MutexGuard<'_, Machine<M>>,
        answers: Vec<Answer>,
        failure: Option<String>,
    ) {
        self.log_time.store(machine.sessions.now().0, Ordering::Relaxed);
        self.applied.send_if_modified(|applied| {
            let moved = machine.applied.index > *applied;
            *applied = machine.applied.index.max(*applied);
            moved
        });
        let checkpoint = if failure.is_none() { self.due(&mut machine) } else { None };
        drop(machine);
        if answers.len() > MANY {
            self.world.spawn("raft answers", async move {
                answers.into_iter().for_each(Answer::give);
            });
        } else {
            answers.into_iter().for_each(Answer::give);
        }
        if let Some(write) = checkpoint {
            self.world.tasks.blocking(write);
        }
        if let Some(reason) = failure {
            self.stop(&reason);
        }
    }

    fn step(
        &self,
        machine: &mut Machine<M>,
        step: Step,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        match step {
            Step::Apply(entries) => {
                for (entry, waiter) in entries {
                    let outcome = machine.apply(&entry)?;
                    if matches!(entry.payload, Payload::Configuration(_)) {
                        self.reached(machine);
                    }
                    let Some(waiter) = waiter else { continue };
                    let result = match outcome {
                        Some(outcome) if waiter.term == entry.term => outcome,
                        // Another leader's entry took the place: the command will never happen.
                        _ => Err(Error::NotLeader { leader: None }),
                    };
                    answers.push(Answer::Command(waiter.reply, result));
                }
            }
            Step::Restore(checkpoint) => {
                machine.restoring = false;
                machine.restore(&checkpoint, &self.files).map_err(|damaged| {
                    Error::Refused(format!("the leader's checkpoint: {damaged}; {REBUILD}"))
                })?;
                self.reached(machine);
            }
            Step::Role(role) => {
                self.role.send_replace(role);
            }
            Step::Answer(reply, result) => answers.push(Answer::Other(reply, result)),
            Step::Reply(reply, error) => answers.push(Answer::Command(reply, Err(error))),
            Step::Look => {}
        }
        Ok(())
    }

    /// The transport learns where the members are reached.
    pub(crate) fn reached(&self, machine: &Machine<M>) {
        for (node, address) in &machine.book {
            self.transport.learn(*node, address);
        }
    }

    /// Takes a checkpoint if it is time for one; the returned work writes it and reports it.
    fn due(&self, machine: &mut Machine<M>) -> Option<Box<dyn FnOnce() + Send>> {
        let enough = machine.entries >= self.config.checkpoint_every
            || machine.bytes >= CHECKPOINT_BYTES
            || (machine.entries > 0 && self.crowded.load(Ordering::Relaxed));
        if !enough || machine.writing.swap(true, Ordering::AcqRel) {
            return None;
        }
        self.crowded.store(false, Ordering::Relaxed);
        (machine.entries, machine.bytes) = (0, 0);
        let (last, configuration) = (machine.applied, machine.configuration.clone());
        let (encode, writing) = (machine.freeze(), machine.writing.clone());
        let shared = self.itself.upgrade()?;
        Some(Box::new(move || {
            match shared.files.make(last, configuration, encode) {
                Ok(checkpoint) => {
                    shared.runtime.push(shared.config.group, Work::Cover(last.index));
                    shared.event(Event::CheckpointTaken(checkpoint));
                }
                Err(error) => shared.stop(&error.to_string()),
            }
            writing.store(false, Ordering::Release);
        }))
    }
}
