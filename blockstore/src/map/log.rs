//! How the map's service reaches its replicated machine: through a `replica::Host`, or, in tests
//! of clients and block servers, directly. Both apply commands in one order and tell who leads.

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::watch;
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
    /// Moves whenever something was applied.
    fn applied(&self) -> watch::Receiver<u64>;
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

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }
}
