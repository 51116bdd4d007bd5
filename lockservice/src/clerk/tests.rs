//! Two or more real clerks on one table in memory: what the file system may rely on.
#![expect(clippy::disallowed_methods, reason = "tests drive the real machine")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::timeout};
use world::World;

use super::Clerk;
use crate::{
    Error, Held, Holder, Locks, Mode, Name, RecoverError, Recoverer, SessionId, Span,
    advisory::{Claim, Claimant, Claimed, Patience, Stretch},
    local::LocalLocks,
    service::Service as _,
};

const SOON: Duration = Duration::from_secs(5);

/// Notes what it is asked; a revocation takes a permit.
struct Notes {
    revoked: Mutex<Vec<(Span, Option<Mode>)>>,
    recovered: Mutex<Vec<(SessionId, Vec<Held>)>>,
    expired: AtomicUsize,
    gate: Semaphore,
}

impl Notes {
    fn new(permits: usize) -> Arc<Self> {
        Arc::new(Self {
            revoked: Mutex::default(),
            recovered: Mutex::default(),
            expired: AtomicUsize::new(0),
            gate: Semaphore::new(permits),
        })
    }
}

#[async_trait]
impl Holder for Notes {
    async fn revoke(&self, span: Span, keep: Option<Mode>) {
        self.revoked.lock().push((span, keep));
        self.gate.acquire().await.unwrap().forget();
    }
    fn expired(&self) {
        self.expired.fetch_add(1, Ordering::SeqCst);
    }
}

#[async_trait]
impl Recoverer for Notes {
    async fn recover(&self, dead: SessionId, held: Vec<Held>) -> Result<(), RecoverError> {
        self.gate.acquire().await.unwrap().forget();
        self.recovered.lock().push((dead, held));
        Ok(())
    }
}

async fn join(locals: &LocalLocks, name: &str, permits: usize) -> (Arc<Clerk>, Arc<Notes>) {
    let clerk = locals.open(name).await.unwrap();
    let notes = Notes::new(permits);
    clerk.attach(Arc::clone(&notes) as _, Some(Arc::clone(&notes) as _));
    (clerk, notes)
}

fn name(index: u32) -> Name {
    Name::new(1, 0, index)
}

fn one(index: u32) -> Span {
    Span::one(name(index))
}

async fn get(clerk: &Clerk, index: u32, mode: Mode) -> crate::Pin {
    timeout(SOON, clerk.acquire(one(index), one(index), mode)).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_grant_is_sticky_and_asked_for_once() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 0).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    let sent = a.messages();
    for _ in 0..100 {
        drop(get(&a, 1, Mode::Exclusive).await);
        drop(get(&a, 1, Mode::Shared).await);
    }
    assert_eq!(a.messages(), sent);
    assert!(a.held(name(1), Mode::Exclusive).is_some());
    assert!(notes.revoked.lock().is_empty());
    locals.check().unwrap();
}

#[tokio::test]
async fn a_reader_makes_the_writer_downgrade_and_both_read() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 9).await;
    let (b, _) = join(&locals, "b", 9).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    drop(get(&b, 1, Mode::Shared).await);
    assert_eq!(*notes.revoked.lock(), [(one(1), Some(Mode::Shared))]);
    assert!(a.held(name(1), Mode::Shared).is_some());
    assert!(a.held(name(1), Mode::Exclusive).is_none());
    assert!(b.held(name(1), Mode::Shared).is_some());
}

#[tokio::test]
async fn a_lock_passes_on_only_after_the_holder_flushed() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 0).await;
    let (b, _) = join(&locals, "b", 9).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    let mut want = Box::pin(get(&b, 1, Mode::Exclusive));
    assert!(timeout(Duration::from_millis(30), &mut want).await.is_err());
    assert_eq!(notes.revoked.lock().len(), 1);
    assert!(a.held(name(1), Mode::Exclusive).is_some(), "it is held until the holder returns");
    notes.gate.add_permits(1);
    drop(want.await);
    assert!(a.held(name(1), Mode::Shared).is_none());
}

#[tokio::test]
async fn a_pin_keeps_the_revocation_away_until_it_is_dropped() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 9).await;
    let (b, _) = join(&locals, "b", 9).await;
    let pin = get(&a, 1, Mode::Exclusive).await;
    let mut want = Box::pin(get(&b, 1, Mode::Exclusive));
    assert!(timeout(Duration::from_millis(30), &mut want).await.is_err());
    assert!(notes.revoked.lock().is_empty());
    drop(pin);
    drop(want.await);
    assert_eq!(*notes.revoked.lock(), [(one(1), None)]);
}

#[tokio::test]
async fn a_sub_range_is_given_up_and_the_rest_keeps_its_number() {
    let locals = LocalLocks::new(World::real());
    let (a, _) = join(&locals, "a", 9).await;
    let (b, _) = join(&locals, "b", 9).await;
    let segment = Span::segment(1, 0, 1000);
    let pin = a.try_acquire(segment, Mode::Exclusive).await.unwrap().unwrap();
    let grant = pin.held.grant;
    drop(pin);
    drop(get(&b, 500, Mode::Exclusive).await);
    assert!(a.held(name(500), Mode::Shared).is_none());
    for index in [0, 499, 501, 999] {
        assert_eq!(a.held(name(index), Mode::Exclusive).unwrap().grant, grant);
    }
    assert!(b.held(name(500), Mode::Exclusive).unwrap().grant > grant);
    assert!(b.try_acquire(segment, Mode::Shared).await.unwrap().is_none());
    locals.check().unwrap();
}

#[tokio::test]
async fn an_upgrade_gives_the_shared_lock_up_and_two_of_them_do_not_deadlock() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 99).await;
    let (b, _) = join(&locals, "b", 99).await;
    drop(get(&a, 1, Mode::Shared).await);
    drop(get(&b, 1, Mode::Shared).await);
    let first = async { drop(get(&a, 1, Mode::Exclusive).await) };
    let second = async { drop(get(&b, 1, Mode::Exclusive).await) };
    tokio::join!(first, second);
    assert_eq!(notes.revoked.lock()[0], (one(1), None));
    assert!(a.held(name(1), Mode::Shared).is_none() || b.held(name(1), Mode::Shared).is_none());
    assert!(
        a.held(name(1), Mode::Exclusive).is_some() || b.held(name(1), Mode::Exclusive).is_some()
    );
}

#[tokio::test]
async fn hints_take_what_is_free_in_one_message_and_revoke_nobody() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 9).await;
    let (b, _) = join(&locals, "b", 9).await;
    drop(get(&a, 500, Mode::Exclusive).await);
    let sent = b.messages();
    let names: Vec<Name> = (0..1000).map(name).collect();
    b.hint(&names, Mode::Shared).await.unwrap();
    assert_eq!(b.messages(), sent + 1);
    let got = names.iter().filter(|name| b.held(**name, Mode::Shared).is_some()).count();
    assert_eq!(got, 999);
    b.hint(&names[..500], Mode::Shared).await.unwrap();
    assert_eq!(b.messages(), sent + 1, "nothing was left to ask");
    assert!(notes.revoked.lock().is_empty());
}

#[tokio::test]
async fn a_dead_sessions_locks_pass_on_only_after_its_recovery() {
    let locals = LocalLocks::new(World::real());
    let (a, a_notes) = join(&locals, "a", 9).await;
    let (b, b_notes) = join(&locals, "b", 0).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    let held = a.all_held();
    locals.kill(a.session()).await.unwrap();
    b_notes.gate.add_permits(0);
    let mut want = Box::pin(get(&b, 1, Mode::Exclusive));
    assert!(timeout(Duration::from_millis(30), &mut want).await.is_err());
    assert_eq!(a_notes.expired.load(Ordering::SeqCst), 1);
    assert!(a.held(name(1), Mode::Shared).is_none());
    b_notes.gate.add_permits(1);
    drop(want.await);
    assert_eq!(*b_notes.recovered.lock(), [(a.session(), held)]);
    let error = a.acquire(one(2), one(2), Mode::Shared).await.err();
    assert_eq!(error, Some(Error::Expired));
}

#[tokio::test]
async fn closing_flushes_gives_everything_back_and_calls_nobody_expired() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 9).await;
    let (b, _) = join(&locals, "b", 9).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    a.close().await.unwrap();
    assert_eq!(notes.revoked.lock().len(), 1);
    assert_eq!(notes.expired.load(Ordering::SeqCst), 0);
    assert!(b.try_acquire(one(1), Mode::Exclusive).await.unwrap().is_some());
    assert_eq!(a.acquire(one(2), one(2), Mode::Shared).await.err(), Some(Error::Closed));
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_no_pin_and_no_waiter_behind() {
    let locals = LocalLocks::new(World::real());
    let (a, a_notes) = join(&locals, "a", 0).await;
    let (b, _) = join(&locals, "b", 9).await;
    let (c, _) = join(&locals, "c", 9).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    let mut want = Box::pin(get(&b, 1, Mode::Exclusive));
    assert!(timeout(Duration::from_millis(20), &mut want).await.is_err());
    drop(want);
    a_notes.gate.add_permits(9);
    drop(get(&c, 1, Mode::Exclusive).await);
    drop(get(&a, 1, Mode::Exclusive).await);
    locals.check().unwrap();
}

#[tokio::test]
async fn many_hand_overs_between_two_clerks_all_end() {
    let locals = LocalLocks::new(World::real());
    let (a, _) = join(&locals, "a", 100_000).await;
    let (b, _) = join(&locals, "b", 100_000).await;
    let began = std::time::Instant::now();
    let turns = |clerk: Arc<Clerk>| async move {
        for _ in 0..500 {
            let pin = get(&clerk, 1, Mode::Exclusive).await;
            assert!(clerk.held(name(1), Mode::Exclusive).is_some());
            tokio::task::yield_now().await;
            drop(pin);
        }
    };
    tokio::join!(turns(Arc::clone(&a)), turns(Arc::clone(&b)));
    eprintln!("1000 turns in {:?}", began.elapsed());
    locals.check().unwrap();
}

#[tokio::test]
async fn sessions_are_listed_with_fresh_numbers() {
    let locals = LocalLocks::new(World::real());
    let (a, _) = join(&locals, "a", 9).await;
    drop(get(&a, 7, Mode::Exclusive).await);
    a.report("{\"dirty\":7}".to_owned());
    let deadline = World::real().clock.now() + SOON;
    let rows = crate::Service::sessions(&*locals.server(), deadline).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].report, "{\"dirty\":7}");
    assert_eq!((rows[0].spans, rows[0].names, rows[0].client.owner.as_str()), (1, 1, "a"));
    let locks = crate::Service::locks(&*locals.server(), deadline).await.unwrap();
    assert_eq!(locks.locks[0].owners[0].session, a.session());
}

#[tokio::test]
async fn a_wait_ends_at_its_own_deadline_and_leaves_nothing_behind() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 0).await;
    let (b, _) = join(&locals, "b", 9).await;
    drop(get(&a, 1, Mode::Exclusive).await);
    let deadline = World::real().clock.now() + Duration::from_millis(40);
    let late = b.acquire_by(one(1), one(1), Mode::Exclusive, deadline).await.err();
    assert_eq!(late, Some(Error::Deadline));
    notes.gate.add_permits(9);
    drop(get(&b, 2, Mode::Exclusive).await);
    assert!(b.held(name(1), Mode::Shared).is_none());
    locals.check().unwrap();
}

#[tokio::test]
async fn idle_locks_are_given_back_and_used_or_other_ones_stay() {
    let locals = LocalLocks::new(World::real());
    let (a, notes) = join(&locals, "a", 99).await;
    for index in [1, 2, 900] {
        drop(get(&a, index, Mode::Exclusive).await);
    }
    let within = Span::new(name(0), name(100)).unwrap();
    a.give_back_after(Duration::from_millis(200), within);
    let gone = async {
        // Asking is using: only name 2 is asked for.
        while a.all_held().iter().any(|held| held.span.contains(name(1))) {
            assert!(a.held(name(2), Mode::Exclusive).is_some());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, gone).await.unwrap();
    assert!(a.held(name(900), Mode::Exclusive).is_some(), "it is not within");
    assert_eq!(*notes.revoked.lock(), [(one(1), None)], "through the holder, as any other");
}

#[tokio::test]
async fn a_session_that_recovers_another_closes_only_when_it_is_done_with_it() {
    let locals = LocalLocks::new(World::real());
    let (dead, _) = join(&locals, "dead", 0).await;
    drop(get(&dead, 1, Mode::Exclusive).await);
    let (clerk, notes) = join(&locals, "recoverer", 0).await;
    dead.abandon();
    locals.kill(dead.session()).await.unwrap();
    let closing = tokio::spawn({
        let clerk = Arc::clone(&clerk);
        async move { clerk.close().await }
    });
    // Once it has asked, it is given no more of the dead.
    let asked = async {
        loop {
            let rows = locals.server().sessions(World::real().clock.now() + SOON).await.unwrap();
            let row = rows.iter().find(|row| row.session == clerk.session()).unwrap();
            let recovers = rows.iter().any(|row| row.recoverer == Some(clerk.session()));
            if recovers && !row.client.able {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, asked).await.unwrap();
    assert!(!closing.is_finished() && notes.recovered.lock().is_empty());
    assert_eq!(clerk.try_acquire(one(2), Mode::Shared).await.err(), Some(Error::Closed));
    notes.gate.add_permits(1);
    assert_eq!(timeout(SOON, closing).await.unwrap().unwrap(), Ok(()));
    assert_eq!(notes.recovered.lock().len(), 1);
    locals.check().unwrap();
}

#[tokio::test]
async fn only_a_session_with_a_recoverer_is_asked_to_recover() {
    let locals = LocalLocks::new(World::real());
    let waiting = locals.open("a mount that is not ready").await.unwrap();
    let (dead, _) = join(&locals, "dead", 0).await;
    drop(get(&dead, 1, Mode::Exclusive).await);
    locals.kill(dead.session()).await.unwrap();
    let (clerk, notes) = join(&locals, "ready", 1).await;
    drop(get(&clerk, 1, Mode::Exclusive).await);
    assert_eq!(notes.recovered.lock().len(), 1);
    drop(waiting);
}

fn claim(by: u64, mode: Option<Mode>) -> Claim {
    Claim { file: 1, by: Claimant(by), process: 1, stretch: Stretch::WHOLE, mode }
}

#[tokio::test]
async fn an_advisory_lock_is_waited_for_taken_back_and_given_up_when_nobody_is_left() {
    let locals = LocalLocks::new(World::real());
    let (a, _) = join(&locals, "a", 0).await;
    let (b, _) = join(&locals, "b", 0).await;
    let never = || Box::pin(std::future::pending::<()>());
    let exclusive = claim(1, Some(Mode::Exclusive));
    let try_ = |clerk: Arc<Clerk>| async move {
        let tried = clerk.claim(exclusive, Patience::Try, Box::pin(std::future::pending::<()>()));
        timeout(SOON, tried).await.unwrap().unwrap()
    };
    assert_eq!(try_(Arc::clone(&a)).await, Claimed::Done);
    assert!(matches!(try_(Arc::clone(&b)).await, Claimed::Busy(found) if found.process == 0));
    let taken_back = b.claim(exclusive, Patience::Wait, Box::pin(std::future::ready(())));
    assert_eq!(timeout(SOON, taken_back).await.unwrap(), Ok(Claimed::Cancelled));
    // Whoever waits is gone before its turn comes.
    let left = timeout(Duration::from_millis(20), b.claim(exclusive, Patience::Wait, never()));
    assert!(left.await.is_err());
    let given_up = a.claim(claim(1, None), Patience::Try, never()).await;
    assert_eq!(given_up, Ok(Claimed::Done));
    let again = async {
        while try_(Arc::clone(&a)).await != Claimed::Done {
            tokio::task::yield_now().await;
        }
    };
    timeout(SOON, again).await.expect("what the one that is gone got was given up");
    // It ends with the session.
    timeout(SOON, a.close()).await.unwrap().unwrap();
    assert_eq!(try_(b).await, Claimed::Done);
    locals.check().unwrap();
}
