//! The registry as a client sees it: a coordinator's own object, one over the wire, or a router
//! over several.

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use world::Time;

use super::message::{Answers, Changed, Op, Question, Revision, Tidings, Watching};
use crate::{error::Error, message::Seq, name::SessionId};

/// What a watch is told, in order. It ends when the server goes or cannot tell without a gap: then
/// watch again.
pub type TidingsStream = BoxStream<'static, Tidings>;

/// The most changes or questions of one call.
pub(crate) const MOST_ASKED: usize = 256;

/// The registry. Any call may answer [`Error::Unreachable`] with an unknown outcome: all can be
/// repeated.
#[async_trait]
pub trait Store: Send + Sync {
    /// Makes changes, in order, each whole or not at all. Only the leader can. A number is applied
    /// once: repeated, it answers the same again.
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        deadline: Time,
    ) -> Result<Changed, Error>;

    /// Answers questions from this server's state, when that is at `seen` or later.
    async fn read(
        &self,
        questions: &[Question],
        seen: Revision,
        deadline: Time,
    ) -> Result<Answers, Error>;

    /// Where the registry was at some time after the call began. Only the leader can.
    async fn sync(&self, deadline: Time) -> Result<Revision, Error>;

    /// Tells of changes, from when this server's state is at `seen`. Before any read of this
    /// server answers with a change, the change is on its way here.
    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        deadline: Time,
    ) -> Result<TidingsStream, Error>;
}
