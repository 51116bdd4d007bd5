//! The calling side of a group: finds the leader by trying nodes and following where they point,
//! and tries each command with the same number until it is answered, so that it happens once
//! (Raft, section 8; thesis, 6.3). What a command means and how a node is reached is not known here.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use wire::NodeId;
use world::{Time, World};

use crate::{
    error::Error,
    host::Host,
    machine::StateMachine,
    session::{CallNumber, Caller, ClientId, WINDOW},
};

/// How long one node may be silent before another is asked.
const SILENCE: Duration = Duration::from_millis(1500);
/// The pause after all nodes were asked in vain.
const PAUSE: Duration = Duration::from_millis(25);

/// One node of the group as its clients reach it: a [`Host`] of this process, or a service that
/// passes calls on to one.
#[async_trait]
pub trait Door: Send + Sync {
    /// As [`Host::enrol`].
    async fn enrol(&self, deadline: Time) -> Result<ClientId, Error>;

    /// As [`Host::propose_once`].
    async fn call(&self, caller: Caller, command: Bytes, deadline: Time) -> Result<Bytes, Error>;
}

#[async_trait]
impl<M: StateMachine> Door for Host<M> {
    async fn enrol(&self, deadline: Time) -> Result<ClientId, Error> {
        Host::enrol(self, deadline).await
    }

    async fn call(&self, caller: Caller, command: Bytes, deadline: Time) -> Result<Bytes, Error> {
        self.propose_once(caller, command, deadline).await
    }
}

/// A client of a group, with a session of its own. Calls may run side by side.
pub struct Client {
    world: World,
    doors: Vec<(NodeId, Arc<dyn Door>)>,
    /// Who answered last, by place in `doors`.
    leader: AtomicUsize,
    session: tokio::sync::Mutex<Option<Arc<Session>>>,
}

struct Session {
    client: ClientId,
    calls: Mutex<Calls>,
    /// The floor has risen.
    answered: Notify,
}

#[derive(Default)]
struct Calls {
    last: u64,
    /// Numbers that are not answered yet.
    open: BTreeSet<u64>,
}

impl Calls {
    fn floor(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.last + 1)
    }
}

/// A call that is not answered yet; its number is done with when this is dropped.
struct Open {
    session: Arc<Session>,
    number: u64,
}

impl Open {
    fn caller(&self) -> Caller {
        let floor = CallNumber(self.session.calls.lock().floor());
        Caller { client: self.session.client, number: CallNumber(self.number), floor }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.session.calls.lock().open.remove(&self.number);
        self.session.answered.notify_waiters();
    }
}

impl Session {
    /// A number for a new call, once the session has room for its reply.
    async fn begin(self: &Arc<Self>) -> Open {
        loop {
            let answered = self.answered.notified();
            {
                let mut calls = self.calls.lock();
                if calls.last + 1 - calls.floor() < WINDOW {
                    calls.last += 1;
                    let number = calls.last;
                    calls.open.insert(number);
                    drop(calls);
                    return Open { session: self.clone(), number };
                }
            }
            answered.await;
        }
    }
}

impl Client {
    /// A client of the group that these nodes form.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(world: &World, doors: Vec<(NodeId, Arc<dyn Door>)>) -> Self {
        assert!(!doors.is_empty(), "a group has at least one node");
        let session = tokio::sync::Mutex::new(None);
        Self { world: world.clone(), doors, leader: AtomicUsize::new(0), session }
    }

    /// Has `command` applied once and returns the machine's reply.
    ///
    /// # Errors
    /// [`Error::Deadline`] leaves open whether it happens; so does [`Error::Expired`], which is
    /// given only if the session ended after a try whose outcome is unknown. [`Error::Refused`] is
    /// the service's own word.
    pub async fn call(&self, command: Bytes, deadline: Time) -> Result<Bytes, Error> {
        loop {
            let session = self.session(deadline).await?;
            let begin = self.world.until(deadline, session.begin());
            let open = begin.await.map_err(|_| Error::Deadline)?;
            let ask = |door: Arc<dyn Door>, until| {
                let (caller, command) = (open.caller(), command.clone());
                async move { door.call(caller, command, until).await }
            };
            match self.ask(deadline, ask).await {
                Err((Error::Expired, first)) => {
                    self.forget(&open.session).await;
                    if !first {
                        return Err(Error::Expired);
                    }
                    // Never sent before, so never applied: again, in a new session.
                }
                other => return other.map_err(|(error, _)| error),
            }
        }
    }

    async fn session(&self, deadline: Time) -> Result<Arc<Session>, Error> {
        let mut session = self.session.lock().await;
        if let Some(session) = &*session {
            return Ok(session.clone());
        }
        let ask = |door: Arc<dyn Door>, until| async move { door.enrol(until).await };
        let client = self.ask(deadline, ask).await.map_err(|(error, _)| error)?;
        let calls = Mutex::default();
        let fresh = Arc::new(Session { client, calls, answered: Notify::new() });
        *session = Some(fresh.clone());
        Ok(fresh)
    }

    async fn forget(&self, ended: &Arc<Session>) {
        let mut session = self.session.lock().await;
        if session.as_ref().is_some_and(|session| Arc::ptr_eq(session, ended)) {
            *session = None;
        }
    }

    /// Asks one node after the other until one has answered. An error comes with whether no earlier
    /// try can have had an effect.
    async fn ask<R, F>(
        &self,
        deadline: Time,
        ask: impl Fn(Arc<dyn Door>, Time) -> F,
    ) -> Result<R, (Error, bool)>
    where
        F: Future<Output = Result<R, Error>>,
    {
        let mut at = self.leader.load(Ordering::Relaxed);
        let mut first = true;
        for tried in 1.. {
            let now = self.world.clock.now();
            if now >= deadline {
                break;
            }
            let until = if self.doors.len() == 1 { deadline } else { deadline.min(now + SILENCE) };
            let (_, door) = &self.doors[at];
            let hint = match self.world.until(until, ask(door.clone(), until)).await {
                Ok(Ok(answer)) => {
                    self.leader.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Ok(Err(Error::NotLeader { leader })) => leader,
                Ok(Err(Error::Busy(_))) => None,
                Ok(Err(Error::Deadline | Error::Covered | Error::Stopped(_))) | Err(_) => {
                    first = false;
                    None
                }
                Ok(Err(error)) => return Err((error, first)),
            };
            let hinted = hint.and_then(|id| self.doors.iter().position(|(node, _)| *node == id));
            at = match hinted {
                Some(place) if place != at => place,
                Some(_) | None => (at + 1) % self.doors.len(),
            };
            if tried % self.doors.len() == 0 {
                self.world.clock.sleep(PAUSE).await;
            }
        }
        Err((Error::Deadline, first))
    }
}
