//! One process's way to the lock service of another: calls with a fate of their own, and streams of events that keep
//! their order, stall while nothing gets through, and end when that lasts.
//!
//! What is asked and told is the room `lockservice`'s business.

use std::sync::Arc;
use std::time::Duration;

use ::lockservice::message::{Ask, Client, Event, LockRows, Opened, Renewal, Seq, SessionRow};
use ::lockservice::registry::{
    Answers, Changed, Op, Question, Revision, Store, TidingsStream, Watching,
};
use ::lockservice::service::{Events, Service};
use ::lockservice::{Error, Grant, SessionId};
use async_trait::async_trait;
use futures_util::{FutureExt, StreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use world::{Time, World};

use crate::blockstore::net::{Net, Place, answer};

/// How long a stream may be stuck before its connection is given up.
const STUCK: Duration = Duration::from_secs(5);

/// A coordinator's lock service, while its process runs.
pub(super) type Desk = Arc<Mutex<Option<(World, Arc<dyn Service>)>>>;

/// A line to one coordinator.
pub(super) struct LockLine {
    pub(super) net: Net,
    pub(super) me: Place,
    pub(super) world: World,
    pub(super) there: Place,
    pub(super) desk: Desk,
}

impl LockLine {
    async fn ask<R: Send + 'static, F>(
        &self,
        deadline: Time,
        call: impl FnOnce(Arc<dyn Service>, Time) -> F + Send,
    ) -> Result<R, Error>
    where
        F: Future<Output = Result<R, Error>> + Send + 'static,
    {
        let ends = (self.me, self.there);
        let left = deadline.since(self.world.clock.now());
        let asked = async {
            if !self.net.carry(&self.world, ends.0, ends.1).await {
                return None;
            }
            let (there, service) = self.desk.lock().clone()?;
            let call = call(service, there.clock.now() + left);
            self.net.relay(&self.world, &there, ends, call).await
        };
        answer(&self.world, deadline, asked.boxed()).await.unwrap_or(Err(Error::Unreachable))
    }

    /// Passes a stream on, from the process that makes it.
    fn forward<T: Send + 'static>(
        &self,
        mut events: futures_util::stream::BoxStream<'static, T>,
    ) -> futures_util::stream::BoxStream<'static, T> {
        let (sender, receiver) = mpsc::channel(64);
        let (net, me, from) = (self.net.clone(), self.me, self.there);
        let Some((there, _)) = self.desk.lock().clone() else {
            return futures_util::stream::empty().boxed();
        };
        let world = there.clone();
        there.spawn("stream", async move {
            while let Some(event) = events.next().await {
                let began = world.clock.now();
                // What is lost of a stream is sent again.
                while !net.carry(&world, from, me).await {
                    if world.clock.now().since(began) > STUCK || sender.is_closed() {
                        return;
                    }
                    world.clock.sleep(Duration::from_millis(50)).await;
                }
                if sender.send(event).await.is_err() {
                    return;
                }
            }
        });
        ReceiverStream::new(receiver).boxed()
    }
}

#[async_trait]
impl Store for LockLine {
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        deadline: Time,
    ) -> Result<Changed, Error> {
        let ops = ops.to_vec();
        self.ask(deadline, move |desk, until| async move {
            desk.change(session, seq, &ops, until).await
        })
        .await
    }

    async fn read(
        &self,
        questions: &[Question],
        seen: Revision,
        deadline: Time,
    ) -> Result<Answers, Error> {
        let questions = questions.to_vec();
        self.ask(
            deadline,
            move |desk, until| async move { desk.read(&questions, seen, until).await },
        )
        .await
    }

    async fn sync(&self, deadline: Time) -> Result<Revision, Error> {
        self.ask(deadline, |desk, until| async move { desk.sync(until).await }).await
    }

    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        deadline: Time,
    ) -> Result<TidingsStream, Error> {
        let tidings =
            self.ask(deadline, move |desk, until| async move {
                desk.watch(watching, seen, until).await
            })
            .await?;
        Ok(self.forward(tidings))
    }
}

#[async_trait]
impl Service for LockLine {
    async fn open(&self, client: Client, replace: bool, deadline: Time) -> Result<Opened, Error> {
        self.ask(
            deadline,
            move |desk, until| async move { desk.open(client, replace, until).await },
        )
        .await
    }

    async fn request(
        &self,
        session: SessionId,
        seq: Seq,
        asks: &[Ask],
        deadline: Time,
    ) -> Result<(), Error> {
        let asks = asks.to_vec();
        self.ask(deadline, move |desk, until| async move {
            desk.request(session, seq, &asks, until).await
        })
        .await
    }

    async fn listen(&self, session: SessionId, deadline: Time) -> Result<Events, Error> {
        let events: futures_util::stream::BoxStream<'static, Vec<Event>> = self
            .ask(deadline, move |desk, until| async move { desk.listen(session, until).await })
            .await?;
        Ok(self.forward(events))
    }

    async fn renew(
        &self,
        session: SessionId,
        renewal: Renewal,
        deadline: Time,
    ) -> Result<(), Error> {
        self.ask(
            deadline,
            move |desk, until| async move { desk.renew(session, renewal, until).await },
        )
        .await
    }

    async fn close(&self, session: SessionId, deadline: Time) -> Result<(), Error> {
        self.ask(deadline, move |desk, until| async move { desk.close(session, until).await }).await
    }

    async fn recovered(
        &self,
        dead: SessionId,
        by: SessionId,
        seen: Grant,
        deadline: Time,
    ) -> Result<(), Error> {
        self.ask(
            deadline,
            move |desk, until| async move { desk.recovered(dead, by, seen, until).await },
        )
        .await
    }

    async fn sessions(&self, deadline: Time) -> Result<Vec<SessionRow>, Error> {
        self.ask(deadline, |desk, until| async move { desk.sessions(until).await }).await
    }

    async fn locks(&self, deadline: Time) -> Result<LockRows, Error> {
        self.ask(deadline, |desk, until| async move { desk.locks(until).await }).await
    }
}
