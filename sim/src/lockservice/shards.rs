//! The shards behind home. Below each lies a simple stand-in for consensus, judged elsewhere as it is: every command
//! reaches the replicas of all coordinators at once and in one order. What servers see of its troubles is there: leaders
//! change, a deposed one goes on believing for a while, a proposal may be lost or its outcome unknown, nobody answers for a
//! frozen or dead coordinator.

use std::{sync::Arc, time::Duration};

use ::raft::Index;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use lockservice::{Error, Shard, Table, engine::Engine, message::Command};
use parking_lot::Mutex;
use tokio_stream::wrappers::WatchStream;
use world::{Time, World};

use super::{check::Judge, machine::Replica};
use crate::dice::Dice;

/// How long a deposed leader believes, at the most, in milliseconds.
const BELIEF: u64 = 1_500;
/// How long a majority takes to agree, at the most, in milliseconds.
const ROUND: u64 = 12;
/// How long nobody leads after a leader died or froze.
const ELECTION: Duration = Duration::from_millis(250);

/// What a coordinator is to a shard.
#[derive(Clone, Copy, Default)]
struct Seat {
    up: bool,
    frozen: bool,
    /// It was deposed and does not know it before this.
    until: Option<Time>,
}

/// One shard.
pub(super) struct Side {
    replicas: Vec<Arc<Mutex<Replica>>>,
    seats: Vec<Seat>,
    leader: usize,
    term: u64,
    index: Index,
    dice: Dice,
    trouble: bool,
    /// Since when its leader is dead or frozen.
    silent: Option<Time>,
}

impl Side {
    pub(super) fn new(
        shard: Shard,
        shards: u32,
        places: usize,
        judge: &Arc<Mutex<Judge>>,
        dice: Dice,
    ) -> Arc<Mutex<Self>> {
        let replicas = (0..places).map(|_| Replica::new(shard, shards, Arc::clone(judge)));
        let mut side = Self {
            replicas: replicas.collect(),
            seats: vec![Seat::default(); places],
            leader: 0,
            term: 1,
            index: Index::ZERO,
            dice,
            trouble: true,
            silent: None,
        };
        side.leader = side.dice.pick(places);
        Arc::new(Mutex::new(side))
    }

    pub(super) fn engine(side: &Arc<Mutex<Self>>, world: &World, place: usize) -> SideEngine {
        let replica = Arc::clone(&side.lock().replicas[place]);
        SideEngine { side: Arc::clone(side), world: world.clone(), place, replica }
    }

    /// The process of a coordinator ends, or begins with what the others have.
    pub(super) fn restart(&mut self, place: usize, up: bool) {
        self.seats[place] = Seat { up, ..Seat::default() };
        let mut replica = self.replicas[place].lock();
        replica.leading = None;
        if up {
            // Nobody listens any more; all else is as on its disk, and as everywhere.
            replica.table = Table::load(&replica.table.save()).expect("a table can be read again");
        }
    }

    pub(super) fn freeze(&mut self, place: usize, frozen: bool) {
        self.seats[place].frozen = frozen;
    }

    /// Another coordinator comes to lead; the one before does not know it at once.
    pub(super) fn elect(&mut self, place: usize, now: Time) {
        if place == self.leader || !self.seats[place].up || self.seats[place].frozen {
            return;
        }
        let belief = self.dice.millis(0, BELIEF);
        self.seats[self.leader].until = Some(now + belief);
        self.leader = place;
        self.term += 1;
        self.seats[place].until = None;
    }

    pub(super) fn heal(&mut self) {
        self.trouble = false;
    }

    /// Leaders that died or froze are replaced; whoever was deposed learns it at last.
    pub(super) fn follow(&mut self, now: Time) {
        let seat = self.seats[self.leader];
        if seat.up && !seat.frozen {
            self.silent = None;
        } else {
            let since = *self.silent.get_or_insert(now);
            let able = self.seats.iter().position(|seat| seat.up && !seat.frozen);
            if now.since(since) >= ELECTION
                && let Some(able) = able
            {
                self.silent = None;
                self.elect(able, now);
            }
        }
        for (place, seat) in self.seats.iter_mut().enumerate() {
            if seat.until.is_some_and(|until| until <= now) {
                seat.until = None;
            }
            let mut replica = self.replicas[place].lock();
            let leading = match seat {
                Seat { up: false, .. } => None,
                Seat { until: Some(_), .. } => replica.leading,
                Seat { .. } => (place == self.leader).then_some(self.term),
            };
            if replica.leading != leading {
                replica.leading = leading;
                replica.stir();
            }
        }
    }

    fn leads(&self, place: usize, term: u64) -> bool {
        self.leader == place && self.term == term
    }

    /// Every replica applies it.
    fn apply(&mut self, body: &[u8]) -> Bytes {
        self.index.0 += 1;
        let mut reply = Bytes::new();
        for replica in &self.replicas {
            let mut replica = replica.lock();
            reply = replica.run(self.index, body);
            replica.stir();
        }
        reply
    }
}

/// The engine of a shard's server at a place.
pub(super) struct SideEngine {
    side: Arc<Mutex<Side>>,
    world: World,
    place: usize,
    replica: Arc<Mutex<Replica>>,
}

impl SideEngine {
    /// Asks a majority; the term in which this place leads after it.
    async fn round(&self) -> Result<u64, Error> {
        let (term, way) = {
            let mut side = self.side.lock();
            let way = side.dice.millis(1, ROUND);
            (self.replica.lock().leading, way)
        };
        let term = term.ok_or_else(|| self.elsewhere())?;
        self.world.clock.sleep(way).await;
        Ok(term)
    }

    fn elsewhere(&self) -> Error {
        Error::NotLeader { leader: Some(self.side.lock().leader as u64 + 1) }
    }
}

#[async_trait]
impl Engine for SideEngine {
    async fn propose(&self, command: Command, _: Time) -> Result<Bytes, Error> {
        let body = command.encode();
        let term = self.round().await?;
        let mut side = self.side.lock();
        let leads = side.leads(self.place, term);
        // What a deposed leader proposed may have reached a majority all the same.
        let (lost, late) = (!leads && side.dice.chance(70), side.trouble && side.dice.chance(3));
        if lost {
            return Err(Error::Unreachable);
        }
        let reply = side.apply(&body);
        if leads && !late { Ok(reply) } else { Err(Error::Unreachable) }
    }

    async fn barrier(&self, _: Time) -> Result<(), Error> {
        let term = self.round().await?;
        let leads = self.side.lock().leads(self.place, term);
        if leads { Ok(()) } else { Err(self.elsewhere()) }
    }

    fn look(&self, look: &mut dyn FnMut(&mut Table)) {
        look(&mut self.replica.lock().table);
    }

    fn leading(&self) -> Option<u64> {
        self.replica.lock().leading
    }

    fn moves(&self) -> BoxStream<'static, ()> {
        WatchStream::from_changes(self.replica.lock().moved.subscribe()).map(|_| ()).boxed()
    }
}
