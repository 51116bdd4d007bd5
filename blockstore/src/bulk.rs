//! Block servers over the wire's bulk frames, and in this process: [`Answers`] serves one,
//! [`Remote`] calls one, [`Lines`] knows which is where. What the messages mean is not known here.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use wire::{
    Identity,
    bulk::{Client, Message},
};
use world::{Address, Time, World};

use crate::{
    message::{Dial, Refusal, Reply, Request, Service, Unanswered},
    place::ServerId,
};

mod codec;
#[cfg(test)]
mod tests;

pub use codec::{Malformed, decode_reply, decode_request, encode_reply, encode_request};

/// The deadline of a request travels in front of its head, in milliseconds from when it was sent.
const DEADLINE: usize = 4;

/// Serves a block server to `wire::bulk::serve`.
pub struct Answers {
    world: World,
    service: Arc<dyn Service>,
}

impl Answers {
    /// Serves `service`.
    #[must_use]
    pub fn new(world: &World, service: Arc<dyn Service>) -> Self {
        Self { world: world.clone(), service }
    }

    async fn answer(&self, request: Message) -> Result<Reply, Unanswered> {
        let malformed = || Reply::Refused(Refusal::Invalid("malformed block message".to_owned()));
        let Some((left, head)) = request.head.split_first_chunk::<DEADLINE>() else {
            return Ok(malformed());
        };
        let left = std::time::Duration::from_millis(u64::from(u32::from_le_bytes(*left)));
        let deadline = self.world.clock.now() + left;
        match decode_request(request.kind, head, request.body.clone()) {
            Ok(request) => self.service.call(request, deadline).await,
            Err(Malformed) => Ok(malformed()),
        }
    }
}

#[async_trait]
impl wire::bulk::Service for Answers {
    async fn call(&self, _peer: Identity, request: Message) -> Message {
        let reply = self.answer(request).await.unwrap_or_else(|unanswered| {
            tracing::debug!(%unanswered, "a block request had no answer");
            Reply::Refused(Refusal::NotReady)
        });
        let (kind, head, body) = encode_reply(&reply);
        Message { kind, head, body }
    }
}

/// A block server in another process.
pub struct Remote {
    world: World,
    client: Client,
}

impl Remote {
    /// The server at `address`; connects at the first call.
    #[must_use]
    pub fn new(world: &World, me: Identity, address: &Address) -> Self {
        Self { world: world.clone(), client: Client::new(world, me, address.clone()) }
    }
}

#[async_trait]
impl Service for Remote {
    async fn call(&self, request: Request, deadline: Time) -> Result<Reply, Unanswered> {
        let (kind, head, body) = encode_request(&request);
        let left = deadline.since(self.world.clock.now()).as_millis();
        let left = u32::try_from(left).unwrap_or(u32::MAX);
        let mut whole = Vec::with_capacity(DEADLINE + head.len());
        whole.extend_from_slice(&left.to_le_bytes());
        whole.extend_from_slice(&head);
        let message = Message { kind, head: Bytes::from(whole), body };
        match self.client.call(message, deadline).await {
            Ok(reply) => decode_reply(reply.kind, &reply.head, reply.body)
                .map_err(|malformed| Unanswered(malformed.to_string())),
            Err(error) => Err(Unanswered(error.to_string())),
        }
    }
}

#[derive(Default)]
struct Table {
    local: BTreeMap<ServerId, Arc<dyn Service>>,
    remote: BTreeMap<Address, Arc<dyn Service>>,
}

/// Where block servers are: in this process (a function call) or at their addresses. Cheap to
/// clone; clones share the table.
#[derive(Clone)]
pub struct Lines {
    world: World,
    me: Identity,
    table: Arc<Mutex<Table>>,
}

impl Lines {
    /// Nobody is in this process yet. `me` is who calls.
    #[must_use]
    pub fn new(world: &World, me: Identity) -> Self {
        Self { world: world.clone(), me, table: Arc::default() }
    }

    /// A server runs in this process: from now on calls to it are function calls.
    pub fn attach(&self, server: ServerId, service: Arc<dyn Service>) {
        self.table.lock().local.insert(server, service);
    }

    /// It does not any more.
    pub fn detach(&self, server: ServerId) {
        self.table.lock().local.remove(&server);
    }

    fn find(&self, server: ServerId, address: &Address) -> Arc<dyn Service> {
        let mut table = self.table.lock();
        if let Some(service) = table.local.get(&server) {
            return Arc::clone(service);
        }
        let remote = table
            .remote
            .entry(address.clone())
            .or_insert_with(|| Arc::new(Remote::new(&self.world, self.me, address)));
        Arc::clone(remote)
    }
}

impl Dial for Lines {
    fn dial(&self, server: ServerId, address: &Address) -> Arc<dyn Service> {
        Arc::new(Line { lines: self.clone(), server, address: address.clone() })
    }
}

/// A server that is looked up at each call: it may come to run in this process later.
struct Line {
    lines: Lines,
    server: ServerId,
    address: Address,
}

#[async_trait]
impl Service for Line {
    async fn call(&self, request: Request, deadline: Time) -> Result<Reply, Unanswered> {
        self.lines.find(self.server, &self.address).call(request, deadline).await
    }
}
