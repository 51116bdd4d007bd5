//! The handle of a hosted state machine: start, propose, barrier, look, stop. The protocol is the
//! raft room's, the commands are the machine's.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use parking_lot::Mutex;
use raft::{Configuration, Event, Index, Node, Stored};
use tokio::sync::{Notify, oneshot, watch};
use world::{Disk, OpenMode, Time, World};

use crate::{
    apply::Machine,
    checkpoint::CheckpointFile,
    command::Command,
    config::GroupConfig,
    driver::{Core, Shared},
    error::Error,
    log::{Log, Owner, Recovered},
    machine::StateMachine,
    session::{Caller, ClientId, LogTime},
    status::{Role, Status},
    transport::{Inbox, Transport},
    writer,
};

/// A state machine on this node of its group. Cheap to clone; when the last clone is dropped the
/// node stops as if it had crashed, which loses nothing.
pub struct Host<M: StateMachine>(Arc<Handle<M>>);

struct Handle<M: StateMachine>(Arc<Shared<M>>);

impl<M: StateMachine> Clone for Host<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: StateMachine> Drop for Handle<M> {
    fn drop(&mut self) {
        self.0.stop("it was dropped");
    }
}

/// What was read from the disk at the start.
struct Opened {
    log: Log,
    file: CheckpointFile,
    stored: Stored,
    /// The bytes of the checkpoint.
    data: Bytes,
}

impl<M: StateMachine> Host<M> {
    /// Starts this node of the group from what its directory holds: the machine is restored from
    /// the checkpoint, and gets the commands behind it as soon as they are known to be committed.
    ///
    /// # Errors
    /// [`Error::Damaged`] and [`Error::File`] name the file, [`Error::Refused`] the setting.
    pub async fn open(
        world: &World,
        config: GroupConfig,
        machine: M,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, Error> {
        let (disk, settings) = (world.disk.clone(), config.clone());
        let opened = read_directory(world, disk, settings).await?;
        let Opened { log, file, stored, data } = opened;
        let first = Arc::new(Configuration::of(config.raft().voters));
        let mut machine = Machine::new(machine, first, file.clone());
        if let Some(checkpoint) = &stored.checkpoint {
            machine.restore(checkpoint, data).map_err(|damaged| Error::Damaged {
                path: config.dir.join("checkpoint").display().to_string(),
                reason: damaged.to_string(),
            })?;
        }
        let refused =
            |error: raft::Error| Error::Refused(format!("{}: {error}", config.dir.display()));
        let node = Node::new(config.raft(), world.dice.roll(), stored).map_err(refused)?;
        let shared = Arc::new_cyclic(|itself| Shared {
            world: world.clone(),
            transport: transport.clone(),
            core: Mutex::new(Core::new(node)),
            writer: writer::Writer::default(),
            file: file.clone(),
            steps: Mutex::default(),
            role: watch::Sender::new(Role::Follower { leader: None }),
            applied: watch::Sender::new(machine.applied.index),
            log_time: AtomicU64::new(machine.sessions.now().0),
            machine: Mutex::new(machine),
            timer: Notify::new(),
            log_bytes: AtomicU64::new(log.bytes()),
            itself: itself.clone(),
            config,
        });
        transport.attach(shared.config.group, Arc::new(Arrivals(Arc::downgrade(&shared))));
        let thread = shared.clone();
        let work = Box::new(move || writer::run(&thread, log, &file));
        world.tasks.thread("raft log", work);
        let timer = shared.clone();
        world.spawn("raft timer", async move { timer.run_timer().await });
        shared.event(Event::Wake);
        Ok(Self(Arc::new(Handle(shared))))
    }

    /// Has `command` applied on all nodes; returns the machine's reply. Proposed twice, it is
    /// applied twice.
    ///
    /// # Errors
    /// [`Error::NotLeader`] if it has not happened and will not; the other errors leave it open.
    pub async fn propose(&self, command: Bytes, deadline: Time) -> Result<Bytes, Error> {
        self.submit(|_| Command::Plain(command), deadline).await
    }

    /// Has `command` applied on all nodes, once however often the same call is proposed and to
    /// whomever; returns the machine's reply to the first.
    ///
    /// # Errors
    /// [`Error::NotLeader`], [`Error::Expired`] and [`Error::Spent`] if this try has not happened
    /// and will not; the other errors leave it open: try again, with the same number.
    pub async fn propose_once(
        &self,
        caller: Caller,
        command: Bytes,
        deadline: Time,
    ) -> Result<Bytes, Error> {
        self.submit(|stamp| Command::Call(stamp, caller, command), deadline).await
    }

    /// Begins a session for a client that calls [`Host::propose_once`]. Tried again after an
    /// unknown outcome it may leave a session that nobody uses, which ends by itself.
    ///
    /// # Errors
    /// As [`Host::propose`].
    pub async fn enrol(&self, deadline: Time) -> Result<ClientId, Error> {
        let mut reply = self.submit(Command::Enrol, deadline).await?;
        Ok(ClientId(reply.get_u64_le()))
    }

    async fn submit(
        &self,
        command: impl FnOnce(LogTime) -> Command,
        deadline: Time,
    ) -> Result<Bytes, Error> {
        let (reply, answer) = oneshot::channel();
        self.shared().propose(command, reply);
        self.wait(answer, deadline).await
    }

    /// Ready when this node, as the leader, has applied everything that was acknowledged by any
    /// leader before the call: [`Host::with`] then shows no past.
    ///
    /// # Errors
    /// [`Error::NotLeader`] says whom to ask.
    pub async fn barrier(&self, deadline: Time) -> Result<(), Error> {
        let (reply, answer) = oneshot::channel();
        self.shared().read(reply);
        self.wait(answer, deadline).await
    }

    async fn wait<T>(
        &self,
        answer: oneshot::Receiver<Result<T, Error>>,
        deadline: Time,
    ) -> Result<T, Error> {
        match self.shared().world.until(deadline, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.shared().stopped()),
            Err(_) => Err(Error::Deadline),
        }
    }

    /// A look at this node's machine, as far as it has applied. `look` must be short, and must not
    /// call this host's `with`. It may change what is no replicated state (an outbox of notices).
    pub fn with<R>(&self, look: impl FnOnce(&mut M) -> R) -> R {
        let result = look(&mut self.shared().machine.lock().machine);
        // Steps that came meanwhile were left to us.
        self.shared().drain();
        result
    }

    /// What this node is, from now on.
    #[must_use]
    pub fn role(&self) -> watch::Receiver<Role> {
        self.shared().role.subscribe()
    }

    /// How far the machine is; moves after each applied batch.
    #[must_use]
    pub fn applied(&self) -> watch::Receiver<Index> {
        self.shared().applied.subscribe()
    }

    /// A look at the node.
    #[must_use]
    pub fn status(&self) -> Status {
        self.shared().status()
    }

    /// Stops the node and waits until its files are closed.
    pub async fn stop(&self) {
        let shared = self.shared();
        shared.stop("it was stopped");
        loop {
            let ended = shared.timer.notified();
            if shared.writer.ended.load(Ordering::Acquire) {
                return;
            }
            // The writer may end between the look and the wait: look again soon.
            let soon = shared.world.clock.now() + Duration::from_millis(20);
            let _ = shared.world.until(soon, ended).await;
        }
    }

    fn shared(&self) -> &Shared<M> {
        &self.0.0
    }
}

/// Receives for a host without keeping it alive.
struct Arrivals<M>(std::sync::Weak<Shared<M>>);

impl<M: StateMachine> Inbox for Arrivals<M> {
    fn receive(&self, message: raft::Message) {
        if let Some(shared) = self.0.upgrade() {
            shared.receive(message);
        }
    }

    fn status(&self) -> Option<Status> {
        self.0.upgrade().map(|shared| shared.status())
    }
}

/// Reads checkpoint and log; waits a little for the thread of a host that was just dropped.
async fn read_directory(
    world: &World,
    disk: Arc<dyn Disk>,
    config: GroupConfig,
) -> Result<Opened, Error> {
    let patience = world.clock.now() + Duration::from_secs(2);
    let failed = |error: &std::io::Error| Error::file(&config.dir, error);
    let dir = config.dir.clone();
    let made = disk.clone();
    world.blocking(move || made.create_dir_all(&dir)).await.map_err(|error| failed(&error))?;
    let lock_path = config.dir.join("lock");
    let lock =
        disk.open(&lock_path, OpenMode::Create).map_err(|error| Error::file(&lock_path, &error))?;
    while let Err(error) = lock.lock() {
        if error.kind() != std::io::ErrorKind::WouldBlock || world.clock.now() > patience {
            let path = lock_path.display().to_string();
            let reason = format!("{error}: another process uses this directory; stop it first");
            return Err(Error::File { path, reason });
        }
        world.clock.sleep(Duration::from_millis(10)).await;
    }
    let work = move || {
        let owner = Owner { cluster: config.cluster, group: config.group, node: config.me };
        let file = CheckpointFile::new(&disk, &config.dir, owner);
        let (checkpoint, data) = file.read()?.unzip();
        let covered = checkpoint.as_ref().map(|checkpoint| checkpoint.last);
        let (mut log, recovered) = Log::open(&disk, &config.dir, owner, covered)?;
        log.hold(lock);
        let Recovered { hard, entries } = recovered;
        let stored = Stored { hard, checkpoint, entries, partial: None };
        Ok(Opened { log, file, stored, data: data.unwrap_or_default() })
    };
    world.blocking(work).await
}
