//! The registry over gRPC: the calling side ([`Remote`]) and the answering side ([`adapter`]). Both
//! only translate.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{StreamExt, stream::BoxStream};
use tonic::{Request, Response, Status};
use world::{Time, World};

use super::{
    convert::{answers_of, changed_of, ops_of, questions_of, tidings_of, watching_of},
    message::{Answers, Changed, Op, Question, Revision, Watching},
    store::{Store, TidingsStream},
};
use crate::{
    convert::id_of,
    error::Error,
    message::Seq,
    name::SessionId,
    proto::{
        self,
        registry_client::RegistryClient,
        registry_server::{Registry, RegistryServer},
    },
    remote::{LONGEST, Remote, bad, error_of, odd, status_of},
};

#[async_trait]
impl Store for Remote {
    async fn change(
        &self,
        session: SessionId,
        seq: Seq,
        ops: &[Op],
        deadline: Time,
    ) -> Result<Changed, Error> {
        let ops = ops.iter().map(Into::into).collect();
        let message = proto::ChangeTree { session: session.0, seq: seq.0, ops };
        let mut client = self.registry();
        let call = |request| async move { client.change(request).await };
        changed_of(self.ask(deadline, message, call).await?).map_err(odd)
    }

    async fn read(
        &self,
        questions: &[Question],
        seen: Revision,
        deadline: Time,
    ) -> Result<Answers, Error> {
        let questions = questions.iter().map(Into::into).collect();
        let message = proto::ReadTree { questions, seen: seen.0 };
        let mut client = self.registry();
        let call = |request| async move { client.read(request).await };
        answers_of(self.ask(deadline, message, call).await?).map_err(odd)
    }

    async fn sync(&self, deadline: Time) -> Result<Revision, Error> {
        let mut client = self.registry();
        let call = |request| async move { client.sync(request).await };
        let proto::TreeRevision { revision } =
            self.ask(deadline, proto::Question { shard: 0 }, call).await?;
        Ok(Revision(revision))
    }

    async fn watch(
        &self,
        watching: Watching,
        seen: Revision,
        deadline: Time,
    ) -> Result<TidingsStream, Error> {
        let message = proto::WatchTree { seen: seen.0, ..(&watching).into() };
        let mut client = self.registry();
        let watch = client.watch(Request::new(message));
        let stream = match self.world().until(deadline, watch).await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return Err(error_of(status)),
            Err(_) => return Err(Error::Unreachable),
        };
        // Whatever cannot be read ends the stream; the next one says that something was missed.
        let read = |tidings: Result<proto::TreeTidings, Status>| tidings_of(tidings.ok()?).ok();
        Ok(stream.scan((), move |(), tidings| std::future::ready(read(tidings))).boxed())
    }
}

impl Remote {
    fn registry(&self) -> RegistryClient<wire::Channel> {
        wire::limits!(RegistryClient::new(self.channel()))
    }
}

/// The answering side: any store, as gRPC. Its name is only of interest to [`wire::Server`].
pub struct Adapter {
    world: World,
    store: Arc<dyn Store>,
}

/// Serves `store` by gRPC: add it to the coordinator's [`wire::Server`].
#[must_use]
pub fn adapter(world: &World, store: Arc<dyn Store>) -> RegistryServer<Adapter> {
    wire::limits!(RegistryServer::new(Adapter { world: world.clone(), store }))
}

impl Adapter {
    fn deadline(&self) -> Time {
        self.world.clock.now() + LONGEST
    }
}

type Answer<R> = Result<Response<R>, Status>;

#[async_trait]
impl Registry for Adapter {
    async fn change(&self, request: Request<proto::ChangeTree>) -> Answer<proto::TreeChanged> {
        let change = request.into_inner();
        let session = id_of(change.session).map_err(bad)?;
        let ops = ops_of(change.ops).map_err(bad)?;
        let changed = self.store.change(session, Seq(change.seq), &ops, self.deadline()).await;
        changed.map(|changed| Response::new((&changed).into())).map_err(|e| status_of(&e))
    }

    async fn read(&self, request: Request<proto::ReadTree>) -> Answer<proto::TreeAnswers> {
        let read = request.into_inner();
        let questions = questions_of(read.questions).map_err(bad)?;
        let answers = self.store.read(&questions, Revision(read.seen), self.deadline()).await;
        answers.map(|answers| Response::new(answers.into())).map_err(|e| status_of(&e))
    }

    async fn sync(&self, _: Request<proto::Question>) -> Answer<proto::TreeRevision> {
        let revision = self.store.sync(self.deadline()).await;
        let revision = revision.map_err(|error| status_of(&error))?.0;
        Ok(Response::new(proto::TreeRevision { revision }))
    }

    type WatchStream = BoxStream<'static, Result<proto::TreeTidings, Status>>;

    async fn watch(&self, request: Request<proto::WatchTree>) -> Answer<Self::WatchStream> {
        let watch = request.into_inner();
        let seen = Revision(watch.seen);
        let watching = watching_of(watch).map_err(bad)?;
        let tidings = self.store.watch(watching, seen, self.deadline()).await;
        let tidings = tidings.map_err(|error| status_of(&error))?;
        Ok(Response::new(tidings.map(|tidings| Ok((&tidings).into())).boxed()))
    }
}
