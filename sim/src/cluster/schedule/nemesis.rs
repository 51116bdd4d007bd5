//! The faults of a schedule, and their end.

use super::{LOCK_SERVICE, Later, Life, Schedule};
use crate::Error;
use crate::blockstore::faults::Fault as Trouble;
use crate::blockstore::net::{MAP, Place};
use crate::cluster::faults::Fault;

impl Schedule {
    /// Lets one fault loose, or ends those of the network.
    pub(super) fn strike(&mut self) {
        if self.strikes == 0 || self.faults.is_empty() {
            return;
        }
        self.strikes -= 1;
        if self.dice.chance(20) {
            self.servers.net.mend();
            self.say(|| "the network is mended".to_owned());
            return;
        }
        let fault = self.faults[self.dice.pick(self.faults.len())];
        if self.let_loose(fault) {
            let name = fault.name();
            self.say(|| name.to_owned());
            if !matches!(fault, Fault::Loss | Fault::Delay | Fault::Duplicate) {
                *self.struck.entry(name).or_default() += 1;
            }
        }
    }

    /// Whether there was something to strike at.
    fn let_loose(&mut self, fault: Fault) -> bool {
        let servers = self.servers.servers();
        let server = servers[self.dice.pick(servers.len())];
        match fault {
            Fault::ClientCrash | Fault::AllClientsCrash => {
                let victims = self.clients(fault == Fault::AllClientsCrash);
                self.end_clients(&victims)
            }
            Fault::ClientPause => self.pause_client(),
            Fault::ClientFromLocks => self.cut_client(LOCK_SERVICE),
            Fault::ClientFromServer => self.cut_client(server),
            Fault::ServerCrash | Fault::ServerPower if self.spares_one() => {
                let keeps = self.dice.between(0, 101);
                self.end_a_server(server, (fault == Fault::ServerPower).then_some(keeps))
            }
            Fault::ServerPause if self.spares_one() => {
                let long = self.dice.millis(50, 2800);
                self.servers.freeze(server);
                self.in_a_while(long, Later::ThawServer(server));
                true
            }
            Fault::ServerFromMap if self.spares_one() => {
                self.cut(server, MAP, Trouble::MapPartition)
            }
            Fault::ServerCrash | Fault::ServerPower | Fault::ServerPause | Fault::ServerFromMap => {
                false
            }
            Fault::AllServersPower | Fault::AllPower => {
                if fault == Fault::AllPower {
                    let all = self.clients(true);
                    self.end_clients(&all);
                    self.lead_locks();
                }
                for id in servers {
                    let keeps = self.dice.between(0, 101);
                    self.end_a_server(id, Some(keeps));
                }
                true
            }
            Fault::LockLeader => {
                self.lead_locks();
                true
            }
            Fault::Loss => self.trouble(|net, percent| net.lose(percent)),
            Fault::Delay => self.trouble(|net, percent| net.delay(percent)),
            Fault::Duplicate => self.trouble(|net, percent| net.repeat(percent)),
            Fault::Drift => false,
        }
    }

    fn trouble(&mut self, make: impl Fn(&crate::blockstore::net::Net, u64)) -> bool {
        make(&self.servers.net, self.dice.between(1, 16));
        true
    }

    /// One client, or all.
    fn clients(&mut self, all: bool) -> Vec<u64> {
        let mut clients: Vec<u64> = self.lives.iter().map(|(client, _)| *client).collect();
        if !all && !clients.is_empty() {
            clients = vec![clients[self.dice.pick(clients.len())]];
        }
        clients
    }

    fn end_clients(&mut self, clients: &[u64]) -> bool {
        for client in clients {
            let away = self.dice.millis(0, 3000);
            self.end_client(*client, away);
        }
        !clients.is_empty()
    }

    fn a_client(&mut self) -> Option<&Life> {
        let at = self.dice.pick(self.lives.len().max(1));
        self.lives.get(at)
    }

    fn pause_client(&mut self) -> bool {
        let Some(machine) = self.a_client().map(|(_, mount)| mount.machine) else { return false };
        // Half of them longer than a lease may last.
        let most = if self.dice.chance(50) { 6000 } else { 900 };
        let long = self.dice.millis(50, most);
        self.servers.executor.freeze(machine);
        self.in_a_while(long, Later::Thaw(machine));
        true
    }

    fn cut_client(&mut self, from: Place) -> bool {
        let Some(place) = self.a_client().map(|(_, mount)| mount.place) else { return false };
        self.cut(place, from, Trouble::Partition)
    }

    /// Cuts one way or both.
    fn cut(&mut self, one: Place, other: Place, fault: Trouble) -> bool {
        let links = [(one, other), (other, one)];
        match self.dice.between(0, 4) {
            0 => self.servers.net.cut(&links[..1], Trouble::OneWay),
            1 => self.servers.net.cut(&links[1..], Trouble::OneWay),
            _ => self.servers.net.cut(&links, fault),
        }
        true
    }

    /// Whether a server may be silent without being the only one that has the newest bytes.
    fn spares_one(&self) -> bool {
        self.down.is_empty() && self.servers.net.is_whole() && self.is_whole()
    }

    fn end_a_server(&mut self, id: Place, power: Option<u64>) -> bool {
        if self.down.contains(&id) {
            return false;
        }
        let soon = self.dice.chance(50);
        let away = if soon { self.dice.millis(5, 400) } else { self.dice.millis(400, 12_000) };
        self.end_server(id, power, away);
        true
    }

    /// Ends all faults, and demands that everything comes to rest.
    pub(super) fn heal(&mut self) -> Result<(), Error> {
        self.say(|| "all is healed".to_owned());
        self.servers.net.mend();
        for what in self.later.take() {
            self.do_now(what);
        }
        self.notes.lock().stop = true;
        self.until("all servers run, and all chains are whole", |schedule| {
            let servers = &schedule.servers;
            servers.servers().into_iter().all(|id| servers.is_running(id)) && schedule.is_whole()
        })?;
        self.until("every operation has ended", |schedule| schedule.notes.lock().is_idle())
    }
}
