//! Messages between the nodes of different processes: one gRPC stream from each node to each
//! other, for all groups; what waits together travels together (see `line`). What messages say is the
//! raft room's business.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, future::BoxFuture};
use parking_lot::Mutex;
use raft::{Body, Message, codec};
use tonic::{Request, Response, Status, Streaming};
use wire::{Identity, NodeId, Role};
use world::{Address, Task, Time, World};

use crate::{
    config::{GroupId, node},
    line::{Line, Together},
    look::{self, failed},
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
    Delivered, Envelope, Order, Ordered, Parcel, Question, Rows,
    peers_client::PeersClient,
    peers_server::{Peers, PeersServer},
};

/// What [`wire::Server`] is given to receive messages of other nodes.
pub type PeersService = PeersServer<Arrivals>;

/// The pause before a peer that could not be reached is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// One node's messages to and from all others, for all its groups.
pub struct Mesh {
    world: World,
    me: Identity,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    inboxes: Arc<Inboxes>,
}

struct Peer {
    address: Address,
    line: Arc<Line>,
    task: Option<Task>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.line.close();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

#[derive(Default)]
struct Inboxes(Mutex<BTreeMap<GroupId, Arc<dyn Inbox>>>);

impl Mesh {
    /// The mesh of node `me`; `peers` are the nodes that are known from the start, with `me` itself.
    /// Streams are opened at once and again after a loss.
    #[must_use]
    pub fn new(world: &World, me: Identity, peers: &BTreeMap<NodeId, Address>) -> Arc<Self> {
        let mesh =
            Self { world: world.clone(), me, peers: Mutex::default(), inboxes: Arc::default() };
        for (peer, address) in peers {
            mesh.connect(*peer, address);
        }
        Arc::new(mesh)
    }

    /// Opens a stream to a node, if it is new or has moved.
    fn connect(&self, peer: NodeId, address: &Address) {
        let mut peers = self.peers.lock();
        if peers.get(&peer).is_some_and(|known| known.address == *address) {
            return;
        }
        let line = Arc::new(Line::default());
        let task = (peer != self.me.node).then(|| {
            let client = PeersClient::new(wire::channel(&self.world, self.me, address));
            let work = deliver(self.world.clone(), peer, wire::limits!(client), line.clone());
            self.world.spawn("raft stream", work)
        });
        peers.insert(peer, Peer { address: address.clone(), line, task });
    }

    /// The service that receives; add it to the node's [`wire::Server`].
    #[must_use]
    pub fn service(&self) -> PeersService {
        let world = self.world.clone();
        let arrivals = Arrivals { world, me: self.me, inboxes: Arc::downgrade(&self.inboxes) };
        wire::limits!(PeersServer::new(arrivals))
    }
}

impl Transport for Mesh {
    fn send(&self, group: GroupId, to: NodeId, message: Message) {
        if let Some(peer) = self.peers.lock().get(&to) {
            let envelope = Envelope { group: group.0, message: codec::encode(&message) };
            peer.line.send(envelope, can_wait(&message));
        }
    }

    fn peek(
        &self,
        group: GroupId,
        node: NodeId,
        deadline: Time,
    ) -> BoxFuture<'static, Option<crate::Status>> {
        let address = self.peers.lock().get(&node).map(|peer| peer.address.clone());
        let (world, me) = (self.world.clone(), self.me);
        Box::pin(async move {
            let looks = look::look(&world, me, &address?, deadline).await.ok()?;
            looks.into_iter().map(|look| look.status).find(|status| status.group == group)
        })
    }

    fn attach(&self, group: GroupId, inbox: Arc<dyn Inbox>) {
        self.inboxes.0.lock().insert(group, inbox);
    }

    fn detach(&self, group: GroupId) {
        self.inboxes.0.lock().remove(&group);
    }

    fn learn(&self, node: NodeId, address: &str) {
        match address.parse() {
            Ok(address) => self.connect(node, &address),
            Err(error) => tracing::error!(%node, %error, "a member cannot be reached"),
        }
    }

    fn addresses(&self) -> BTreeMap<NodeId, String> {
        let peers = self.peers.lock();
        peers.iter().map(|(node, peer)| (*node, peer.address.to_string())).collect()
    }
}

/// Whether a message may leave a moment later than others that are sent after it: what carries an entry may not, since the
/// other side would miss it.
fn can_wait(message: &Message) -> bool {
    match &message.body {
        Body::Append(append) => append.entries.is_empty(),
        Body::AppendReply(_) => true,
        _ => false,
    }
}

/// Keeps a stream to one peer open and feeds it.
async fn deliver(
    world: World,
    peer: NodeId,
    mut client: PeersClient<wire::Channel>,
    line: Arc<Line>,
) {
    let mut reachable = true;
    loop {
        // What waited while the peer was away is old news.
        line.clear();
        let source = line.clone();
        let stream = futures_util::stream::poll_fn(move |context| source.poll(context));
        let ended = client.deliver(Request::new(stream)).await;
        let reason = match ended {
            Ok(_) if line.is_closed() => return,
            Ok(_) => "the peer ended the stream".to_owned(),
            Err(status) => wire::Error::from(status).to_string(),
        };
        if std::mem::replace(&mut reachable, false) {
            tracing::info!(%peer, reason, "no stream to a peer; trying again");
        }
        world.clock.sleep(PAUSE).await;
    }
}

/// Hands what arrives to the groups of this node.
#[derive(Clone)]
pub struct Arrivals {
    world: World,
    me: Identity,
    inboxes: Weak<Inboxes>,
}

impl Arrivals {
    fn inboxes(&self) -> Result<Arc<Inboxes>, Status> {
        self.inboxes.upgrade().ok_or_else(|| Status::unavailable("it stops"))
    }

    fn deliver_one(&self, peer: Identity, envelope: Envelope) -> Result<(), Status> {
        let message = codec::decode(envelope.message)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        if node(message.from) != peer.node || node(message.to) != self.me.node {
            return Err(Status::invalid_argument(format!(
                "node {} sent a message from node {} to node {} to node {}: check the addresses \
                 of the coordinators",
                peer.node, message.from, message.to, self.me.node
            )));
        }
        let inbox = self.inboxes()?.0.lock().get(&GroupId(envelope.group)).cloned();
        if let Some(inbox) = inbox {
            inbox.receive(message);
        }
        Ok(())
    }
}

#[tonic::async_trait]
impl Peers for Arrivals {
    async fn deliver(
        &self,
        request: Request<Streaming<Parcel>>,
    ) -> Result<Response<Delivered>, Status> {
        let peer = wire::peer(&request)
            .filter(|peer| peer.role == Role::Coordinator)
            .ok_or_else(|| Status::permission_denied("only coordinators send these messages"))?;
        let mut stream = request.into_inner();
        while let Some(parcel) = stream.next().await {
            let envelopes = parcel?.envelopes;
            let _answers = Together::begin();
            envelopes.into_iter().try_for_each(|envelope| self.deliver_one(peer, envelope))?;
        }
        Ok(Response::new(Delivered {}))
    }

    async fn look(&self, _: Request<Question>) -> Result<Response<Rows>, Status> {
        let inboxes: Vec<_> = self.inboxes()?.0.lock().values().cloned().collect();
        let rows = inboxes.iter().filter_map(|inbox| {
            let status = inbox.status()?;
            Some(look::row(&status, &inbox.book()))
        });
        Ok(Response::new(Rows { rows: rows.collect() }))
    }

    async fn order(&self, request: Request<Order>) -> Result<Response<Ordered>, Status> {
        let operator = wire::peer(&request).is_some_and(|peer| peer.role == Role::Tool);
        if !operator {
            return Err(Status::permission_denied("only an operator's command gives orders"));
        }
        let (order, group, patience) = look::order_of(request.into_inner())?;
        let inbox = self.inboxes()?.0.lock().get(&group).cloned();
        let inbox = inbox.ok_or_else(|| Status::not_found(format!("there is no group {group}")))?;
        let deadline = self.world.clock.now() + patience;
        let ordered = inbox.order(order, deadline).await;
        Ok(Response::new(ordered.map_or_else(|error| failed(&error), |()| Ordered::default())))
    }
}
