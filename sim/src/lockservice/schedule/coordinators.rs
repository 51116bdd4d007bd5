//! Coordinators: a member of the group and the server beside it, which lives, freezes and dies with it.

use std::{sync::Arc, time::Duration};

use ::raft::{Event, ReadMode, Role};
use lockservice::{Error, Server, Service, Shard, server};
use world::World;

use super::{LEASE, Schedule};
use crate::{
    executor::{MachineId, Pace},
    lockservice::{
        engine::{MemberEngine, Wish},
        machine::command,
        shards::Side,
    },
    raft::group::Told,
};

/// Coordinators as clients of each other have links from here on.
const PEERS: usize = 1_000;

/// The machine of a coordinator.
pub(super) struct Coordinator {
    machine: MachineId,
    world: World,
    /// The member's life for which a server runs.
    life: Option<u64>,
    frozen: bool,
    /// Until when its consensus does nothing, and it alone.
    pub(super) stalled: Duration,
}

impl Schedule {
    /// One machine for each member.
    pub(super) fn staff(&mut self) {
        for _ in 0..self.replicas.len() {
            let pace = self.pace();
            let (machine, world) = self.executor.machine(pace);
            let stalled = Duration::ZERO;
            self.coordinators.push(Coordinator {
                machine,
                world,
                life: None,
                frozen: false,
                stalled,
            });
        }
    }

    /// A clock that keeps to the stated drift, measured against any other.
    pub(super) fn pace(&mut self) -> Pace {
        let fast = i64::try_from(self.dice.between(0, 18_000)).unwrap_or_default() - 9_000;
        Pace { offset: self.dice.millis(1, 1_000_000), fast }
    }

    /// Servers follow their members: their lives, their pauses, and whether they lead.
    pub(super) fn follow(&mut self) {
        for place in 0..self.coordinators.len() {
            let member = &self.group.members[place];
            let life = member.node.is_some().then_some(member.life);
            let paused = member.paused > self.group.now.max(self.coordinators[place].stalled);
            if self.coordinators[place].life != life {
                self.restart(place, life);
            }
            let coordinator = &mut self.coordinators[place];
            if coordinator.frozen != paused {
                coordinator.frozen = paused;
                self.sides.iter().for_each(|side| side.lock().freeze(place, paused));
                if paused {
                    self.executor.freeze(coordinator.machine);
                } else {
                    self.executor.thaw(coordinator.machine);
                }
            }
            let status = self.group.statuses[place].as_ref().filter(|_| life.is_some());
            let leads = status.filter(|s| matches!(s.role, Role::Leader { ready: true }));
            let leading = leads.map(|status| status.term.0);
            let mut replica = self.replicas[place].lock();
            if replica.leading != leading {
                replica.leading = leading;
                replica.stir();
            }
        }
        let now = self.ether.clock.now();
        self.sides.iter().for_each(|side| side.lock().follow(now));
    }

    fn restart(&mut self, place: usize, life: Option<u64>) {
        let coordinator = &mut self.coordinators[place];
        coordinator.life = life;
        // What lived in the old process is gone.
        let before = self.links.lock().up[place].take();
        self.executor.kill(coordinator.machine);
        self.sides.iter().for_each(|side| side.lock().restart(place, life.is_some()));
        coordinator.frozen = false;
        drop(before);
        self.replicas[place].lock().replies.clear();
        if life.is_some() {
            let world = coordinator.world.clone();
            let engine = MemberEngine {
                world: world.clone(),
                place,
                replica: Arc::clone(&self.replicas[place]),
                wishes: Arc::clone(&self.wishes),
            };
            let config = server::Config { lease: LEASE };
            let mut servers = vec![Server::start(world.clone(), Arc::new(engine), config)];
            for side in &self.sides {
                let engine = Side::engine(side, &world, place);
                servers.push(Server::start(world.clone(), Arc::new(engine), config));
            }
            if servers.len() > 1 {
                let home = self.router(PEERS + place, &world);
                let others = (1..servers.len()).filter_map(|k| home.shard(Shard(k as u32)));
                let home: Arc<dyn Service> = home.clone();
                let peers: Vec<_> = std::iter::once(home).chain(others).collect();
                Server::join(&servers, &peers);
            }
            self.links.lock().up[place] = Some((world, servers));
        }
    }

    /// Hands members what their servers ask for; whether there was anything.
    pub(super) fn grant_wishes(&mut self) -> bool {
        let mut any = false;
        loop {
            let now = self.group.now;
            let awake = |place: usize| self.group.members[place].paused <= now;
            let wish = self.wishes.lock().first(awake);
            let Some((place, ticket, wish)) = wish else { return any };
            any = true;
            let status = self.group.statuses[place].as_ref();
            let leads = status.is_some_and(|s| matches!(s.role, Role::Leader { .. }));
            if !leads {
                let leader = status.and_then(|s| match s.role {
                    Role::Follower { leader } => leader.map(|id| id.0),
                    _ => None,
                });
                self.wishes.lock().answer(ticket, Err(Error::NotLeader { leader }));
                continue;
            }
            match wish {
                Wish::Propose(body) => {
                    let command = command(ticket, &body);
                    self.group.step(place, Event::Propose { ticket, command });
                }
                Wish::Barrier => self.group.read(place, ticket, 0, ReadMode::Quorum),
            }
        }
    }

    /// Brings the group's answers to whoever waits; whether there were any.
    pub(super) fn answer(&mut self) -> bool {
        let told = std::mem::take(&mut self.group.told);
        let any = !told.is_empty();
        for told in told {
            let (ticket, answer) = match told {
                Told::Done(ticket, _) => {
                    let mut reply = None;
                    for replica in &self.replicas {
                        // All of them answer the same.
                        reply = replica.lock().replies.remove(&ticket).or(reply);
                    }
                    (ticket, reply.ok_or(Error::Unreachable))
                }
                Told::Value(ticket, _) => (ticket, Ok(bytes::Bytes::new())),
                Told::Refused(ticket, leader) => {
                    (ticket, Err(Error::NotLeader { leader: leader.map(|id| id.0) }))
                }
            };
            self.wishes.lock().answer(ticket, answer);
        }
        any
    }
}
