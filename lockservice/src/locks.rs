//! What a client of the lock service sees: the [`Locks`] it asks, and the [`Holder`] and
//! [`Recoverer`] that it brings. The clerk implements the first; the file system the other two.
//! Neither side learns here what a lock protects.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use world::Time;

use crate::{
    advisory::{Claim, Claimed, Patience},
    error::Error,
    name::{Grant, Mode, Name, SessionId, Span},
};

/// A lock as this session holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    /// The names.
    pub span: Span,
    /// How.
    pub mode: Mode,
    /// The number of the grant; for a shared lock the service's newest number when it was given.
    pub grant: Grant,
}

/// Keeps what [`Locks::acquire`] was asked for from being revoked until it is dropped, so that the
/// operation that waited for it gets to use it. Hold it for one operation, and wait for further
/// locks only in name order.
pub struct Pin {
    /// The lock that was given: the need, or more of the wish.
    pub held: Held,
    unpin: Option<Box<dyn FnOnce() + Send + Sync>>,
}

impl Pin {
    /// A pin on `held` that calls `unpin` when it is dropped.
    #[must_use]
    pub fn new(held: Held, unpin: Box<dyn FnOnce() + Send + Sync>) -> Self {
        Self { held, unpin: Some(unpin) }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        if let Some(unpin) = self.unpin.take() {
            unpin();
        }
    }
}

/// The locks of one session.
#[async_trait]
pub trait Locks: Send + Sync {
    /// The session.
    fn session(&self) -> SessionId;

    /// Until when, by this machine's clock, what is held may be used: the end of the lease less
    /// the margin. Moves on with each renewal.
    fn valid_until(&self) -> Time;

    /// The grant under which `name` is held in `mode` or stronger; `None` if it is not, or if the
    /// lease is not valid with margin. A few map look-ups, no waiting: ask before every use.
    fn held(&self, name: Name, mode: Mode) -> Option<Held>;

    /// Everything that is held.
    fn all_held(&self) -> Vec<Held>;

    /// The highest number of an exclusive grant that this session was ever given.
    fn newest(&self) -> Grant;

    /// Waits until all of `need` is held in `mode`. The service adds what is free of `wish`
    /// around it (`wish` covers `need`). Whoever holds `need` shared and wants it exclusive gives
    /// it up first: the clerk does that, through [`Holder::revoke`], so look again afterwards.
    async fn acquire(&self, need: Span, wish: Span, mode: Mode) -> Result<Pin, Error>;

    /// As [`Locks::acquire`], but does not wait for other holders: `None` if `need` is not free.
    async fn try_acquire(&self, need: Span, mode: Mode) -> Result<Option<Pin>, Error>;

    /// Asks for all that is free of `names`, in one message, and never waits for a holder. What was
    /// got is seen by [`Locks::held`].
    async fn hint(&self, names: &[Name], mode: Mode) -> Result<(), Error>;

    /// Gives `span` up unasked; goes through [`Holder::revoke`] as any other revocation.
    async fn give_up(&self, span: Span) -> Result<(), Error>;

    /// Claims an advisory lock, or gives one up. Whoever waits for others does so until `back` is ready
    /// or the session ends; after `back` the answer is [`Claimed::Cancelled`], unless another came
    /// first. If the future is dropped, what the claim gets is given up.
    async fn claim(
        &self,
        claim: Claim,
        patience: Patience,
        back: BoxFuture<'_, ()>,
    ) -> Result<Claimed, Error>;

    /// Numbers for `plumeria status`, carried by the next renewal (a small JSON object).
    fn report(&self, numbers: String);

    /// Messages that this clerk sent on the lock plane so far, renewals not counted.
    fn messages(&self) -> u64;

    /// Gives up everything, through [`Holder::revoke`], and ends the session.
    async fn close(&self) -> Result<(), Error>;
}

/// Whoever keeps state under locks: it flushes and forgets when a lock is wanted elsewhere.
#[async_trait]
pub trait Holder: Send + Sync {
    /// Called when all, or a part, of what is held must go. On return nothing dirty is left under
    /// `span` and nothing is cached that `keep` does not allow (`None`: nothing at all; shared:
    /// clean state may stay). [`Locks::held`] keeps saying yes until this returns; whoever wants
    /// to close a gate earlier does so itself. No pin is held on `span` when it is called.
    ///
    /// It returns only when every write under the locks has a known outcome; it may take as long
    /// as the data path's deadline.
    async fn revoke(&self, span: Span, keep: Option<Mode>);

    /// The lease ran out, or the service ended the session: nothing that is cached may be used any
    /// more and nothing dirty can be written.
    fn expired(&self);
}

/// Whoever can end another session's business.
#[async_trait]
pub trait Recoverer: Send + Sync {
    /// Makes sure that nothing of `dead` can still change anything, then replays its log. `held`
    /// is all that the dead session held, with grant numbers. Its locks pass on only after this
    /// returned `Ok`; it can be called again, here or elsewhere, if it did not.
    async fn recover(&self, dead: SessionId, held: Vec<Held>) -> Result<(), RecoverError>;
}

/// Why a recovery did not succeed; the service tries again.
#[derive(Debug, thiserror::Error)]
#[error("recovery failed: {0}")]
pub struct RecoverError(pub Arc<dyn std::error::Error + Send + Sync>);
