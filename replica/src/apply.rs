//! What happens to the state machine, in the order of the log. Whoever adds steps does them, if
//! nobody is at it: a committed command is applied and answered on the thread that learned of the
//! commit, without a task switch. What the commands mean is not known here.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::{Buf, Bytes};
use raft::{Checkpoint, Configuration, Entry, Event, Payload, Position};
use wire::NodeId;

use crate::{
    checkpoint::{CheckpointFile, digest},
    command::Command,
    driver::{Reply, Shared, Waiter},
    error::{Error, REBUILD},
    machine::{Damaged, StateMachine},
    session::Sessions,
    status::Role,
};

/// A checkpoint is taken after this many bytes of commands at the latest.
const CHECKPOINT_BYTES: usize = 32 << 20;

/// What a caller gets.
type Outcome = Result<Bytes, Error>;

/// One thing to do, in order with the others.
pub(crate) enum Step {
    Apply(Vec<(Entry, Option<Waiter>)>),
    Restore(Checkpoint),
    Role(Role),
    /// Everything that the read must see was applied by earlier steps.
    Read(Reply<()>),
    ReadRefused(Reply<()>, Option<NodeId>),
    ReadFailed(Reply<()>, Error),
    Refused(Reply<Bytes>, Option<NodeId>),
    Lost(Reply<Bytes>),
    Covered(Reply<Bytes>),
    Failed(Reply<Bytes>, Error),
}

/// The hosted machine and how far it is.
pub(crate) struct Machine<M> {
    pub(crate) machine: M,
    pub(crate) sessions: Sessions,
    pub(crate) applied: Position,
    /// The group as of the last entry applied.
    configuration: Arc<Configuration>,
    pub(crate) file: CheckpointFile,
    entries: u64,
    bytes: usize,
    /// One checkpoint is written at a time.
    writing: Arc<AtomicBool>,
}

/// An answer, sent after the machine's lock was let go.
enum Answer {
    Command(Reply<Bytes>, Result<Bytes, Error>),
    Read(Reply<()>, Result<(), Error>),
}

impl<M> Machine<M> {
    pub(crate) fn new(machine: M, configuration: Arc<Configuration>, file: CheckpointFile) -> Self {
        let (sessions, applied) = (Sessions::default(), Position::default());
        let writing = Arc::default();
        Self { machine, sessions, applied, configuration, file, entries: 0, bytes: 0, writing }
    }
}

impl<M: StateMachine> Machine<M> {
    /// Takes over sessions and state from a checkpoint.
    pub(crate) fn restore(
        &mut self,
        checkpoint: &Checkpoint,
        mut bytes: Bytes,
    ) -> Result<(), Damaged> {
        if bytes.len() < 8 {
            return Err(Damaged("the checkpoint is cut off".to_owned()));
        }
        let length = usize::try_from(bytes.get_u64_le()).unwrap_or(usize::MAX);
        if length > bytes.len() {
            return Err(Damaged("the checkpoint is cut off".to_owned()));
        }
        let sessions = bytes.split_to(length);
        self.sessions = Sessions::decode(sessions).map_err(|odd| Damaged(odd.to_owned()))?;
        self.machine.restore(&mut bytes.reader())?;
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
            Payload::Command(command) => command,
        };
        self.bytes += command.len();
        let index = entry.index;
        let Self { machine, sessions, .. } = self;
        let command = Command::decode(command.clone()).ok_or_else(|| {
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
        }))
    }

    /// Sessions and state, frozen.
    fn checkpoint(&self) -> impl FnOnce() -> io::Result<Bytes> + Send + use<M> {
        let (sessions, image) = (self.sessions.clone(), self.machine.checkpoint());
        move || {
            let sessions = sessions.encode();
            let mut out = Vec::new();
            out.extend_from_slice(&(sessions.len() as u64).to_le_bytes());
            out.extend_from_slice(&sessions);
            image.write(&mut out)?;
            Ok(out.into())
        }
    }
}

impl<M: StateMachine> Shared<M> {
    /// Does the steps that wait, unless another is at it, who then looks again.
    pub(crate) fn drain(&self) {
        loop {
            if self.steps.lock().is_empty() {
                return;
            }
            // Before the lock, so that an unwinding lets the lock go first.
            let _tripwire = Tripwire(self);
            let Some(mut machine) = self.machine.try_lock() else { return };
            let steps = std::mem::take(&mut *self.steps.lock());
            let mut answers = Vec::new();
            let mut failure = None;
            for step in steps {
                if let Err(error) = self.step(&mut machine, step, &mut answers) {
                    failure = Some(error);
                    break;
                }
            }
            self.log_time.store(machine.sessions.now().0, Ordering::Relaxed);
            self.applied.send_if_modified(|applied| {
                let moved = machine.applied.index > *applied;
                *applied = machine.applied.index.max(*applied);
                moved
            });
            let checkpoint = self.due(&mut machine);
            drop(machine);
            for answer in answers {
                // Callers past their deadline listen no more.
                match answer {
                    Answer::Command(reply, result) => drop(reply.send(result)),
                    Answer::Read(reply, result) => drop(reply.send(result)),
                }
            }
            if let Some(write) = checkpoint {
                self.world.tasks.blocking(write);
            }
            if let Some(error) = failure {
                self.stop(&error.to_string());
            }
        }
    }

    fn step(
        &self,
        machine: &mut Machine<M>,
        step: Step,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Error> {
        let not_leader = |leader| Error::NotLeader { leader };
        match step {
            Step::Apply(entries) => {
                for (entry, waiter) in entries {
                    let term = entry.term;
                    let outcome = machine.apply(&entry)?;
                    let Some(waiter) = waiter else { continue };
                    let result = match outcome {
                        Some(outcome) if waiter.term == term => outcome,
                        // Another leader's entry took the place: the command will never happen.
                        _ => Err(not_leader(None)),
                    };
                    answers.push(Answer::Command(waiter.reply, result));
                }
            }
            Step::Restore(checkpoint) => {
                let (_, data) = machine.file.read()?.ok_or_else(|| {
                    Error::Refused("the leader's checkpoint is not on the disk".to_owned())
                })?;
                machine.restore(&checkpoint, data).map_err(|damaged| {
                    Error::Refused(format!("the leader's checkpoint: {damaged}; {REBUILD}"))
                })?;
            }
            Step::Role(role) => {
                self.role.send_replace(role);
            }
            Step::Read(reply) => answers.push(Answer::Read(reply, Ok(()))),
            Step::ReadRefused(reply, leader) => {
                answers.push(Answer::Read(reply, Err(not_leader(leader))));
            }
            Step::ReadFailed(reply, error) => answers.push(Answer::Read(reply, Err(error))),
            Step::Refused(reply, leader) => {
                answers.push(Answer::Command(reply, Err(not_leader(leader))));
            }
            Step::Lost(reply) => answers.push(Answer::Command(reply, Err(not_leader(None)))),
            Step::Covered(reply) => answers.push(Answer::Command(reply, Err(Error::Covered))),
            Step::Failed(reply, error) => answers.push(Answer::Command(reply, Err(error))),
        }
        Ok(())
    }

    /// Takes a checkpoint if it is time for one; the returned work writes it and reports it.
    fn due(&self, machine: &mut Machine<M>) -> Option<Box<dyn FnOnce() + Send>> {
        let enough =
            machine.entries >= self.config.checkpoint_every || machine.bytes >= CHECKPOINT_BYTES;
        if !enough || machine.writing.swap(true, Ordering::AcqRel) {
            return None;
        }
        (machine.entries, machine.bytes) = (0, 0);
        let (last, encode) = (machine.applied, machine.checkpoint());
        let configuration = machine.configuration.clone();
        let (file, writing) = (machine.file.clone(), machine.writing.clone());
        let shared = self.itself.upgrade()?;
        Some(Box::new(move || {
            let encoded = encode().map_err(|error| Error::Refused(error.to_string()));
            let written = encoded.and_then(|data| {
                let (size, digest) = (data.len() as u64, digest(&data));
                let checkpoint = Checkpoint { last, configuration, size, digest };
                file.write(&checkpoint, &data).map(|()| checkpoint)
            });
            match written {
                Ok(checkpoint) => shared.event(Event::CheckpointTaken(checkpoint)),
                Err(error) => shared.stop(&error.to_string()),
            }
            writing.store(false, Ordering::Release);
        }))
    }
}

/// Stops the host when the machine panics: its state is then unknown, and must not be served.
struct Tripwire<'a, M: StateMachine>(&'a Shared<M>);

impl<M: StateMachine> Drop for Tripwire<'_, M> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.steps.lock().clear();
            self.0.stop("the state machine panicked; see the log of this process");
        }
    }
}
