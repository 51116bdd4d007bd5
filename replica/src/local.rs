//! Messages between nodes of one process, without encoding. Links can be cut, for tests.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use parking_lot::Mutex;
use raft::Message;
use tokio::sync::mpsc;
use wire::NodeId;
use world::World;

use crate::{
    config::GroupId,
    transport::{Inbox, Transport},
};

/// Messages that may wait for one node of one group.
const WAITING: usize = 4096;

/// Connects the nodes of one process. Cheap to clone.
#[derive(Clone)]
pub struct LocalMesh(Arc<Hub>);

struct Hub {
    world: World,
    inboxes: Mutex<BTreeMap<(GroupId, NodeId), mpsc::Sender<Message>>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

impl LocalMesh {
    /// A mesh without nodes.
    #[must_use]
    pub fn new(world: &World) -> Self {
        Self(Arc::new(Hub {
            world: world.clone(),
            inboxes: Mutex::default(),
            cut: Mutex::default(),
        }))
    }

    /// The transport of one node, for all its groups.
    #[must_use]
    pub fn transport(&self, me: NodeId) -> Arc<LocalTransport> {
        Arc::new(LocalTransport { hub: self.0.clone(), me })
    }

    /// Loses all messages from and to `node` from now on.
    pub fn cut(&self, node: NodeId) {
        self.0.cut.lock().insert(node);
    }

    /// Ends [`LocalMesh::cut`].
    pub fn heal(&self, node: NodeId) {
        self.0.cut.lock().remove(&node);
    }
}

/// One node's end of a [`LocalMesh`].
pub struct LocalTransport {
    hub: Arc<Hub>,
    me: NodeId,
}

impl Transport for LocalTransport {
    fn send(&self, group: GroupId, to: NodeId, message: Message) {
        {
            let cut = self.hub.cut.lock();
            if cut.contains(&self.me) || cut.contains(&to) {
                return;
            }
        }
        if let Some(inbox) = self.hub.inboxes.lock().get(&(group, to)) {
            // Full, or its node is gone: lost, which the protocol bears.
            let _ = inbox.try_send(message);
        }
    }

    fn attach(&self, group: GroupId, inbox: Arc<dyn Inbox>) {
        let (sender, mut receiver) = mpsc::channel(WAITING);
        self.hub.inboxes.lock().insert((group, self.me), sender);
        // A task of its own: the sender holds its node's lock, and the answer would want it.
        self.hub.world.spawn("local messages", async move {
            while let Some(message) = receiver.recv().await {
                inbox.receive(message);
            }
        });
    }

    fn detach(&self, group: GroupId) {
        self.hub.inboxes.lock().remove(&(group, self.me));
    }
}
