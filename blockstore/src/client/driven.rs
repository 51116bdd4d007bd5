//! A future that goes on when whoever waits for it gives up: polled in place while somebody waits,
//! handed to a task when dropped unfinished. So the usual request costs no task.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use world::World;

/// See the module.
pub(super) struct Driven<R: Send + 'static> {
    world: World,
    future: Option<BoxFuture<'static, R>>,
}

impl<R: Send + 'static> Driven<R> {
    pub(super) fn new(world: &World, future: impl Future<Output = R> + Send + 'static) -> Self {
        Self { world: world.clone(), future: Some(Box::pin(future)) }
    }
}

impl<R: Send + 'static> Future for Driven<R> {
    type Output = R;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<R> {
        let Some(future) = self.future.as_mut() else { return Poll::Pending };
        let result = future.as_mut().poll(context);
        if result.is_ready() {
            self.future = None;
        }
        result
    }
}

impl<R: Send + 'static> Drop for Driven<R> {
    fn drop(&mut self) {
        if let Some(future) = self.future.take() {
            self.world.spawn("a request that nobody waits for", async move {
                future.await;
            });
        }
    }
}
