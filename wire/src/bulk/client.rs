//! The calling side of bulk connections: connects when needed and again after a loss, with
//! back-off; keeps bytes in flight within the server's window; gives every call its answer or its
//! deadline. What is asked is not known here.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use world::{Address, Time, World};

use super::{
    connection::{Held, Reader, Writer, send_plain},
    frame::{FRAME_LIMIT, Header, Hello, Message, Type},
    serve::{UNIT, units},
};
use crate::{
    cut::{CutStream, Stop},
    error::{Error, Happened},
    identity::Identity,
};

/// How long connecting and the handshake may take.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection with calls under way that says nothing for two of these is given up.
const SILENCE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Calls to one bulk server. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct Client(Arc<Shared>);

struct Shared {
    world: World,
    me: Identity,
    address: Address,
    up: Mutex<Option<Arc<Connection>>>,
    /// Held while connecting: one attempt at a time.
    attempt: tokio::sync::Mutex<Attempt>,
}

#[derive(Default)]
struct Attempt {
    pause: Duration,
    not_before: Time,
    /// How the last attempt failed, and when.
    failed: Option<(Time, Error)>,
}

/// One connection, from welcome to loss.
struct Connection {
    address: Address,
    writer: Arc<Writer>,
    calls: Mutex<Calls>,
    next: AtomicU64,
    window: u32,
    credits: Arc<Semaphore>,
    received: AtomicU64,
    /// Ends the connection's streams.
    cut: watch::Sender<Stop>,
}

#[derive(Default)]
struct Calls {
    open: BTreeMap<u64, Call>,
    lost: Option<Error>,
}

struct Call {
    answer: oneshot::Sender<Result<Message, Error>>,
    /// Given back with the answer, not at the deadline: the server still has the bytes.
    _credit: OwnedSemaphorePermit,
}

impl Client {
    /// A client of the server at `address`. It connects at the first call.
    #[must_use]
    pub fn new(world: &World, me: Identity, address: Address) -> Self {
        Self(Arc::new(Shared {
            world: world.clone(),
            me,
            address,
            up: Mutex::new(None),
            attempt: tokio::sync::Mutex::default(),
        }))
    }

    /// Where it calls.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.0.address
    }

    /// Sends `request` and waits for its reply until `deadline`. While the server cannot be
    /// reached, calls are paced by a growing pause and then fail: callers can simply try again.
    ///
    /// # Errors
    /// [`Error`] tells whether the call can have happened.
    pub async fn call(&self, request: Message, deadline: Time) -> Result<Message, Error> {
        let world = &self.0.world;
        let too_late = |_| Error::Deadline { happened: Happened::No };
        let left = deadline.since(world.clock.now());
        if left.is_zero() {
            return Err(Error::Deadline { happened: Happened::No });
        }
        let milliseconds = u32::try_from(left.as_millis()).unwrap_or(0).max(1);
        let size = request.head.len() + request.body.len();
        let header = Header::of(Type::Request, 0, milliseconds, &request)?;
        loop {
            let connection = match self.current() {
                Some(connection) => connection,
                None => world.until(deadline, self.connect()).await.map_err(too_late)??,
            };
            let need = units(size, connection.window);
            let credit = match connection.credits.clone().try_acquire_many_owned(need) {
                Ok(credit) => Ok(credit),
                Err(_) => {
                    let wait = connection.credits.clone().acquire_many_owned(need);
                    world.until(deadline, wait).await.map_err(too_late)?
                }
            };
            // Closed credits: the connection was lost before anything was sent. Take another.
            let Ok(credit) = credit else { continue };
            let Some((id, answer)) = connection.open(credit) else { continue };
            if connection.writer.send(&header.with_id(id), request, Held::new()).is_err() {
                let lost = Error::unreachable(&self.0.address, "the connection was lost");
                return Err(lost);
            }
            return match world.until(deadline, answer).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(Error::lost(&self.0.address, "the connection was dropped")),
                Err(elapsed) => Err(elapsed.into()),
            };
        }
    }

    fn current(&self) -> Option<Arc<Connection>> {
        let mut up = self.0.up.lock();
        if up.as_ref().is_some_and(|connection| connection.calls.lock().lost.is_some()) {
            *up = None;
        }
        up.clone()
    }

    async fn connect(&self) -> Result<Arc<Connection>, Error> {
        let shared = &self.0;
        let began = shared.world.clock.now();
        let mut attempt = shared.attempt.lock().await;
        if let Some(connection) = self.current() {
            return Ok(connection);
        }
        // All who waited for one attempt share its failure; else each would wait for one of its
        // own, after the others.
        if let Some((_, error)) = attempt.failed.as_ref().filter(|(when, _)| *when > began) {
            return Err(error.clone());
        }
        shared.world.clock.sleep_until(attempt.not_before).await;
        let deadline = shared.world.clock.now() + CONNECT;
        let made = shared.world.until(deadline, shared.handshake()).await.unwrap_or_else(|_| {
            Err(Error::unreachable(&shared.address, "no answer to the hello within 3 s"))
        });
        match made {
            Ok(connection) => {
                *attempt = Attempt::default();
                *shared.up.lock() = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                attempt.pause = (attempt.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
                let now = shared.world.clock.now();
                attempt.not_before = now + attempt.pause;
                attempt.failed = Some((now, error.clone()));
                Err(error)
            }
        }
    }
}

impl Shared {
    async fn handshake(&self) -> Result<Arc<Connection>, Error> {
        let failed = |error: std::io::Error| Error::unreachable(&self.address, &error);
        let stream = self.world.net.connect(&self.address).await.map_err(failed)?;
        let (cut, cutting) = watch::channel(Stop::No);
        let (reading, writing) = tokio::io::split(CutStream::new(stream, cutting));
        let writer = Writer::start(&self.world, writing);
        let mut reader = Reader::new(reading);
        send_plain(&writer, Type::Hello, 0, Hello::new(self.me, 0).encode())?;
        let answer = reader.greeting().await;
        let welcomed = answer
            .map_err(failed)
            .and_then(|(header, message)| self.read_welcome(&header, &message));
        let hello = match welcomed {
            Ok(hello) => hello,
            Err(error) => {
                writer.close();
                return Err(error);
            }
        };
        let connection = Arc::new(Connection {
            address: self.address.clone(),
            writer,
            calls: Mutex::default(),
            next: AtomicU64::new(1),
            window: hello.window,
            credits: Arc::new(Semaphore::new((hello.window / UNIT).max(1) as usize)),
            received: AtomicU64::new(0),
            cut,
        });
        let (reads, watches) = (connection.clone(), connection.clone());
        self.world.spawn("bulk replies", async move { reads.read_all(reader).await });
        let world = self.world.clone();
        self.world.spawn("bulk pulse", async move { watches.watch(&world).await });
        Ok(connection)
    }

    fn read_welcome(&self, header: &Header, message: &Message) -> Result<Hello, Error> {
        let refused = |reason| Error::Refused { address: self.address.to_string(), reason };
        match header.frame {
            Type::Welcome => {
                let hello = Hello::decode(&message.head)?;
                self.me.check_protocol(hello.protocol).map_err(refused)?;
                self.me.check_cluster(hello.identity).map_err(refused)?;
                Ok(hello)
            }
            Type::Refuse => Err(refused(String::from_utf8_lossy(&message.head).into_owned())),
            _ => Err(Error::Damaged("a hello was answered by another frame")),
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(connection) = self.up.lock().take() {
            connection.lose("its client is gone");
        }
    }
}

impl Connection {
    fn open(
        &self,
        credit: OwnedSemaphorePermit,
    ) -> Option<(u64, oneshot::Receiver<Result<Message, Error>>)> {
        let id = self.next.fetch_add(1, Relaxed);
        let (answer, answered) = oneshot::channel();
        let mut calls = self.calls.lock();
        if calls.lost.is_some() {
            return None;
        }
        calls.open.insert(id, Call { answer, _credit: credit });
        Some((id, answered))
    }

    async fn read_all(&self, mut reader: Reader) {
        let reason = loop {
            match self.read(&mut reader).await {
                Ok(true) => {}
                Ok(false) => break "the server ended it".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        self.lose(&reason);
    }

    async fn read(&self, reader: &mut Reader) -> std::io::Result<bool> {
        let Some(header) = reader.header(FRAME_LIMIT).await? else { return Ok(false) };
        self.received.fetch_add(1, Relaxed);
        let message = reader.message(&header).await?;
        let result = match header.frame {
            Type::Reply => Ok(message),
            Type::Late => Err(Error::Deadline { happened: Happened::No }),
            Type::Pong => return Ok(true),
            _ => return Err(std::io::Error::other("a frame that servers do not send")),
        };
        let call = self.calls.lock().open.remove(&header.id);
        match call {
            // A caller that is past its deadline listens no more.
            Some(call) => drop(call.answer.send(result)),
            None => return Err(std::io::Error::other("a reply to nothing that was asked")),
        }
        Ok(true)
    }

    fn lose(&self, reason: &str) {
        let error = Error::lost(&self.address, reason);
        let open = {
            let mut calls = self.calls.lock();
            calls.lost.get_or_insert_with(|| error.clone());
            std::mem::take(&mut calls.open)
        };
        for call in open.into_values() {
            drop(call.answer.send(Err(error.clone())));
        }
        self.credits.close();
        self.writer.close();
        self.cut.send_replace(Stop::Now);
    }

    /// Gives the connection up when calls are under way and the server says nothing, not even to
    /// a ping.
    async fn watch(&self, world: &World) {
        let (mut seen, mut asked) = (0, false);
        loop {
            let mut cut = self.cut.subscribe();
            let ended = cut.wait_for(|stop| *stop == Stop::Now);
            if world.until(world.clock.now() + SILENCE, ended).await.is_ok() {
                return;
            }
            let received = self.received.load(Relaxed);
            let waiting = !self.calls.lock().open.is_empty();
            if received != seen || !waiting {
                (seen, asked) = (received, false);
            } else if asked {
                self.lose("it said nothing for ten seconds");
                return;
            } else {
                asked = true;
                // It has no payload, so it cannot be too large.
                let _ = send_plain(&self.writer, Type::Ping, 0, Message::default());
            }
        }
    }
}
