//! Clients: each seat is taken by one session after the other.

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use lockservice::{Clerk, Error, Locks as _, Router, Service, SessionId, clerk, message::Kind};
use parking_lot::Mutex;
use world::World;

use super::{Actor, Schedule};
use crate::{
    executor::MachineId,
    lockservice::{
        check::Party,
        client::{Cache, Mount},
        net::Wire,
        work::{Mark, Stage, Worker},
    },
};

/// Operations that a client has under way at a time.
const WORKERS: usize = 2;

/// What a client's machine tells the schedule.
#[derive(Default)]
struct Standing {
    session: Option<SessionId>,
    over: Option<Error>,
}

/// A client.
pub(super) struct Seat {
    pub(super) machine: MachineId,
    standing: Arc<Mutex<Standing>>,
    content: Vec<Arc<Mark>>,
    pub(super) alive: bool,
    pub(super) frozen: bool,
}

impl Seat {
    /// Its client got every lock in this stage.
    pub(super) fn is_content(&self, stage: Stage) -> bool {
        self.content.iter().all(|content| content.get() >= stage)
    }
}

impl Schedule {
    /// One more client.
    pub(super) fn take_seat(&mut self) {
        let seat = self.seats.len();
        let taken = self.sit(seat);
        self.seats.push(taken);
    }

    /// A new session takes the seat of one that is over.
    pub(super) fn join(&mut self, seat: usize) {
        if !self.seats[seat].alive {
            self.seats[seat] = self.sit(seat);
            self.judge.lock().count("clients that came back");
        }
    }

    /// All coordinators, as the client in a seat reaches them.
    pub(super) fn router(&self, seat: usize, world: &World) -> Arc<Router> {
        let wire = |place| Wire {
            near: world.clone(),
            ether: self.ether.clone(),
            links: Arc::clone(&self.links),
            judge: Arc::clone(&self.judge),
            link: (seat, place),
            shard: 0,
            renewal: false,
        };
        let member = |place| {
            let service: Arc<dyn Service> = Arc::new(wire(place));
            (place as u64 + 1, service)
        };
        Router::new(world.clone(), (0..self.replicas.len()).map(member).collect())
    }

    fn sit(&mut self, seat: usize) -> Seat {
        let pace = self.pace();
        let (machine, world) = self.executor.machine(pace);
        let router = self.router(seat, &world);
        let (renewals, service) = (Arc::clone(&router), Arc::clone(&router));
        let config = clerk::Config {
            owner: format!("seat {seat}"),
            host: String::new(),
            kind: Kind::Mount,
            replace: false,
            patience: None,
        };
        let standing = Arc::new(Mutex::new(Standing::default()));
        let content: Vec<Arc<Mark>> = (0..WORKERS).map(|_| Arc::default()).collect();
        let (mut own, mount_dice) = (self.dice.fork(), self.dice.fork());
        let (told, judge, ether) =
            (Arc::clone(&standing), Arc::clone(&self.judge), self.ether.clone());
        let spread = !self.sides.is_empty();
        let (stage, got_all) = (Arc::clone(&self.stage), content.clone());
        let tasks = world.clone();
        tasks.spawn("client", async move {
            let apart = move |_: &World| -> Arc<dyn Service> { renewals };
            let clerk = match Clerk::open_apart(world.clone(), router, config, apart).await {
                Ok(clerk) => clerk,
                Err(error) => {
                    told.lock().over = Some(error);
                    return;
                }
            };
            let session = clerk.session();
            let cache = Arc::new(Mutex::new(Cache::default()));
            let mount = Arc::new(Mount {
                world: world.clone(),
                ether,
                session,
                judge: Arc::clone(&judge),
                cache: Arc::clone(&cache),
                dice: Mutex::new(mount_dice),
            });
            clerk.attach(Arc::clone(&mount) as _, Some(Arc::clone(&mount) as _));
            let party = Party { clerk: Arc::clone(&clerk), world: world.clone(), cache };
            let cache = Arc::clone(&party.cache);
            judge.lock().parties.insert(session, party);
            told.lock().session = Some(session);
            let workers = got_all.into_iter().zip(0..).map(|(content, number)| {
                let worker = Worker {
                    number,
                    asked: 0,
                    apart: spread,
                    world: world.clone(),
                    clerk: Arc::clone(&clerk),
                    service: Arc::clone(&service) as _,
                    mount: Arc::clone(&mount),
                    judge: Arc::clone(&judge),
                    cache: Arc::clone(&cache),
                    dice: own.fork(),
                    stage: Arc::clone(&stage),
                    content,
                };
                worker.run()
            });
            let over = join_all(workers).await.into_iter().next();
            told.lock().over = Some(over.unwrap_or(Error::Closed));
        });
        Seat { machine, standing, content, alive: true, frozen: false }
    }

    /// Seats whose session is over are taken anew after a while.
    pub(super) fn look_after_seats(&mut self) {
        for seat in 0..self.seats.len() {
            let over = self.seats[seat].standing.lock().over.take();
            if let Some(error) = over {
                let what = match error {
                    Error::Closed => "sessions closed",
                    Error::Expired => "sessions that found themselves expired",
                    _ => "clients that gave up",
                };
                self.judge.lock().count(what);
                self.leave(seat);
            }
        }
    }

    /// The client of a seat is no more; another comes.
    pub(super) fn leave(&mut self, seat: usize) {
        self.seats[seat].alive = false;
        let session = self.seats[seat].standing.lock().session;
        let party = session.and_then(|session| self.judge.lock().parties.remove(&session));
        self.executor.kill(self.seats[seat].machine);
        drop(party);
        let most = if self.healed.is_some() { 20 } else { 3_000 };
        let at = self.group.now + self.dice.millis(1, most);
        self.group.at(at, Actor::Join(seat));
    }

    /// A client goes on, if it is still the one that was frozen.
    pub(super) fn thaw(&mut self, seat: usize, machine: MachineId) {
        if self.seats[seat].machine == machine && self.seats[seat].frozen {
            self.seats[seat].frozen = false;
            self.executor.thaw(machine);
        }
    }

    /// A client does nothing for a while.
    pub(super) fn freeze(&mut self, seat: usize, takes: Duration) {
        if self.seats[seat].alive && !self.seats[seat].frozen {
            self.seats[seat].frozen = true;
            let machine = self.seats[seat].machine;
            self.executor.freeze(machine);
            self.links.lock().strike("client frozen");
            self.group.at(self.group.now + takes, Actor::Thaw(seat, machine));
        }
    }
}
