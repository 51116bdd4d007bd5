//! The kinds of faults of a schedule of a whole cluster. Those of the network and of single disks count when they did
//! something; the others when they are let loose.

use super::Scope;
use crate::dice::Dice;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A client is killed.
    ClientCrash,
    /// All clients are killed at once.
    AllClientsCrash,
    /// A client does nothing for a while, perhaps for longer than its lease.
    ClientPause,
    /// A client and the lock service do not hear each other, or one does not hear the other.
    ClientFromLocks,
    /// A client and a block server do not.
    ClientFromServer,
    /// A block server's process dies.
    ServerCrash,
    /// A block server loses power.
    ServerPower,
    /// A block server does nothing for a while.
    ServerPause,
    /// A block server and the volume map do not hear each other.
    ServerFromMap,
    /// All block servers lose power.
    AllServersPower,
    /// Everything loses power.
    AllPower,
    /// The lock service has another leader, which knows no leases.
    LockLeader,
    /// Messages are lost.
    Loss,
    /// Messages are late.
    Delay,
    /// Messages arrive twice.
    Duplicate,
    /// The clocks run at different speeds. Counts once a schedule.
    Drift,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 16] = [
        Self::ClientCrash,
        Self::AllClientsCrash,
        Self::ClientPause,
        Self::ClientFromLocks,
        Self::ClientFromServer,
        Self::ServerCrash,
        Self::ServerPower,
        Self::ServerPause,
        Self::ServerFromMap,
        Self::AllServersPower,
        Self::AllPower,
        Self::LockLeader,
        Self::Loss,
        Self::Delay,
        Self::Duplicate,
        Self::Drift,
    ];

    /// Whether schedules of this scope may have it.
    pub(super) fn is_of(self, scope: Scope) -> bool {
        let of_servers = [
            Self::ClientFromServer,
            Self::ServerCrash,
            Self::ServerPower,
            Self::ServerPause,
            Self::ServerFromMap,
        ];
        scope == Scope::Cluster || !of_servers.contains(&self)
    }

    /// What it is called.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ClientCrash => "client crash",
            Self::AllClientsCrash => "crash of all clients",
            Self::ClientPause => "client pause",
            Self::ClientFromLocks => "client cut off from the locks",
            Self::ClientFromServer => "client cut off from a server",
            Self::ServerCrash => "server crash",
            Self::ServerPower => "server power loss",
            Self::ServerPause => "server pause",
            Self::ServerFromMap => "server cut off from the map",
            Self::AllServersPower => "power loss of all servers",
            Self::AllPower => "power loss of everything",
            Self::LockLeader => "new leader of the locks",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::Duplicate => "duplicate",
            Self::Drift => "clock drift",
        }
    }
}

/// The kinds that a schedule has: about half of them, and three at least.
pub(super) fn choose(dice: &mut Dice, scope: Scope) -> Vec<Fault> {
    let strikes = Fault::ALL.into_iter().filter(|f| *f != Fault::Drift && f.is_of(scope));
    let mut chosen: Vec<Fault> = strikes.filter(|_| dice.chance(45)).collect();
    for fault in [Fault::ClientCrash, Fault::ServerCrash, Fault::ClientPause, Fault::LockLeader] {
        if chosen.len() < 5 && !chosen.contains(&fault) && fault.is_of(scope) {
            chosen.push(fault);
        }
    }
    chosen
}
