//! The two halves of a bulk connection, for both sides. Whoever has a frame to send writes it
//! right away if nobody else is writing, and leaves it to the one who is if somebody is: no task
//! switch on the way out, and frames that pile up leave in one vectored write. What frames mean
//! is not known here.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::future::poll_fn;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWrite, ReadHalf, WriteHalf},
    sync::OwnedSemaphorePermit,
};
use world::World;

use super::frame::{HEADER, Header, Message, Type};
use crate::{cut::CutStream, error::Error};

/// What one read asks for while it looks for a header; payloads are read into their own buffer.
const READ: usize = 16 << 10;
/// How many pieces one vectored write takes.
const PIECES: usize = 64;

/// Permits that a frame holds until it was written.
pub(crate) type Held = Vec<OwnedSemaphorePermit>;

struct Piece {
    bytes: Bytes,
    _held: Held,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<Piece>,
    closed: bool,
}

struct Half {
    stream: WriteHalf<CutStream>,
    leaving: VecDeque<Piece>,
    /// The writer task's; the socket wakes it when it takes bytes again.
    waker: Option<Waker>,
}

/// The sending half.
pub(crate) struct Writer {
    queue: Mutex<Queue>,
    half: Mutex<Half>,
}

/// The connection is closed: the frame was not sent.
#[derive(Debug)]
pub(crate) struct Closed;

impl Writer {
    pub(crate) fn start(world: &World, stream: WriteHalf<CutStream>) -> Arc<Self> {
        let half = Half { stream, leaving: VecDeque::new(), waker: None };
        let writer = Arc::new(Self { queue: Mutex::default(), half: Mutex::new(half) });
        let task = writer.clone();
        world.spawn("bulk writer", async move { task.run().await });
        writer
    }

    /// Queues a frame and, if nobody is writing, writes it.
    pub(crate) fn send(&self, header: &Header, message: Message, held: Held) -> Result<(), Closed> {
        let mut front = BytesMut::with_capacity(HEADER + message.head.len());
        front.put_slice(&header.encode());
        front.put_slice(&message.head);
        {
            let mut queue = self.queue.lock();
            if queue.closed {
                return Err(Closed);
            }
            if message.body.is_empty() {
                queue.pieces.push_back(Piece { bytes: front.freeze(), _held: held });
            } else {
                queue.pieces.push_back(Piece { bytes: front.freeze(), _held: Held::new() });
                queue.pieces.push_back(Piece { bytes: message.body, _held: held });
            }
        }
        self.drain();
        Ok(())
    }

    /// No frame leaves after this.
    pub(crate) fn close(&self) {
        {
            let mut queue = self.queue.lock();
            queue.closed = true;
            queue.pieces.clear();
        }
        let waker = self.half.lock().waker.clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Writes while there is something and the socket takes it, unless another is at it.
    fn drain(&self) {
        loop {
            let Some(mut half) = self.half.try_lock() else {
                // Its holder looks at the queue again after it lets go.
                return;
            };
            let Some(waker) = half.waker.clone() else { return };
            let mut context = Context::from_waker(&waker);
            let written = half.write(&self.queue, &mut context);
            drop(half);
            match written {
                Poll::Pending => return,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "bulk connection cannot be written");
                    self.close();
                    return;
                }
                Poll::Ready(Ok(())) => {}
            }
            if self.queue.lock().pieces.is_empty() {
                return;
            }
        }
    }

    /// Writes what the socket did not take at once, until the connection is closed.
    async fn run(&self) {
        poll_fn(|context| {
            self.half.lock().waker = Some(context.waker().clone());
            self.drain();
            if self.queue.lock().closed { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        poll_fn(|context| Pin::new(&mut self.half.lock().stream).poll_shutdown(context)).await.ok();
    }
}

impl Half {
    fn write(&mut self, queue: &Mutex<Queue>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.leaving.is_empty() {
                std::mem::swap(&mut self.leaving, &mut queue.lock().pieces);
            }
            if self.leaving.is_empty() {
                return Pin::new(&mut self.stream).poll_flush(context);
            }
            let slices: Vec<io::IoSlice<'_>> = self
                .leaving
                .iter()
                .take(PIECES)
                .map(|piece| io::IoSlice::new(&piece.bytes))
                .collect();
            let written = std::task::ready!(
                Pin::new(&mut self.stream).poll_write_vectored(context, &slices)
            )?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
    }

    fn advance(&mut self, mut written: usize) {
        while let Some(first) = self.leaving.front_mut() {
            if written < first.bytes.len() {
                first.bytes.advance(written);
                return;
            }
            written -= first.bytes.len();
            self.leaving.pop_front();
        }
    }
}

/// The receiving half.
pub(crate) struct Reader {
    stream: ReadHalf<CutStream>,
    buffer: BytesMut,
}

impl Reader {
    pub(crate) fn new(stream: ReadHalf<CutStream>) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(READ) }
    }

    /// The next header; `None` if the peer ended the connection between two frames.
    pub(crate) async fn header(&mut self, limit: u32) -> io::Result<Option<Header>> {
        while self.buffer.len() < HEADER {
            self.buffer.reserve(READ);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut bytes = [0; HEADER];
        self.buffer.copy_to_slice(&mut bytes);
        Header::decode(&bytes, limit).map(Some).map_err(io::Error::other)
    }

    /// What follows the header, each part in a buffer of exactly its size.
    pub(crate) async fn message(&mut self, header: &Header) -> io::Result<Message> {
        let head = self.part(header.head_length as usize).await?;
        let body = self.part(header.body_length as usize).await?;
        let message = Message { kind: header.kind, head, body };
        header.check(&message).map_err(io::Error::other)?;
        Ok(message)
    }

    async fn part(&mut self, length: usize) -> io::Result<Bytes> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let mut part = BytesMut::with_capacity(length);
        let here = length.min(self.buffer.len());
        part.put_slice(&self.buffer[..here]);
        self.buffer.advance(here);
        while part.len() < length {
            let missing = length - part.len();
            if self.stream.read_buf(&mut (&mut part).limit(missing)).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(part.freeze())
    }

    /// The next whole frame of a handshake, which must be short.
    pub(crate) async fn greeting(&mut self) -> io::Result<(Header, Message)> {
        let header = self.header(4096).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let message = self.message(&header).await?;
        Ok((header, message))
    }
}

/// A frame of the handshake or a ping: no deadline, nothing held.
pub(crate) fn send_plain(
    writer: &Writer,
    frame: Type,
    id: u64,
    message: Message,
) -> Result<(), Error> {
    let header = Header::of(frame, id, 0, &message)?;
    // A closed connection is noticed by its reader.
    let _ = writer.send(&header, message, Held::new());
    Ok(())
}
