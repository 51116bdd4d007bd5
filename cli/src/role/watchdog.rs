//! The watchdog of a mount, from the mount's side: its process is started, beaten to, and started again if it
//! ends. How it hears and what it does then, `fuse::watchdog` knows.

use std::{sync::Arc, time::Duration};

use fuse::watchdog::{Pulse, clock};
use lockservice::{Clerk, Locks as _};
use world::{Task, World};

use crate::launch;

/// Keeps a watchdog over the mount with the kernel's connection `connection` until the task is aborted.
pub(crate) fn keep(world: &World, session: Arc<Clerk>, connection: u32) -> Task {
    world.spawn("watchdog", watched(world.clone(), session, connection))
}

async fn watched(world: World, session: Arc<Clerk>, connection: u32) {
    loop {
        let process = match launch::watchdog(connection) {
            Ok(process) => process,
            Err(error) => return tracing::warn!(%error, "this mount has no watchdog"),
        };
        beat(&world, &session, &process.pulse).await;
        if !process.was_killed() {
            // It has said why, and would say it again.
            return tracing::warn!(connection, "this mount has no watchdog any more");
        }
        tracing::warn!(connection, "the mount's watchdog was killed; starting another");
    }
}

/// Beats until nobody listens.
async fn beat(world: &World, session: &Clerk, pulse: &Pulse) {
    while pulse.beat(patience(world, session)).is_ok() {
        world.clock.sleep(session.lease() / 10).await;
    }
}

/// Until when the daemon may be silent: half a lease longer than what the kernel keeps is good for. A daemon that
/// lives uses that time to tell the kernel that the lease has ended; then it still answers, with errors.
fn patience(world: &World, session: &Clerk) -> Duration {
    let now = clock();
    now + session.valid_until().since(world.clock.now()) + session.lease() / 2
}
