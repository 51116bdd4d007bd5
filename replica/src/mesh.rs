//! Messages between the nodes of different processes: one gRPC stream from each node to each
//! other, for all groups. Queues are bounded and drop when full. What messages say is the raft
//! room's business.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use raft::{Message, codec};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use wire::{Identity, NodeId, Role};
use world::{Address, Task, World};

use crate::{
    config::{GroupId, node},
    look::row,
    transport::{Inbox, Transport},
};

pub(crate) mod proto {
    #![expect(
        unreachable_pub,
        unused_qualifications,
        clippy::allow_attributes_without_reason,
        clippy::too_many_lines,
        reason = "generated"
    )]
    tonic::include_proto!("plumeria.replica");
}

use proto::{
    Delivered, Envelope, Question, Rows,
    peers_client::PeersClient,
    peers_server::{Peers, PeersServer},
};

/// What [`wire::Server`] is given to receive messages of other nodes.
pub type PeersService = PeersServer<Arrivals>;

/// Messages that may wait for one peer.
const WAITING: usize = 1024;
/// The pause before a peer that could not be reached is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// One node's messages to and from all others, for all its groups.
pub struct Mesh {
    me: Identity,
    peers: BTreeMap<NodeId, mpsc::Sender<Envelope>>,
    inboxes: Arc<Inboxes>,
    tasks: Vec<Task>,
}

#[derive(Default)]
struct Inboxes(Mutex<BTreeMap<GroupId, Arc<dyn Inbox>>>);

impl Mesh {
    /// The mesh of node `me`; `peers` are the other nodes (an entry for `me` is ignored). Streams
    /// are opened at once and again after a loss.
    #[must_use]
    pub fn new(world: &World, me: Identity, peers: &BTreeMap<NodeId, Address>) -> Arc<Self> {
        let mut senders = BTreeMap::new();
        let mut tasks = Vec::new();
        for (peer, address) in peers.iter().filter(|(peer, _)| **peer != me.node) {
            let (sender, receiver) = mpsc::channel(WAITING);
            senders.insert(*peer, sender);
            let client = wire::limits!(PeersClient::new(wire::channel(world, me, address)));
            let work = deliver(world.clone(), *peer, client, receiver);
            tasks.push(world.spawn("raft stream", work));
        }
        Arc::new(Self { me, peers: senders, inboxes: Arc::default(), tasks })
    }

    /// The service that receives; add it to the node's [`wire::Server`].
    #[must_use]
    pub fn service(&self) -> PeersService {
        let arrivals = Arrivals { me: self.me, inboxes: Arc::downgrade(&self.inboxes) };
        wire::limits!(PeersServer::new(arrivals))
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Transport for Mesh {
    fn send(&self, group: GroupId, to: NodeId, message: Message) {
        if let Some(peer) = self.peers.get(&to) {
            let envelope = Envelope { group: group.0, message: codec::encode(&message) };
            // Full: lost, which the protocol bears.
            let _ = peer.try_send(envelope);
        }
    }

    fn attach(&self, group: GroupId, inbox: Arc<dyn Inbox>) {
        self.inboxes.0.lock().insert(group, inbox);
    }

    fn detach(&self, group: GroupId) {
        self.inboxes.0.lock().remove(&group);
    }
}

/// Keeps a stream to one peer open and feeds it.
async fn deliver(
    world: World,
    peer: NodeId,
    mut client: PeersClient<wire::Channel>,
    receiver: mpsc::Receiver<Envelope>,
) {
    let receiver = Arc::new(Mutex::new(receiver));
    let mut reachable = true;
    loop {
        // What waited while the peer was away is old news.
        while receiver.lock().try_recv().is_ok() {}
        let source = receiver.clone();
        let stream = futures_util::stream::poll_fn(move |context| source.lock().poll_recv(context));
        let ended = client.deliver(Request::new(stream)).await;
        let reason = match ended {
            Ok(_) if receiver.lock().is_closed() => return,
            Ok(_) => "the peer ended the stream".to_owned(),
            Err(status) => wire::Error::from(status).to_string(),
        };
        if std::mem::replace(&mut reachable, false) {
            tracing::info!(%peer, reason, "no stream to a peer; trying again");
        }
        world.clock.sleep(PAUSE).await;
    }
}

/// Hands arriving messages to the groups of this node.
#[derive(Clone)]
pub struct Arrivals {
    me: Identity,
    inboxes: Weak<Inboxes>,
}

#[tonic::async_trait]
impl Peers for Arrivals {
    async fn deliver(
        &self,
        request: Request<Streaming<Envelope>>,
    ) -> Result<Response<Delivered>, Status> {
        let peer = wire::peer(&request)
            .filter(|peer| peer.role == Role::Coordinator)
            .ok_or_else(|| Status::permission_denied("only coordinators send these messages"))?;
        let mut stream = request.into_inner();
        while let Some(envelope) = stream.next().await {
            let envelope = envelope?;
            let message = codec::decode(envelope.message)
                .map_err(|error| Status::invalid_argument(error.to_string()))?;
            if node(message.from) != peer.node || node(message.to) != self.me.node {
                return Err(Status::invalid_argument(format!(
                    "node {} sent a message from node {} to node {} to node {}: check the \
                     addresses of the coordinators",
                    peer.node, message.from, message.to, self.me.node
                )));
            }
            let inboxes = self.inboxes.upgrade().ok_or_else(|| Status::unavailable("it stops"))?;
            let inbox = inboxes.0.lock().get(&GroupId(envelope.group)).cloned();
            if let Some(inbox) = inbox {
                inbox.receive(message);
            }
        }
        Ok(Response::new(Delivered {}))
    }

    async fn look(&self, _: Request<Question>) -> Result<Response<Rows>, Status> {
        let inboxes = self.inboxes.upgrade().ok_or_else(|| Status::unavailable("it stops"))?;
        let groups: Vec<_> = inboxes.0.lock().values().cloned().collect();
        let rows = groups.iter().filter_map(|inbox| inbox.status()).map(|status| row(&status));
        Ok(Response::new(Rows { rows: rows.collect() }))
    }
}
