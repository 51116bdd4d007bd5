//! The serving side of bulk connections: handshake, reading requests within a budget of bytes and
//! calls, answering as they are done. What the requests mean is not known here.

use std::{pin::pin, sync::Arc, task::Poll, time::Duration};

use futures_util::future::{BoxFuture, Either, poll_fn, select};
use tokio::sync::{Semaphore, mpsc, watch};
use world::{Listener, Stream, World};

use super::{
    Service,
    connection::{Held, Reader, Writer, send_plain},
    frame::{FRAME_LIMIT, Header, Hello, Message, Type},
};
use crate::{
    cut::{CutStream, Stop},
    identity::Identity,
    server::{Serving, accept},
};

/// Bytes of requests that one connection may have under way.
const WINDOW: u32 = 32 << 20;
/// Requests that one connection may have under way, which bounds the bytes of replies.
const CALLS: u32 = 256;
/// One permit of the window stands for this many bytes.
pub(crate) const UNIT: u32 = 1 << 10;

/// How many permits a message takes of a window.
pub(crate) fn units(size: usize, window: u32) -> u32 {
    let units = (size as u32 + 64).div_ceil(UNIT);
    // A message larger than the window takes all of it.
    units.min((window / UNIT).max(1))
}

/// Serves `service` on `listener`.
pub fn serve(
    world: &World,
    me: Identity,
    listener: Box<dyn Listener>,
    service: Arc<dyn Service>,
) -> Serving {
    let (serving, stopping, done) = Serving::new(world, listener.address());
    let context = world.clone();
    world.spawn("bulk server", async move {
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        let mut signal = stopping.clone();
        loop {
            let connected = pin!(accept(&context, listener.as_ref()));
            let stopped = pin!(signal.wait_for(|stop| *stop != Stop::No));
            let stream = match select(stopped, connected).await {
                Either::Left(_) => break,
                Either::Right((stream, _)) => stream,
            };
            let connection = Connection {
                world: context.clone(),
                me,
                service: service.clone(),
                stopping: stopping.clone(),
            };
            let alive = alive.clone();
            context.spawn("bulk connection", async move {
                connection.run(stream).await;
                drop(alive);
            });
        }
        drop((listener, alive));
        all_gone.recv().await;
        let _ = done.send(true);
    });
    serving
}

struct Connection {
    world: World,
    me: Identity,
    service: Arc<dyn Service>,
    stopping: watch::Receiver<Stop>,
}

impl Connection {
    async fn run(self, stream: Box<dyn Stream>) {
        let stream = CutStream::new(stream, self.stopping.clone());
        let (reading, writing) = tokio::io::split(stream);
        let writer = Writer::start(&self.world, writing);
        let mut reader = Reader::new(reading);
        let soon = self.world.clock.now() + Duration::from_secs(5);
        match self.world.until(soon, self.welcome(&mut reader, &writer)).await {
            Ok(Ok(peer)) => self.answer_all(peer, reader, &writer).await,
            Ok(Err(reason)) => tracing::warn!(me = %self.me, reason, "bulk connection refused"),
            Err(_) => tracing::warn!(me = %self.me, "a bulk connection said no hello"),
        }
        writer.close();
    }

    async fn welcome(&self, reader: &mut Reader, writer: &Writer) -> Result<Identity, String> {
        let (header, message) = reader.greeting().await.map_err(|error| error.to_string())?;
        let checked = if header.frame == Type::Hello {
            Hello::decode(&message.head).map_err(|error| error.to_string()).and_then(|hello| {
                self.me.check_protocol(hello.protocol)?;
                self.me.check_cluster(hello.identity)?;
                Ok(hello.identity)
            })
        } else {
            Err("a bulk connection must begin with a hello".to_owned())
        };
        match &checked {
            Ok(_) => {
                let hello = Hello::new(self.me, WINDOW).encode();
                send_plain(writer, Type::Welcome, 0, hello).map_err(|error| error.to_string())?;
            }
            Err(reason) => {
                let refusal = Message::new(0, reason.clone().into_bytes(), Vec::new());
                send_plain(writer, Type::Refuse, 0, refusal).map_err(|error| error.to_string())?;
                // The peer reads the sentence and hangs up; leave it the time to.
                let soon = self.world.clock.now() + Duration::from_millis(500);
                let _ = self.world.until(soon, reader.header(4096)).await;
            }
        }
        checked
    }

    /// Reads and answers requests until the peer hangs up or the server stops; then lets those
    /// under way end.
    async fn answer_all(&self, peer: Identity, mut reader: Reader, writer: &Arc<Writer>) {
        let window = Arc::new(Semaphore::new((WINDOW / UNIT) as usize));
        let calls = Arc::new(Semaphore::new(CALLS as usize));
        let mut stopping = self.stopping.clone();
        let mut stopped = pin!(stopping.wait_for(|stop| *stop != Stop::No));
        loop {
            let next = pin!(self.next(&mut reader, writer, &window, &calls));
            let request = match select(next, stopped.as_mut()).await {
                Either::Left((Ok(Some(request)), _)) => request,
                Either::Left((Ok(None), _)) => break,
                Either::Left((Err(error), _)) => {
                    tracing::debug!(%peer, %error, "bulk connection ends");
                    break;
                }
                Either::Right(_) => break,
            };
            self.answer(peer, request, writer).await;
        }
        // All permits are back when the last reply was written, or dropped with the connection.
        let mut cut = self.stopping.clone();
        let cut = pin!(cut.wait_for(|stop| *stop == Stop::Now));
        let _ = select(pin!(calls.acquire_many(CALLS)), cut).await;
    }

    async fn next(
        &self,
        reader: &mut Reader,
        writer: &Writer,
        window: &Arc<Semaphore>,
        calls: &Arc<Semaphore>,
    ) -> std::io::Result<Option<Request>> {
        loop {
            let Some(header) = reader.header(FRAME_LIMIT).await? else { return Ok(None) };
            match header.frame {
                Type::Ping => {
                    reader.message(&header).await?;
                    send_plain(writer, Type::Pong, header.id, Message::default())
                        .map_err(std::io::Error::other)?;
                }
                Type::Request => {
                    let arrived = self.world.clock.now();
                    let size = header.head_length as usize + header.body_length as usize;
                    let bytes = window.clone().acquire_many_owned(units(size, WINDOW)).await;
                    let call = calls.clone().acquire_owned().await;
                    let (Ok(bytes), Ok(call)) = (bytes, call) else { return Ok(None) };
                    let message = reader.message(&header).await?;
                    let limit = Duration::from_millis(u64::from(header.deadline_ms));
                    let late =
                        header.deadline_ms != 0 && self.world.clock.now().since(arrived) > limit;
                    let held = vec![bytes, call];
                    return Ok(Some(Request { id: header.id, message, held, late }));
                }
                _ => return Err(std::io::Error::other("a frame that clients do not send")),
            }
        }
    }

    async fn answer(&self, peer: Identity, request: Request, writer: &Arc<Writer>) {
        let Request { id, message, held, late } = request;
        if late {
            reply(writer, Type::Late, id, Message::default(), held);
            return;
        }
        let service = self.service.clone();
        let mut call: BoxFuture<'static, Message> =
            Box::pin(async move { service.call(peer, message).await });
        // Most calls are ready at the first poll: they are answered without a task switch.
        let first = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
        match first {
            Poll::Ready(message) => reply(writer, Type::Reply, id, message, held),
            Poll::Pending => {
                let writer = writer.clone();
                self.world.spawn("bulk call", async move {
                    reply(&writer, Type::Reply, id, call.await, held);
                });
            }
        }
    }
}

struct Request {
    id: u64,
    message: Message,
    held: Held,
    late: bool,
}

fn reply(writer: &Writer, frame: Type, id: u64, message: Message, held: Held) {
    match Header::of(frame, id, 0, &message) {
        // The peer is gone if this fails, and its calls with it.
        Ok(header) => drop(writer.send(&header, message, held)),
        Err(error) => {
            tracing::error!(%error, "a bulk reply cannot be sent; the connection ends");
            writer.close();
        }
    }
}
