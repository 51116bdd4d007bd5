//! What goes wrong, and when it may: where not everybody may lose power, what was acknowledged must stay on some server.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use ::blockstore::{
    Fence, VirtualDisk,
    map::{Change, MapService},
    place::ServerId,
};

use super::{Later, Schedule, now};
use crate::{
    blockstore::{
        cluster::LEASE,
        faults::Fault,
        net::{MAP, Place, between},
    },
    disk::Mishap,
};

/// How long an operator waits for the map.
const ORDER: Duration = Duration::from_secs(60);

impl Schedule {
    /// Something goes wrong, or a session is fenced, or the network is mended.
    pub(super) fn strike(&mut self) {
        match self.dice.between(0, 10) {
            0 | 1 => {
                if !self.cluster.net.is_whole() {
                    self.disturbed = self.now();
                }
                self.cluster.net.mend();
                self.say(|| "the network is mended".to_owned());
            }
            2 => self.fence(),
            _ if self.faults.is_empty() => {}
            _ => {
                let fault = self.faults[self.dice.pick(self.faults.len())];
                let victim = self.pick_server();
                if self.strikes == 0 || (fault.is_risky() && !self.lossy && !self.is_calm()) {
                    return;
                }
                self.strikes -= 1;
                self.say(|| format!("{} strikes, server {victim} first", fault.name()));
                self.strike_with(fault, victim);
            }
        }
    }

    fn pick_server(&mut self) -> Place {
        let servers: Vec<Place> =
            self.cluster.servers().into_iter().filter(|id| !self.removed.contains(id)).collect();
        servers[self.dice.pick(servers.len())]
    }

    /// Whether every chain is whole and nobody is about to fail or to be cut off: then one server may, or two of three.
    fn is_calm(&self) -> bool {
        let armed = self.cluster.disks().any(|(_, disk)| disk.is_armed());
        self.later.is_empty()
            && self.stopping.is_empty()
            && self.now() >= self.disturbed + LEASE * 2
            && !armed
            && self.cluster.net.is_whole()
            && self.all_run()
            && self.is_whole()
    }

    pub(super) fn strike_with(&mut self, fault: Fault, victim: Place) {
        match fault {
            Fault::Loss => self.cluster.net.lose(self.dice.between(1, 20)),
            Fault::Delay => self.cluster.net.delay(self.dice.between(1, 20)),
            Fault::Duplicate => self.cluster.net.repeat(self.dice.between(5, 40)),
            Fault::Partition | Fault::OneWay | Fault::MapPartition => self.part(fault, victim),
            Fault::NewLeader => {
                self.cluster.map.forget_leases();
                self.cluster.struck().add(fault);
            }
            Fault::Crash => self.strike_down(fault, &[victim], None),
            Fault::DoubleCrash => {
                let other = self.pick_server();
                let most = if self.copies > 2 { 2 } else { 1 };
                let both: BTreeSet<Place> = [victim, other].into();
                let both: Vec<Place> = both.into_iter().take(most).collect();
                self.strike_down(fault, &both, None);
            }
            Fault::PowerLoss => {
                let keeps = self.dice.between(0, 101);
                self.strike_down(fault, &[victim], Some(keeps));
            }
            Fault::PowerLossOfAll => {
                let keeps = self.dice.between(0, 101);
                let all = self.cluster.servers();
                self.strike_down(fault, &all, Some(keeps));
            }
            Fault::CleanStop => {
                if self.cluster.stop(victim) {
                    self.stopping.insert(victim);
                    self.cluster.struck().add(fault);
                }
            }
            Fault::Pause => {
                self.cluster.struck().add(fault);
                self.cluster.freeze(victim);
                let time = self.dice.millis(50, 2800);
                self.in_a_while(time, Later::Thaw(victim));
            }
            Fault::SlowDisk => {
                let slow = [0, 10, 200][self.dice.pick(3)];
                self.cluster.slow_down(victim, slow);
            }
            Fault::Operator => self.operate(),
            _ => self.spoil_disk(fault, victim),
        }
    }

    fn part(&mut self, fault: Fault, victim: Place) {
        let other = self.pick_server();
        let links = match fault {
            Fault::OneWay => vec![(victim, other)],
            Fault::MapPartition => between(victim, &[MAP]),
            _ if self.dice.chance(30) => {
                // A client and a server do not hear each other either.
                let session = self.sessions.first().map_or(0, |session| 1000 + session.number);
                between(victim, &[other, session])
            }
            _ => between(victim, &[other]),
        };
        self.cluster.net.cut(&links, fault);
    }

    fn spoil_disk(&mut self, fault: Fault, victim: Place) {
        let more = self.dice.between(0, 12);
        let Some(disk) = self.cluster.disk(victim) else { return };
        match fault {
            Fault::PowerCut => disk.cut_after(more),
            Fault::FailedSync => disk.arrange(Mishap::FailedSync),
            Fault::Misdirected => disk.arrange(Mishap::Misdirected),
            Fault::BitRot => {
                // One disk only: what rots on all of them is lost, and nobody can do anything about it.
                let first = self.cluster.servers()[0];
                let rotten =
                    self.cluster.disk(first).map(|disk| disk.rot(Path::new("/data/extents")));
                if let Some(Some((_, byte))) = rotten {
                    self.cluster.struck().add(fault);
                    self.say(|| format!("a bit of byte {byte} flips on server {first}"));
                }
            }
            _ => {
                disk.resize(0);
                self.cluster.struck().add(fault);
                let time = self.dice.millis(200, 3000);
                self.in_a_while(time, Later::Refill(victim));
            }
        }
    }

    /// Counts what went wrong with disks.
    pub(super) fn count_mishaps(&mut self) {
        for (_, disk) in self.cluster.disks() {
            for mishap in disk.struck() {
                self.cluster.struck().add(match mishap {
                    Mishap::FailedSync => Fault::FailedSync,
                    Mishap::Misdirected => Fault::Misdirected,
                });
            }
        }
    }

    fn strike_down(&mut self, fault: Fault, victims: &[Place], power: Option<u64>) {
        let alive: Vec<Place> =
            victims.iter().copied().filter(|id| self.cluster.is_running(*id)).collect();
        if !alive.is_empty() {
            self.cluster.struck().add(fault);
        }
        for id in alive {
            self.down(id, power);
        }
    }

    /// A server is gone, and starts again later.
    pub(super) fn down(&mut self, id: Place, power: Option<u64>) {
        self.say(|| format!("server {id} dies"));
        self.stopping.remove(&id);
        self.disturbed = self.now();
        self.cluster.kill(id, power);
        let soon = self.dice.chance(50);
        let away = if soon { self.dice.millis(5, 400) } else { self.dice.millis(400, 12_000) };
        self.later.retain(|what| *what != Later::Start(id) && *what != Later::Thaw(id));
        self.in_a_while(away, Later::Start(id));
    }

    /// Another session has one of them fenced; a new one comes in its place.
    fn fence(&mut self) {
        if self.sessions.len() < 2 || self.sessions.len() > 6 {
            return;
        }
        let session = self.sessions.remove(self.dice.pick(self.sessions.len()));
        let number = session.number;
        let Some(other) = self.sessions.iter().find_map(|other| other.disk.lock().clone()) else {
            self.sessions.push(session);
            return;
        };
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
        shared.lock().busy += 1;
        self.cluster.bystander().spawn("fence", async move {
            while let Err(error) = other.fence(Fence(number)).await {
                let told = || format!("session {number} is not fenced: {error}");
                shared.lock().say(now(&*clock), told);
            }
            let mut shared = shared.lock();
            shared.report.count("sessions fenced", 1);
            shared.history.fenced(number, now(&*clock));
            shared.say(now(&*clock), || format!("session {number} is fenced"));
            shared.busy -= 1;
            // Its disk lived until now.
            drop(session);
        });
        self.join();
    }

    /// An operator lets a server in, drains one, or takes a drained one out.
    fn operate(&mut self) {
        let servers = self.cluster.servers();
        let left = servers.len() - self.removed.len();
        let change = if left as u64 <= self.copies || self.dice.chance(40) {
            let Some(id) = servers.last().map(|last| last + 1).filter(|id| *id < 9) else { return };
            self.cluster.install(id);
            self.in_a_while(Duration::from_millis(1), Later::Start(id));
            Change::Add { server: ServerId(id), weight: 100, domain: String::new() }
        } else {
            let id = self.pick_server();
            if self.leaving.contains(&id) {
                Change::Remove(ServerId(id))
            } else if left as u64 - self.leaving.len() as u64 > self.copies {
                self.leaving.insert(id);
                Change::Drain(ServerId(id))
            } else {
                return;
            }
        };
        self.cluster.struck().add(Fault::Operator);
        self.order(change);
    }

    fn order(&mut self, change: Change) {
        let (world, map) = (self.cluster.bystander(), Arc::clone(&self.cluster.map));
        let (shared, clock) = (Arc::clone(&self.shared), Arc::clone(&self.clock));
        let told = Arc::clone(&self.taken_out);
        let deadline = world.clock.now() + ORDER;
        world.spawn("operator", async move {
            let done = map.change(change.clone(), deadline).await;
            if let (Ok(()), Change::Remove(ServerId(id))) = (&done, &change) {
                told.lock().push(*id);
            }
            shared.lock().say(now(&*clock), || format!("{change:?}: {done:?}"));
        });
    }

    /// Servers that the map does not know any more are switched off.
    pub(super) fn switch_off(&mut self) {
        let out = std::mem::take(&mut *self.taken_out.lock());
        for id in out {
            self.cluster.kill(id, None);
            self.later.retain(|what| *what != Later::Start(id));
            self.removed.push(id);
        }
    }
}
