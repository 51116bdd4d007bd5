//! How the map's service reaches its replicated machine: through a `replica::Host`, or, in tests
//! of clients and block servers, directly. Both apply commands in one order and tell who leads.

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream::BoxStream};
use parking_lot::Mutex;
use replica::{Damaged, Host, Image, Index, Role, StateMachine};
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use world::Time;

use super::{api::MapError, codec, machine::Map};

/// The replicated machine, as the service sees it.
#[async_trait]
pub(crate) trait Log: Send + Sync {
    /// Applies a command; the outcome is unknown after [`MapError::Deadline`].
    async fn propose(&self, command: Bytes, deadline: Time) -> Result<Bytes, MapError>;
    /// Returns once this is known to be the leader after the call, with all before it applied.
    async fn barrier(&self, deadline: Time) -> Result<(), MapError>;
    /// Looks at the machine.
    fn look(&self, look: &mut dyn FnMut(&Map));
    /// The term, if this is the leader and has applied an entry of it.
    fn lead(&self) -> Result<u64, MapError>;
    /// Moves whenever something was applied or another leads.
    fn moves(&self) -> BoxStream<'static, ()>;
}

/// Applies an encoded command; a command that cannot be read changes nothing.
pub(crate) fn apply(map: &mut Map, command: &[u8]) -> Bytes {
    let outcome = match codec::decode_command(command) {
        Ok(command) => map.handle(command),
        Err(error) => Err(MapError::Refused(error.to_string())),
    };
    codec::encode_outcome(&outcome)
}

/// A machine that is applied to directly: not replicated, not on disk.
pub(crate) struct Solo {
    map: Mutex<Map>,
    applied: watch::Sender<u64>,
}

impl Solo {
    pub(crate) fn new() -> Self {
        Self { map: Mutex::new(Map::new()), applied: watch::Sender::new(0) }
    }
}

#[async_trait]
impl Log for Solo {
    async fn propose(&self, command: Bytes, _: Time) -> Result<Bytes, MapError> {
        let reply = apply(&mut self.map.lock(), &command);
        self.applied.send_modify(|applied| *applied += 1);
        Ok(reply)
    }

    async fn barrier(&self, _: Time) -> Result<(), MapError> {
        Ok(())
    }

    fn look(&self, look: &mut dyn FnMut(&Map)) {
        look(&self.map.lock());
    }

    fn lead(&self) -> Result<u64, MapError> {
        Ok(1)
    }

    fn moves(&self) -> BoxStream<'static, ()> {
        WatchStream::from_changes(self.applied.subscribe()).map(|_| ()).boxed()
    }
}

impl StateMachine for Map {
    fn apply(&mut self, _: Index, command: &[u8]) -> Bytes {
        apply(self, command)
    }

    fn checkpoint(&self) -> Box<dyn Image> {
        Box::new(codec::encode_map(self))
    }

    fn restore(&mut self, checkpoint: &mut dyn std::io::Read) -> Result<(), Damaged> {
        let checkpoint = replica::read_whole(checkpoint)?;
        *self = codec::decode_map(&checkpoint).map_err(|error| Damaged(error.to_string()))?;
        Ok(())
    }
}

/// The map on this node of its raft group.
pub(crate) struct Replicated(pub(crate) Host<Map>);

fn failed(error: replica::Error) -> MapError {
    match error {
        replica::Error::NotLeader { leader } => {
            MapError::NotLeader { leader: leader.map(|node| node.0) }
        }
        replica::Error::Deadline | replica::Error::Covered => MapError::Deadline,
        other => MapError::Stopped(other.to_string()),
    }
}

#[async_trait]
impl Log for Replicated {
    async fn propose(&self, command: Bytes, deadline: Time) -> Result<Bytes, MapError> {
        self.0.propose(command, deadline).await.map_err(failed)
    }

    async fn barrier(&self, deadline: Time) -> Result<(), MapError> {
        self.0.barrier(deadline).await.map_err(failed)
    }

    fn look(&self, look: &mut dyn FnMut(&Map)) {
        self.0.with(|map| look(map));
    }

    fn lead(&self) -> Result<u64, MapError> {
        match *self.0.role().borrow() {
            Role::Leader { term, ready: true } => Ok(term.0),
            Role::Follower { leader } => {
                Err(MapError::NotLeader { leader: leader.map(|node| node.0) })
            }
            Role::Leader { ready: false, .. } | Role::Candidate => {
                Err(MapError::NotLeader { leader: None })
            }
            Role::Stopped => Err(MapError::Stopped("this coordinator has stopped".to_owned())),
        }
    }

    fn moves(&self) -> BoxStream<'static, ()> {
        let role = WatchStream::from_changes(self.0.role()).map(|_| ());
        let applied = WatchStream::from_changes(self.0.applied()).map(|_| ());
        futures_util::stream::select(role, applied).boxed()
    }
}
