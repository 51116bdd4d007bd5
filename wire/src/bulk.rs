//! Bulk frames: the transport of block data. A fixed 64-byte header, a small message head and a
//! body that is never copied; requests are pipelined and answered out of order; bytes in flight
//! are bounded by credits. What heads and bodies mean is not known here.

use async_trait::async_trait;
use bytes::Bytes;

use crate::identity::Identity;

mod client;
mod connection;
mod frame;
mod serve;

pub use client::Client;
pub use frame::{FRAME_LIMIT, Message};
pub use serve::serve;

/// What answers bulk requests.
#[async_trait]
pub trait Service: Send + Sync {
    /// Answers `request` of `peer`. Failures are replies. The first poll runs where frames are
    /// read, so work that blocks or computes for long must be handed to a thread.
    async fn call(&self, peer: Identity, request: Message) -> Message;
}

impl Message {
    /// A message.
    #[must_use]
    pub fn new(kind: u16, head: impl Into<Bytes>, body: impl Into<Bytes>) -> Self {
        Self { kind, head: head.into(), body: body.into() }
    }
}
