//! What a server needs of consensus, given by a member of a simulated group: proposals and barriers are put down here, and
//! the schedule hands them to the member and brings the answers.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use ::raft::Ticket;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use lockservice::{Error, Table, engine::Engine, message::Command};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tokio_stream::wrappers::WatchStream;
use world::{Time, World};

use super::machine::Replica;

/// What a server asks of its member.
pub(super) enum Wish {
    Propose(Bytes),
    Barrier,
}

type Answer = Result<Bytes, Error>;

/// Wishes on their way to members, and who waits for the answers.
#[derive(Default)]
pub(super) struct Wishes {
    /// By place.
    pub(super) asked: VecDeque<(usize, Ticket, Wish)>,
    pub(super) waiting: BTreeMap<Ticket, oneshot::Sender<Answer>>,
    next: u64,
}

impl Wishes {
    /// A ticket that no other proposal or read has.
    fn ticket(&mut self) -> Ticket {
        self.next += 1;
        Ticket(self.next)
    }

    /// The first one to a member that is awake.
    pub(super) fn first(&mut self, awake: impl Fn(usize) -> bool) -> Option<(usize, Ticket, Wish)> {
        let at = self.asked.iter().position(|(place, ..)| awake(*place))?;
        self.asked.remove(at)
    }

    pub(super) fn answer(&mut self, ticket: Ticket, answer: Answer) {
        if let Some(waiter) = self.waiting.remove(&ticket) {
            // Nobody may wait any more.
            let _ = waiter.send(answer);
        }
    }
}

/// The engine of the server at a place.
pub(super) struct MemberEngine {
    pub(super) world: World,
    pub(super) place: usize,
    pub(super) replica: Arc<Mutex<Replica>>,
    pub(super) wishes: Arc<Mutex<Wishes>>,
}

impl MemberEngine {
    async fn ask(&self, wish: Wish, deadline: Time) -> Answer {
        let (sender, receiver) = oneshot::channel();
        {
            let mut wishes = self.wishes.lock();
            let ticket = wishes.ticket();
            wishes.waiting.insert(ticket, sender);
            wishes.asked.push_back((self.place, ticket, wish));
        }
        match self.world.until(deadline, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(Error::Unreachable),
        }
    }
}

#[async_trait]
impl Engine for MemberEngine {
    async fn propose(&self, command: Command, deadline: Time) -> Result<Bytes, Error> {
        self.ask(Wish::Propose(command.encode().into()), deadline).await
    }

    async fn barrier(&self, deadline: Time) -> Result<(), Error> {
        self.ask(Wish::Barrier, deadline).await.map(|_| ())
    }

    fn look(&self, look: &mut dyn FnMut(&mut Table)) {
        look(&mut self.replica.lock().table);
    }

    fn leading(&self) -> Option<u64> {
        self.replica.lock().leading
    }

    fn moves(&self) -> BoxStream<'static, ()> {
        WatchStream::from_changes(self.replica.lock().moved.subscribe()).map(|_| ()).boxed()
    }
}
