//! The service as a clerk sees it. A coordinator's own object, a client over the wire and a router
//! over several coordinators all look like this; none of them knows what a lock protects.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use world::Time;

use crate::{
    error::Error,
    message::{Ask, Client, Event, LockRows, Opened, Renewal, Seq, SessionRow},
    name::SessionId,
    registry::Store,
};

/// The events of one session in the order of the log; the first is a snapshot. It ends when the
/// coordinator no longer leads, or when the client fell behind: then listen again.
pub type Events = BoxStream<'static, Vec<Event>>;

/// The lock service. Any call may answer [`Error::NotLeader`], or [`Error::Unreachable`] with an
/// unknown outcome: all can be repeated.
#[async_trait]
pub trait Service: Store {
    /// Opens a session. With `replace` older sessions of the same owner end at once.
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error>;

    /// Puts a batch of asks into the log; the answers are events. A number is applied once.
    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error>;

    /// The session's events; a second listener takes the place of the first.
    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error>;

    /// Renews the lease, from when the call was sent.
    async fn renew(
        &self,
        session: SessionId,
        renewal: Renewal,
        deadline: Time,
    ) -> Result<(), Error>;

    /// Ends a session that holds nothing that matters any more. [`Error::Recovering`] while it
    /// recovers another one.
    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error>;

    /// `by` has recovered `dead`, whose locks pass on.
    async fn recovered(&self, dead: SessionId, by: SessionId, deadline: Time) -> Result<(), Error>;

    /// The sessions, with numbers fresh within 300 ms from all that answer.
    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error>;

    /// Who holds what and who waits.
    async fn locks(&self, deadline: Time) -> Result<LockRows, Error>;
}
