//! A stream that can be ended from outside: how a server or a client ends its connections at once.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};
use tonic::transport::server::Connected;
use world::Stream;

/// How a server is being stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stop {
    No,
    /// No new connections; calls under way are answered.
    Gently,
    /// Connections end now.
    Now,
}

/// Fails every read and write after the stop has become [`Stop::Now`].
pub(crate) struct CutStream {
    stream: Box<dyn Stream>,
    cut: BoxFuture<'static, ()>,
    is_cut: bool,
}

impl CutStream {
    pub(crate) fn new(stream: Box<dyn Stream>, mut stopping: watch::Receiver<Stop>) -> Self {
        let cut = async move {
            // An error means that the handle is gone, which ends the connection as well.
            let _ = stopping.wait_for(|stop| *stop == Stop::Now).await;
        };
        Self { stream, cut: cut.boxed(), is_cut: false }
    }

    fn ended() -> io::Error {
        io::Error::new(io::ErrorKind::ConnectionAborted, "the connection was ended on this side")
    }

    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.is_cut || self.cut.poll_unpin(context).is_ready() {
            self.is_cut = true;
            return Err(Self::ended());
        }
        Ok(())
    }
}

impl Connected for CutStream {
    type ConnectInfo = ();
    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for CutStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // Only the reading side polls the signal: it keeps one waker, the reader's.
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for CutStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(Self::ended()));
        }
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_cut {
            return Poll::Ready(Err(Self::ended()));
        }
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
