//! Messages between nodes of one process: function calls, without encoding and without a task
//! switch. Links can be cut, for tests.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use raft::Message;
use wire::NodeId;
use world::{Time, World};

use crate::{
    config::GroupId,
    status::Status,
    transport::{Inbox, Transport},
};

/// Messages that may wait on one thread.
const WAITING: usize = 4096;

thread_local! {
    /// Messages that were sent while this thread delivers one. An answer is delivered after the
    /// question has been dealt with, by the same loop: no recursion, whatever they say.
    static WAITING_HERE: RefCell<VecDeque<(Arc<dyn Inbox>, Message)>> = const { RefCell::new(VecDeque::new()) };
    static DELIVERING: Cell<bool> = const { Cell::new(false) };
}

/// Connects the nodes of one process. Cheap to clone.
#[derive(Clone, Default)]
pub struct LocalMesh(Arc<Hub>);

#[derive(Default)]
struct Hub {
    inboxes: Mutex<BTreeMap<(GroupId, NodeId), Arc<dyn Inbox>>>,
    cut: Mutex<BTreeSet<NodeId>>,
}

impl LocalMesh {
    /// A mesh without nodes.
    #[must_use]
    pub fn new(_: &World) -> Self {
        Self::default()
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
        let inbox = self.hub.inboxes.lock().get(&(group, to)).cloned();
        let Some(inbox) = inbox else { return };
        let full = WAITING_HERE.with_borrow_mut(|waiting| {
            let full = waiting.len() >= WAITING;
            if !full {
                waiting.push_back((inbox, message));
            }
            full
        });
        // Full: lost, which the protocol bears.
        if !full {
            deliver();
        }
    }

    fn peek(&self, group: GroupId, node: NodeId, _: Time) -> BoxFuture<'static, Option<Status>> {
        let is_cut = {
            let cut = self.hub.cut.lock();
            cut.contains(&self.me) || cut.contains(&node)
        };
        let inbox = self.hub.inboxes.lock().get(&(group, node)).cloned();
        let status = inbox.filter(|_| !is_cut).and_then(|inbox| inbox.status());
        Box::pin(std::future::ready(status))
    }

    fn attach(&self, group: GroupId, inbox: Arc<dyn Inbox>) {
        self.hub.inboxes.lock().insert((group, self.me), inbox);
    }

    fn detach(&self, group: GroupId) {
        self.hub.inboxes.lock().remove(&(group, self.me));
    }
}

/// Delivers what waits on this thread, unless it is at it already.
fn deliver() {
    if DELIVERING.replace(true) {
        return;
    }
    let next = || WAITING_HERE.with_borrow_mut(VecDeque::pop_front);
    while let Some((inbox, message)) = next() {
        inbox.receive(message);
    }
    DELIVERING.set(false);
}
