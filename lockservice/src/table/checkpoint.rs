//! The table as bytes, with a format version, and back.

use std::io::{self, Write};

use prost::Message;
use replica::Image as _;

use super::{
    Session, State, Table,
    advisory::Wait,
    chunks::Chunks,
    directory::Place,
    pieces::Hold,
    queue::Waiter,
    slots::{Slot, Standing},
};
use crate::{
    advisory::Patience,
    convert::{
        claim_of, claim_to, client_of,
        groups::{assignment_of, at_of, at_to, waiter_of, waiter_to},
        id_of, option_of, owner_of, owner_to, span_of,
    },
    group::{LockGroup, Shard},
    message::{GroupRow, Seq, Ticket},
    name::{Grant, Mode, Name, SessionId},
    proto,
    registry::convert::{changed_of, tree_of},
};

/// The bytes are no checkpoint of this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint of the lock table cannot be read: {0}")]
pub struct Damaged(pub String);

const FORMAT: u32 = 4;

/// A table at one moment.
pub(crate) struct Frozen {
    /// All but the pieces, as a message.
    rest: Vec<u8>,
    pieces: Chunks,
}

impl replica::Image for Frozen {
    fn write(self: Box<Self>, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.rest)?;
        for chunk in self.pieces.chunks() {
            let pieces = chunk.iter().map(|piece| proto::Piece {
                span: Some(proto::Span { start: piece.start.0, end: piece.end.0 }),
                owners: piece.hold.owners().into_iter().map(owner_to).collect(),
            });
            // Messages written one behind the other are read as one.
            let part = proto::Checkpoint { pieces: pieces.collect(), ..Default::default() };
            out.write_all(&part.encode_to_vec())?;
        }
        Ok(())
    }
}

impl Table {
    /// The replicated state as bytes.
    #[must_use]
    pub fn save(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let written = Box::new(self.freeze()).write(&mut bytes);
        written.expect("a vector takes what it is given");
        bytes
    }

    /// The replicated state as it is now, to be written down later. The pieces, of which there may be
    /// many millions, are shared with the table; all else is encoded at once.
    #[must_use]
    pub(crate) fn freeze(&self) -> Frozen {
        let sessions = self.sessions.iter().map(|(session, row)| proto::SessionState {
            session: session.0,
            client: Some((&row.client).into()),
            seq: row.seq.0,
            newest: row.newest.0,
            live: row.state == State::Live,
            recoverer: match row.state {
                State::Dead { recoverer: Some(by) } => by.0,
                State::Dead { recoverer: None } | State::Live | State::Over => 0,
            },
            tree_seq: row.tree_seq.0,
            tree_last: row.tree_last.as_ref().map(Into::into),
            refused: row.refused.map(|(group, by)| at_to(group, by)),
            over: row.state == State::Over,
        });
        let waiters =
            self.queue.iter().map(|(place, waiter)| waiter_to(place, waiter.session, &waiter.ask));
        let claims = self.advisory.held().map(|(session, claim)| proto::ClaimRow {
            session: session.0,
            claim: Some(claim_to(Ticket(0), &claim, Patience::Try)),
            waits: false,
        });
        let claim_waits = self.advisory.waits().map(|(number, wait)| proto::ClaimWait {
            number,
            session: wait.session.0,
            claim: Some(claim_to(wait.ticket, &wait.claim, Patience::Wait)),
        });
        let rest = proto::Checkpoint {
            format: FORMAT,
            next_session: self.next_session,
            newest: self.newest.0,
            next_waiter: self.queue.next(),
            sessions: sessions.collect(),
            pieces: Vec::new(),
            waiters: waiters.collect(),
            tree: Some((&self.tree).into()),
            claims: claims.collect(),
            claim_waits: claim_waits.collect(),
            next_claim: self.advisory.next(),
            shard: self.shard().0,
            slots: self.slots.moved.iter().map(|(group, slot)| slot_to(*group, slot)).collect(),
            directory: Some((&self.assignment()).into()),
        };
        Frozen { rest: rest.encode_to_vec(), pieces: self.pieces.freeze() }
    }

    /// A table from the bytes of [`Table::save`].
    ///
    /// # Errors
    /// If they are not, or if what they say breaks a rule of the table.
    pub fn load(bytes: &[u8]) -> Result<Self, Damaged> {
        let saved = proto::Checkpoint::decode(bytes).map_err(|e| Damaged(e.to_string()))?;
        if saved.format != FORMAT {
            return Err(Damaged(format!("format {}, this program reads {FORMAT}", saved.format)));
        }
        let mut table = Self {
            next_session: saved.next_session,
            newest: Grant(saved.newest),
            tree: option_of(saved.tree).and_then(tree_of).map_err(|e| Damaged(e.to_string()))?,
            ..Self::default()
        };
        table.queue.set_next(saved.next_waiter);
        let odd = |e: crate::convert::Odd| Damaged(e.to_string());
        for row in saved.sessions {
            let state = match (row.live, row.recoverer) {
                _ if row.over => State::Over,
                (true, _) => State::Live,
                (false, 0) => State::Dead { recoverer: None },
                (false, by) => State::Dead { recoverer: Some(SessionId(by)) },
            };
            let client = client_of(option_of(row.client).map_err(odd)?).map_err(odd)?;
            let session = Session {
                client,
                seq: Seq(row.seq),
                refused: row.refused.map(|at| at_of(Some(at))).transpose().map_err(odd)?,
                newest: Grant(row.newest),
                state,
                tree_seq: Seq(row.tree_seq),
                tree_last: row.tree_last.map(changed_of).transpose().map_err(odd)?,
            };
            table.sessions.insert(id_of(row.session).map_err(odd)?, session);
        }
        for piece in saved.pieces {
            let span = span_of(piece.span).map_err(odd)?;
            let owners = piece
                .owners
                .into_iter()
                .map(owner_of)
                .collect::<Result<Vec<_>, _>>()
                .map_err(odd)?;
            let hold = match owners.as_slice() {
                [one] => Hold::only(*one),
                many if many.iter().all(|owner| owner.mode == Mode::Shared) => {
                    Hold::shared(many.iter().map(|owner| (owner.session, owner.grant)))
                }
                _ => return Err(Damaged(format!("conflicting owners of {span:?}"))),
            };
            if !table.pieces.insert_raw(span, hold) {
                return Err(Damaged(format!("{span:?} is there twice")));
            }
        }
        for waiter in saved.waiters {
            let (place, session, ask) = waiter_of(waiter).map_err(odd)?;
            if place >= saved.next_waiter || table.queue.get(place).is_some() {
                return Err(Damaged(format!("a waiter at the place {place}")));
            }
            table.queue.insert(place, Waiter { session, ask });
        }
        table.load_groups((saved.shard, saved.slots, saved.directory)).map_err(odd)?;
        table.load_claims((saved.claims, saved.claim_waits, saved.next_claim))?;
        table.check_saved().map_err(|broken| Damaged(broken.to_string()))?;
        Ok(table)
    }

    fn load_groups(
        &mut self,
        (shard, slots, directory): (u32, Vec<proto::Slot>, Option<proto::Assignment>),
    ) -> Result<(), crate::convert::Odd> {
        self.slots.shard = Shard(shard);
        for slot in slots {
            let (group, slot) = slot_of(slot)?;
            self.slots.moved.insert(group, slot);
        }
        let assignment = assignment_of(option_of(directory)?)?;
        self.directory.shards = assignment.shards;
        self.directory.newest = assignment.newest;
        for GroupRow { group, shard, by, moving } in assignment.groups {
            let place = Place { shard, by, moving };
            if place != Place::default() {
                self.directory.places.insert(group, place);
            }
        }
        Ok(())
    }

    fn load_claims(
        &mut self,
        (claims, waits, next): (Vec<proto::ClaimRow>, Vec<proto::ClaimWait>, u64),
    ) -> Result<(), Damaged> {
        let odd = |e: crate::convert::Odd| Damaged(e.to_string());
        for row in claims {
            let (_, claim, _) = claim_of(option_of(row.claim).map_err(odd)?).map_err(odd)?;
            if !self.advisory.restore(id_of(row.session).map_err(odd)?, claim) {
                return Err(Damaged(format!("{claim:?} conflicts with another")));
            }
        }
        for wait in waits {
            let (ticket, claim, _) = claim_of(option_of(wait.claim).map_err(odd)?).map_err(odd)?;
            let session = id_of(wait.session).map_err(odd)?;
            if wait.number >= next {
                return Err(Damaged(format!("a claim at the place {}", wait.number)));
            }
            self.advisory.insert(wait.number, Wait { session, ticket, claim });
        }
        self.advisory.set_next(next);
        Ok(())
    }
}

fn slot_to(group: LockGroup, slot: &Slot) -> proto::Slot {
    use proto::SlotStanding as P;
    let mut saved = proto::Slot { group: Some(at_to(group, slot.by)), ..Default::default() };
    let standing = match &slot.standing {
        Standing::Away => P::Away,
        Standing::Here => P::Here,
        Standing::Frozen => P::Frozen,
        Standing::Arriving { next, waiters } => {
            saved.next = next.0;
            let waiter =
                |(place, waiter): (&u64, &Waiter)| waiter_to(*place, waiter.session, &waiter.ask);
            saved.waiters = waiters.iter().map(waiter).collect();
            P::Arriving
        }
    };
    saved.set_standing(standing);
    saved
}

fn slot_of(saved: proto::Slot) -> Result<(LockGroup, Slot), crate::convert::Odd> {
    use proto::SlotStanding as P;
    let standing = saved.standing();
    let (group, by) = at_of(saved.group)?;
    let standing = match standing {
        P::Away => Standing::Away,
        P::Here => Standing::Here,
        P::Frozen => Standing::Frozen,
        P::Arriving => {
            let waiter = |waiter| {
                let (place, session, ask) = waiter_of(waiter)?;
                Ok((place, Waiter { session, ask }))
            };
            let waiters = saved.waiters.into_iter().map(waiter).collect::<Result<_, _>>()?;
            Standing::Arriving { next: Name(saved.next), waiters }
        }
    };
    Ok((group, Slot { by, standing }))
}
