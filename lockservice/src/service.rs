//! The service as a clerk sees it. A coordinator's own object, a client over the wire and a router
//! over several coordinators all look like this; none of them knows what a lock protects.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use world::Time;

use crate::{
    error::Error,
    group::{LockGroup, MoveId, Shard},
    message::{
        Ask, Assignment, Client, Estate, Event, GroupCommand, GroupReply, LoadRow, LockRows,
        Opened, Part, Renewal, Seq, SessionRow,
    },
    name::{Grant, Name, SessionId},
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

    /// `by` has recovered `dead`, whose locks pass on, with numbers past `seen`.
    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        deadline: Time,
    ) -> Result<(), Error>;

    /// The sessions, with numbers fresh within 300 ms from all that answer.
    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error>;

    /// Who holds what and who waits.
    async fn locks(&self, deadline: Time) -> Result<LockRows, Error>;

    // What follows is for a service of several shards. One that is not home serves requests, streams,
    // and this; one that has but one shard need not know of it.

    /// Another shard of the same service, reached in the same way; none if there is none.
    fn shard(&self, _: Shard) -> Option<Arc<dyn Service>> {
        None
    }

    /// Where every group lies; only home knows.
    async fn groups(&self, _: Time) -> Result<Assignment, Error> {
        Err(one())
    }

    /// How much there is to do for each group that is served here.
    async fn load(&self, _: Time) -> Result<Vec<LoadRow>, Error> {
        Err(one())
    }

    /// All that a session holds here that is dead here; [`Error::Unmet`] while it is not.
    async fn estate(&self, _dead: SessionId, _: Time) -> Result<Estate, Error> {
        Err(one())
    }

    /// Puts a command about groups into the log.
    async fn direct(&self, _: GroupCommand, _: Time) -> Result<GroupReply, Error> {
        Err(one())
    }

    /// The state of a frozen group from a name on; part of it, if it is long.
    async fn export(&self, _: LockGroup, _: MoveId, _: Name, _: Time) -> Result<Part, Error> {
        Err(one())
    }

    /// Another shard tells home of a session that does not answer a revocation: after a long time
    /// (`hopeless`), or although it was told twice.
    async fn accuse(&self, _: SessionId, _hopeless: bool, _: Time) -> Result<(), Error> {
        Err(one())
    }
}

fn one() -> Error {
    Error::Protocol("this service has but one shard".to_owned())
}
