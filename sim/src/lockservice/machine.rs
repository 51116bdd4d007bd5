//! The lock table as a simulated group replicates it: the table's own decoding, applying, saving and loading, and a judge
//! who sees what a command changed.

use std::{collections::BTreeMap, sync::Arc};

use ::raft::{Entry, Index, Payload, Ticket};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use lockservice::{
    LockGroup, Name, SessionId, Shard, Table,
    message::{Acquire, Command, GroupCommand, GroupRow, Part},
};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::check::Judge;
use crate::raft::{Applied, StateMachine};

/// One replica of the lock table, shared by the member that drives it and the server that shows it.
pub(super) struct Replica {
    pub(super) table: Table,
    /// The term, if this replica leads and is ready.
    pub(super) leading: Option<u64>,
    /// What commands answered, until somebody takes it.
    pub(super) replies: BTreeMap<Ticket, Bytes>,
    /// Moves when something was applied or the role changed.
    pub(super) moved: watch::Sender<u64>,
    shard: Shard,
    shards: u32,
    index: Index,
    digest: u64,
    judge: Arc<Mutex<Judge>>,
}

type Waiters = Vec<(u64, SessionId, Acquire)>;

/// Replies that nobody took yet: whoever proposed may be gone.
const MOST_REPLIES: usize = 256;

impl Replica {
    /// A replica of one of so many shards.
    pub(super) fn new(shard: Shard, shards: u32, judge: Arc<Mutex<Judge>>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            table: founded(shard, shards),
            shard,
            shards,
            leading: None,
            replies: BTreeMap::new(),
            moved: watch::Sender::new(0),
            index: Index::ZERO,
            digest: 0,
            judge,
        }))
    }

    pub(super) fn stir(&self) {
        self.moved.send_modify(|moved| *moved += 1);
    }

    /// Applies a command, before the eyes of the judge.
    pub(super) fn run(&mut self, index: Index, body: &[u8]) -> Bytes {
        let before = self.sessions();
        let arriving = self.arriving(body);
        let reply = replica::StateMachine::apply(&mut self.table, index, body);
        let after = self.sessions();
        let mut judge = self.judge.lock();
        for (gone, lived) in before {
            if lived && !after.get(&gone).copied().unwrap_or_default() {
                judge.over(gone, after.contains_key(&gone));
            }
            if !after.contains_key(&gone) {
                judge.gone(self.shard, gone);
            }
        }
        if let Some((group, waiters)) = arriving
            && self.serves(group)
        {
            judge.arrived(&self.table, &waiters);
        }
        judge.sound(&self.table);
        reply
    }

    /// The group that a command may bring here, and who waits for locks of it. No group is large here: all of it
    /// comes at once.
    fn arriving(&self, body: &[u8]) -> Option<(LockGroup, Waiters)> {
        match Command::parse(body) {
            Some(Command::Group(GroupCommand::Adopt { group, part, .. }))
                if !self.serves(group) =>
            {
                Some((group, part.waiters))
            }
            _ => None,
        }
    }

    fn serves(&self, group: LockGroup) -> bool {
        self.table.loads().iter().any(|row| row.group == group)
    }

    /// The sessions, and whether each lives.
    fn sessions(&self) -> BTreeMap<SessionId, bool> {
        self.table.states().collect()
    }
}

/// The table of a shard in a cluster that has always had so many, over which the groups are spread.
pub(super) fn founded(shard: Shard, shards: u32) -> Table {
    let mut home = Table::new();
    let mut table = Table::of(shard);
    if shards == 1 {
        return home;
    }
    let tell = |table: &mut Table, command| drop(table.handle(Command::Group(command)));
    tell(&mut home, GroupCommand::Shards(shards));
    for GroupRow { group, moving, .. } in home.assignment().groups {
        let Some((to, by)) = moving else { continue };
        if to == shard {
            let part = Part { to: Name(u64::MAX), ..Part::nothing() };
            tell(&mut table, GroupCommand::Adopt { group, by, part });
        }
        tell(&mut home, GroupCommand::Freeze { group, by });
        tell(&mut home, GroupCommand::Forget { group, by });
        tell(&mut home, GroupCommand::Placed { group, by });
    }
    if shard == Shard::HOME { home } else { table }
}

/// A command with the ticket of its proposal in front, by which consensus tells proposals apart.
pub(super) fn command(ticket: Ticket, body: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(8 + body.len());
    bytes.put_u64_le(ticket.0);
    bytes.put_slice(body);
    bytes.freeze()
}

/// The machine of a member.
pub(super) struct Locks(pub(super) Arc<Mutex<Replica>>);

impl StateMachine for Locks {
    fn index(&self) -> Index {
        self.0.lock().index
    }

    fn digest(&self) -> u64 {
        self.0.lock().digest
    }

    fn apply(&mut self, entry: &Entry) -> Option<Applied> {
        let mut replica = self.0.lock();
        replica.index = entry.index;
        if let Payload::Command(bytes) = &entry.payload
            && bytes.len() > 8
        {
            let mut body = bytes.clone();
            let ticket = Ticket(body.get_u64_le());
            for byte in &body {
                let mixed = (replica.digest ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
                replica.digest = mixed.rotate_left(7);
            }
            let reply = replica.run(entry.index, &body);
            if replica.replies.len() >= MOST_REPLIES {
                replica.replies.pop_first();
            }
            replica.replies.insert(ticket, reply);
        }
        replica.stir();
        None
    }

    fn checkpoint(&self) -> Bytes {
        let replica = self.0.lock();
        let mut bytes = BytesMut::new();
        bytes.put_u64_le(replica.index.0);
        bytes.put_u64_le(replica.digest);
        bytes.put_slice(&replica.table.save());
        bytes.freeze()
    }

    fn restore(&mut self, from: Option<&[u8]>) -> bool {
        let mut replica = self.0.lock();
        let Some(mut bytes) = from else {
            let table = founded(replica.shard, replica.shards);
            (replica.table, replica.index, replica.digest) = (table, Index::ZERO, 0);
            return true;
        };
        if bytes.len() < 16 {
            return false;
        }
        let (index, digest) = (Index(bytes.get_u64_le()), bytes.get_u64_le());
        let Ok(table) = Table::load(bytes) else { return false };
        (replica.table, replica.index, replica.digest) = (table, index, digest);
        replica.stir();
        true
    }
}
