//! What a clerk does on its own: send batches, listen to events, renew the lease, and carry out
//! revocations and recoveries. It decides nothing that the machine decides.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures_util::StreamExt;
use world::{Time, World};

use super::{Attached, Lane, Shared, estate, machine::RevocationId, usable};
use crate::{
    bug::{Bug, seeded},
    error::Error,
    locks::Held,
    name::{Mode, SessionId, Span},
    service::Service,
    table::Table,
};

/// Before something that failed is tried again.
pub(super) const BACK_OFF: Duration = Duration::from_millis(20);
/// How long one try of a call may take.
pub(super) const CALL: Duration = Duration::from_secs(5);

/// Sends what the machine has to ask of a shard, one batch at a time, each until it is known to be
/// applied, or refused as a whole.
pub(super) async fn send(shared: Arc<Shared>, lane: Arc<Lane>) {
    loop {
        let batch = {
            let mut state = shared.state.lock();
            if state.machine.over.is_some() {
                return;
            }
            state.machine.batch(lane.shard)
        };
        let Some((seq, asks)) = batch else {
            lane.send.notified().await;
            continue;
        };
        if !shared.awake() {
            return;
        }
        shared.messages.fetch_add(1, Ordering::Relaxed);
        let deadline = shared.world.clock.now() + CALL;
        let request = lane.service.request(shared.session, seq, &asks, deadline);
        match shared.world.until(deadline, request).await {
            Ok(Ok(())) => shared.state.lock().machine.acked(lane.shard, seq),
            Ok(Err(Error::Moved { group, by })) => {
                let moved = (group, by);
                let effects = shared.state.lock().machine.refused_batch(lane.shard, seq, moved);
                shared.run(effects);
            }
            Ok(Err(Error::Expired)) => return shared.end(Error::Expired),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a batch of asks failed; it is sent again");
                shared.world.clock.sleep(BACK_OFF).await;
            }
            Err(_) => {}
        }
    }
}

/// Listens to the session's events of a shard and, when the stream ends, listens again.
pub(super) async fn listen(shared: Arc<Shared>, lane: Arc<Lane>) {
    loop {
        {
            let mut state = shared.state.lock();
            if state.machine.over.is_some() {
                return;
            }
            state.machine.listening(lane.shard);
        }
        shared.messages.fetch_add(1, Ordering::Relaxed);
        let deadline = shared.world.clock.now() + CALL;
        let listen = lane.service.listen(shared.session, deadline);
        let stream = shared.world.until(deadline, listen).await;
        match stream {
            Ok(Ok(mut events)) => loop {
                let relisten = std::pin::pin!(lane.relisten.notified());
                let next = futures_util::future::select(events.next(), relisten).await;
                let futures_util::future::Either::Left((Some(group), _)) = next else { break };
                if !shared.awake() {
                    return;
                }
                for event in group {
                    let effects = shared.state.lock().machine.event(lane.shard, event);
                    shared.run(effects);
                }
            },
            Ok(Err(Error::Expired)) => return shared.end(Error::Expired),
            Ok(Err(error)) => tracing::debug!(%error, "cannot listen to the lock service yet"),
            Err(_) => {}
        }
        shared.world.clock.sleep(BACK_OFF).await;
    }
}

/// Renews the lease every third of it, and ends the session when the margin is reached. `world`
/// and `service` are those of the thread that this runs on.
pub(super) async fn renew(
    shared: Arc<Shared>,
    world: World,
    service: Arc<dyn Service>,
    opened: Time,
) {
    let third = shared.lease / 3;
    let mut next = opened + third;
    loop {
        let until = Time(shared.valid_until.load(Ordering::Acquire));
        let wake = next.min(until);
        // Either it is time, or somebody wants fresh numbers.
        let _ = world.until(wake, shared.renew.notified()).await;
        if shared.over().is_some() || shared.left.load(Ordering::Acquire) {
            return;
        }
        let sent = world.clock.now();
        if sent >= until {
            return shared.end(Error::Expired);
        }
        match world.until(until, service.renew(shared.session, shared.renewal(), until)).await {
            Ok(Ok(())) => {
                let from = if seeded(Bug::LeaseFromAnswer) { world.clock.now() } else { sent };
                let valid = from + usable(shared.lease);
                if world.clock.now() >= until || shared.over().is_some() {
                    // The lease lapsed meanwhile and `held` has said so: no way back.
                    return shared.end(Error::Expired);
                }
                shared.valid_until.store(valid.0, Ordering::Release);
                next = sent + third;
            }
            Ok(Err(Error::Expired)) => return shared.end(Error::Expired),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a renewal failed; it is sent again");
                next = world.clock.now() + (shared.lease / 60).max(BACK_OFF);
            }
            Err(_) => {}
        }
    }
}

/// Gives up what nobody has used for long.
pub(super) async fn tidy(shared: Arc<Shared>, idle: Duration, within: Span) {
    loop {
        let pause = (idle / 8).clamp(BACK_OFF, Duration::from_secs(60));
        shared.world.clock.sleep(pause).await;
        if !shared.awake() {
            return;
        }
        let most = usize::try_from(Table::MOST_SPANS).unwrap_or(usize::MAX);
        let effects = {
            let mut state = shared.state.lock();
            state.machine.now = shared.world.clock.now();
            state.machine.tidy(within, idle, most)
        };
        shared.run(effects);
    }
}

async fn attached(shared: &Shared) -> Option<Attached> {
    let mut attached = shared.attached.subscribe();
    // The sender lives in `shared`, so this fails only if nobody can be waiting.
    attached.wait_for(Option::is_some).await.ok()?.clone()
}

/// Lets the holder flush, then gives back.
pub(super) async fn revoke(shared: Arc<Shared>, id: RevocationId, span: Span, keep: Option<Mode>) {
    let Some(attached) = attached(&shared).await else { return };
    if !shared.awake() {
        return;
    }
    if seeded(Bug::ReleaseBeforeFlush) {
        let effects = shared.state.lock().machine.revoked(id);
        shared.run(effects);
    }
    attached.holder.revoke(span, keep).await;
    let effects = shared.state.lock().machine.revoked(id);
    shared.run(effects);
}

/// Recovers a dead session, again and again until it is done.
pub(super) async fn recover(shared: Arc<Shared>, dead: SessionId, held: Vec<Held>) {
    let recoverer = attached(&shared).await.and_then(|attached| attached.recoverer);
    let Some(recoverer) = recoverer else {
        tracing::error!(dead = dead.0, "asked to recover a session, but nothing here can");
        return;
    };
    let again = (shared.lease / 20).max(BACK_OFF);
    let Some((held, seen)) = estate::of(&shared, dead, held).await else { return };
    loop {
        if seeded(Bug::RecoveredEarly) {
            break;
        }
        match recoverer.recover(dead, held.clone()).await {
            Ok(()) => break,
            Err(error) => tracing::warn!(dead = dead.0, %error, "recovery is tried again"),
        }
        if shared.over().is_some() {
            return;
        }
        shared.world.clock.sleep(again).await;
    }
    while shared.over().is_none() {
        shared.messages.fetch_add(1, Ordering::Relaxed);
        let deadline = shared.world.clock.now() + CALL;
        let told = shared.service.recovered(dead, shared.session, seen, deadline);
        match shared.world.until(deadline, told).await {
            Ok(Ok(())) => break,
            Ok(Err(Error::Protocol(reason))) => {
                tracing::warn!(dead = dead.0, reason, "somebody else recovers it");
                break;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "could not tell of a recovery yet");
                shared.world.clock.sleep(BACK_OFF).await;
            }
            Err(_) => {}
        }
    }
    shared.state.lock().recovering.remove(&dead);
}
