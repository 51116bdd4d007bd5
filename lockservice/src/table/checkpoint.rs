//! The table as bytes, with a format version, and back.

use std::io::{self, Write};

use prost::Message;
use replica::Image as _;

use super::{Session, State, Table, advisory::Wait, chunks::Chunks, pieces::Hold, queue::Waiter};
use crate::{
    advisory::Patience,
    convert::{
        acquire_of, claim_of, claim_to, client_of, id_of, option_of, owner_of, owner_to, span_of,
    },
    message::{Ask, Seq, Ticket},
    name::{Grant, Mode, SessionId},
    proto,
    registry::convert::{changed_of, tree_of},
};

/// The bytes are no checkpoint of this format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint of the lock table cannot be read: {0}")]
pub struct Damaged(pub String);

const FORMAT: u32 = 3;

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
                State::Dead { recoverer: None } | State::Live => 0,
            },
            tree_seq: row.tree_seq.0,
            tree_last: row.tree_last.as_ref().map(Into::into),
        });
        let waiters = self.queue.iter().map(|(number, waiter)| proto::Waiter {
            number,
            session: waiter.session.0,
            acquire: match (&Ask::Acquire(waiter.ask)).into() {
                proto::Ask { ask: Some(proto::ask::Ask::Acquire(acquire)) } => Some(acquire),
                proto::Ask { .. } => None,
            },
        });
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
                (true, _) => State::Live,
                (false, 0) => State::Dead { recoverer: None },
                (false, by) => State::Dead { recoverer: Some(SessionId(by)) },
            };
            let client = client_of(option_of(row.client).map_err(odd)?).map_err(odd)?;
            let session = Session {
                client,
                seq: Seq(row.seq),
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
                [one] if one.mode == Mode::Exclusive => Hold::Exclusive(one.session, one.grant),
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
            let ask = acquire_of(option_of(waiter.acquire).map_err(odd)?).map_err(odd)?;
            let session = id_of(waiter.session).map_err(odd)?;
            if waiter.number >= saved.next_waiter || table.queue.get(waiter.number).is_some() {
                return Err(Damaged(format!("a waiter at the place {}", waiter.number)));
            }
            table.queue.insert(waiter.number, Waiter { session, ask });
        }
        table.load_claims((saved.claims, saved.claim_waits, saved.next_claim))?;
        table.check().map_err(|broken| Damaged(broken.to_string()))?;
        Ok(table)
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
