//! Between the generated messages and ours. What came from outside is checked here: no empty span,
//! no unknown mode, no text without end.

mod claims;
pub(crate) mod groups;

use std::time::Duration;

use prost::Message;

use crate::{
    locks::Held,
    message::{
        Acquire, Ask, Client, Command, Event, Kind, LockRow, LockRows, Owner, Reply, Seq,
        SessionRow, Ticket, WaiterRow,
    },
    name::{Grant, Mode, Name, SessionId, Span},
    proto,
    registry::convert::{changed_of, ops_of},
};

pub(crate) use claims::{claim_of, claim_to};
use claims::{claim_row_of, claim_row_to, claimed_of, claimed_to};

/// A message that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of the lock service makes no sense: {0}")]
pub(crate) struct Odd(pub(crate) &'static str);

pub(crate) type Read<T> = Result<T, Odd>;

pub(crate) fn option_of<T>(option: Option<T>) -> Read<T> {
    option.ok_or(Odd("a part is missing"))
}

pub(crate) fn id_of(id: u64) -> Read<SessionId> {
    if id == 0 { Err(Odd("session 0")) } else { Ok(SessionId(id)) }
}

fn mode_of(mode: i32) -> Read<Option<Mode>> {
    match proto::Mode::try_from(mode) {
        Ok(proto::Mode::None) => Ok(None),
        Ok(proto::Mode::Shared) => Ok(Some(Mode::Shared)),
        Ok(proto::Mode::Exclusive) => Ok(Some(Mode::Exclusive)),
        Err(_) => Err(Odd("an unknown mode")),
    }
}

fn some_mode_of(mode: i32) -> Read<Mode> {
    mode_of(mode)?.ok_or(Odd("no mode"))
}

fn mode_to(mode: Option<Mode>) -> i32 {
    match mode {
        None => proto::Mode::None as i32,
        Some(Mode::Shared) => proto::Mode::Shared as i32,
        Some(Mode::Exclusive) => proto::Mode::Exclusive as i32,
    }
}

impl From<Span> for proto::Span {
    fn from(span: Span) -> Self {
        Self { start: span.start().0, end: span.end().0 }
    }
}

pub(crate) fn span_of(span: Option<proto::Span>) -> Read<Span> {
    let span = option_of(span)?;
    Span::new(Name(span.start), Name(span.end)).ok_or(Odd("an empty span"))
}

pub(crate) fn held_to(held: &Held) -> proto::Held {
    proto::Held {
        start: held.span.start().0,
        end: held.span.end().0,
        mode: mode_to(Some(held.mode)),
        grant: held.grant.0,
    }
}

fn held_of(held: &proto::Held) -> Read<Held> {
    Ok(Held {
        span: Span::new(Name(held.start), Name(held.end)).ok_or(Odd("an empty span"))?,
        mode: some_mode_of(held.mode)?,
        grant: Grant(held.grant),
    })
}

pub(crate) fn helds_of(held: &[proto::Held]) -> Read<Vec<Held>> {
    held.iter().map(held_of).collect()
}

pub(crate) fn owner_to(owner: Owner) -> proto::Owner {
    proto::Owner { session: owner.session.0, mode: mode_to(Some(owner.mode)), grant: owner.grant.0 }
}

pub(crate) fn owner_of(owner: proto::Owner) -> Read<Owner> {
    Ok(Owner {
        session: id_of(owner.session)?,
        mode: some_mode_of(owner.mode)?,
        grant: Grant(owner.grant),
    })
}

impl From<&Client> for proto::Client {
    fn from(client: &Client) -> Self {
        Self {
            owner: client.owner.clone(),
            host: client.host.clone(),
            kind: match client.kind {
                Kind::Mount => proto::Kind::Mount,
                Kind::Worker => proto::Kind::Worker,
                Kind::Tool => proto::Kind::Tool,
            } as i32,
            able: client.able,
            nonce: client.nonce,
        }
    }
}

pub(crate) fn client_of(client: proto::Client) -> Read<Client> {
    if client.owner.len() > Client::MAX_TEXT || client.host.len() > Client::MAX_TEXT {
        return Err(Odd("the name of a client is too long"));
    }
    let kind = match proto::Kind::try_from(client.kind) {
        Ok(proto::Kind::Mount) => Kind::Mount,
        Ok(proto::Kind::Worker) => Kind::Worker,
        Ok(proto::Kind::Tool) => Kind::Tool,
        Ok(proto::Kind::Unknown) | Err(_) => return Err(Odd("an unknown kind of client")),
    };
    Ok(Client {
        owner: client.owner,
        host: client.host,
        kind,
        able: client.able,
        nonce: client.nonce,
    })
}

pub(crate) fn acquire_of(acquire: proto::Acquire) -> Read<Acquire> {
    let need = span_of(acquire.need)?;
    let wish = span_of(acquire.wish)?;
    if !wish.covers(need) {
        return Err(Odd("a wish that does not cover the need"));
    }
    Ok(Acquire {
        ticket: Ticket(acquire.ticket),
        need,
        wish,
        mode: some_mode_of(acquire.mode)?,
        wait: acquire.wait,
    })
}

/// Each name less the one before it. Any names can be told so; small numbers, which take little room, come of names
/// that are in order and near each other.
fn steps_to(names: &[Name]) -> Vec<u64> {
    let before = std::iter::once(0).chain(names.iter().map(|name| name.0));
    names.iter().zip(before).map(|(name, before)| name.0.wrapping_sub(before)).collect()
}

fn steps_of(steps: &[u64]) -> Vec<Name> {
    let add = |name: &mut u64, step: &u64| {
        *name = name.wrapping_add(*step);
        Some(Name(*name))
    };
    steps.iter().scan(0, add).collect()
}

impl From<&Ask> for proto::Ask {
    fn from(ask: &Ask) -> Self {
        use proto::ask::Ask as P;
        Self {
            ask: Some(match ask {
                Ask::Acquire(acquire) => P::Acquire(proto::Acquire {
                    ticket: acquire.ticket.0,
                    need: Some(acquire.need.into()),
                    wish: Some(acquire.wish.into()),
                    mode: mode_to(Some(acquire.mode)),
                    wait: acquire.wait,
                }),
                Ask::Hint { ticket, names, mode } => P::Hint(proto::Hint {
                    ticket: ticket.0,
                    steps: steps_to(names),
                    mode: mode_to(Some(*mode)),
                }),
                Ask::Cancel(ticket) => P::Cancel(ticket.0),
                Ask::Release(held) => P::Release(held_to(held)),
                Ask::Downgrade(held) => P::Downgrade(held_to(held)),
                Ask::Able => P::Able(proto::Done {}),
                Ask::Seen(grant) => P::Seen(grant.0),
                Ask::At(group, by) => P::At(groups::at_to(*group, *by)),
                Ask::Claim { ticket, claim, patience } => {
                    P::Claim(claim_to(*ticket, claim, *patience))
                }
            }),
        }
    }
}

fn ask_of(ask: proto::Ask) -> Read<Ask> {
    use proto::ask::Ask as P;
    Ok(match option_of(ask.ask)? {
        P::Acquire(acquire) => Ask::Acquire(acquire_of(acquire)?),
        P::Hint(hint) => Ask::Hint {
            ticket: Ticket(hint.ticket),
            names: steps_of(&hint.steps),
            mode: some_mode_of(hint.mode)?,
        },
        P::Cancel(ticket) => Ask::Cancel(Ticket(ticket)),
        P::Release(held) => Ask::Release(held_of(&held)?),
        P::Downgrade(held) => Ask::Downgrade(held_of(&held)?),
        P::Able(_) => Ask::Able,
        P::Seen(grant) => Ask::Seen(Grant(grant)),
        P::At(at) => {
            let (group, by) = groups::at_of(Some(at))?;
            Ask::At(group, by)
        }
        P::Claim(claim) => {
            let (ticket, claim, patience) = claim_of(claim)?;
            Ask::Claim { ticket, claim, patience }
        }
    })
}

pub(crate) fn asks_of(asks: Vec<proto::Ask>) -> Read<Vec<Ask>> {
    asks.into_iter().map(ask_of).collect()
}

impl From<&Event> for proto::Event {
    fn from(event: &Event) -> Self {
        use proto::event::Event as P;
        let all = |held: &[Held]| held.iter().map(held_to).collect();
        Self {
            event: Some(match event {
                Event::Snapshot { seq, newest, view, held, waiting } => {
                    P::Snapshot(proto::Snapshot {
                        seq: seq.0,
                        newest: newest.0,
                        view: view.as_ref().map(groups::view_to),
                        held: all(held),
                        waiting: waiting.iter().map(|ticket| ticket.0).collect(),
                    })
                }
                Event::Adopted { group, by, held, waiting } => P::Adopted(proto::Adopted {
                    group: Some(groups::at_to(*group, *by)),
                    held: all(held),
                    waiting: waiting.iter().map(|ticket| ticket.0).collect(),
                }),
                Event::Shards(shards) => P::Shards(*shards),
                Event::Granted { ticket, held } => {
                    P::Granted(proto::Granted { ticket: ticket.0, held: all(held) })
                }
                Event::Refused(ticket) => P::Refused(ticket.0),
                Event::Full(ticket) => P::Full(ticket.0),
                Event::Revoke { span, keep } => {
                    P::Revoke(proto::Revoke { span: Some((*span).into()), keep: mode_to(*keep) })
                }
                Event::Recover { dead, held } => {
                    P::Recover(proto::Recover { dead: dead.0, held: all(held) })
                }
                Event::Claimed(ticket, claimed) => P::Claimed(claimed_to(*ticket, claimed)),
                Event::Report => P::Report(proto::Done {}),
                Event::Ended => P::Ended(proto::Done {}),
            }),
        }
    }
}

pub(crate) fn event_of(event: proto::Event) -> Read<Event> {
    use proto::event::Event as P;
    Ok(match option_of(event.event)? {
        P::Snapshot(snapshot) => Event::Snapshot {
            seq: Seq(snapshot.seq),
            newest: Grant(snapshot.newest),
            view: snapshot.view.map(groups::view_of).transpose()?,
            held: helds_of(&snapshot.held)?,
            waiting: snapshot.waiting.into_iter().map(Ticket).collect(),
        },
        P::Adopted(adopted) => {
            let (group, by) = groups::at_of(adopted.group)?;
            Event::Adopted {
                group,
                by,
                held: helds_of(&adopted.held)?,
                waiting: adopted.waiting.into_iter().map(Ticket).collect(),
            }
        }
        P::Shards(shards) => Event::Shards(shards),
        P::Granted(granted) => {
            Event::Granted { ticket: Ticket(granted.ticket), held: helds_of(&granted.held)? }
        }
        P::Refused(ticket) => Event::Refused(Ticket(ticket)),
        P::Full(ticket) => Event::Full(Ticket(ticket)),
        P::Revoke(revoke) => {
            Event::Revoke { span: span_of(revoke.span)?, keep: mode_of(revoke.keep)? }
        }
        P::Recover(recover) => {
            Event::Recover { dead: id_of(recover.dead)?, held: helds_of(&recover.held)? }
        }
        P::Claimed(claimed) => {
            let (ticket, claimed) = claimed_of(&claimed)?;
            Event::Claimed(ticket, claimed)
        }
        P::Report(_) => Event::Report,
        P::Ended(_) => Event::Ended,
    })
}

impl Command {
    /// The command as bytes of the replicated log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        use proto::command::Command as P;
        let command = match self {
            Self::Open { client, replace } => {
                P::Open(proto::Open { client: Some(client.into()), replace: *replace })
            }
            Self::Batch { session, seq, asks } => P::Batch(proto::Batch {
                session: session.0,
                seq: seq.0,
                asks: asks.iter().map(Into::into).collect(),
                shard: 0,
            }),
            Self::Expire(session) => P::Expire(session.0),
            Self::Recovered { dead, by, seen } => {
                P::Recovered(proto::Recovered { dead: dead.0, by: by.0, seen: seen.0 })
            }
            Self::Group(command) => P::Group(command.into()),
            Self::Close(session) => P::Close(session.0),
            Self::Tree { session, seq, ops } => P::Tree(proto::ChangeTree {
                session: session.0,
                seq: seq.0,
                ops: ops.iter().map(Into::into).collect(),
            }),
        };
        proto::Command { command: Some(command) }.encode_to_vec()
    }

    /// What an entry of the log says, for those who watch a table; nothing if it makes no sense.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        Self::decode(bytes).ok()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Read<Self> {
        use proto::command::Command as P;
        let command =
            proto::Command::decode(bytes).map_err(|_| Odd("not a message of this protocol"))?;
        Ok(match option_of(command.command)? {
            P::Open(open) => {
                Self::Open { client: client_of(option_of(open.client)?)?, replace: open.replace }
            }
            P::Batch(batch) => Self::Batch {
                session: id_of(batch.session)?,
                seq: Seq(batch.seq),
                asks: asks_of(batch.asks)?,
            },
            P::Expire(session) => Self::Expire(id_of(session)?),
            P::Recovered(recovered) => Self::Recovered {
                dead: id_of(recovered.dead)?,
                by: id_of(recovered.by)?,
                seen: Grant(recovered.seen),
            },
            P::Group(command) => Self::Group(groups::command_of(command)?),
            P::Close(session) => Self::Close(id_of(session)?),
            P::Tree(change) => Self::Tree {
                session: id_of(change.session)?,
                seq: Seq(change.seq),
                ops: ops_of(change.ops)?,
            },
        })
    }
}

impl Reply {
    pub(crate) fn encode(self) -> Vec<u8> {
        use proto::reply::Reply as P;
        let reply = match self {
            Self::Opened(session) => P::Opened(session.0),
            Self::Done => P::Done(proto::Done {}),
            Self::Expired => P::Expired(proto::Done {}),
            Self::Refused => P::Refused(proto::Done {}),
            Self::Malformed => P::Malformed(proto::Done {}),
            Self::Tree(changed) => P::Tree((&changed).into()),
            Self::Moved { group, by } => P::Moved(groups::at_to(group, by)),
            Self::Unmet => P::Unmet(proto::Done {}),
            Self::Group(reply) => P::Group(reply.into()),
        };
        proto::Reply { reply: Some(reply) }.encode_to_vec()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Read<Self> {
        use proto::reply::Reply as P;
        let reply = proto::Reply::decode(bytes).map_err(|_| Odd("not a reply"))?;
        Ok(match option_of(reply.reply)? {
            P::Opened(session) => Self::Opened(id_of(session)?),
            P::Done(_) => Self::Done,
            P::Expired(_) => Self::Expired,
            P::Refused(_) => Self::Refused,
            P::Malformed(_) => Self::Malformed,
            P::Tree(changed) => Self::Tree(changed_of(changed)?),
            P::Moved(at) => {
                let (group, by) = groups::at_of(Some(at))?;
                Self::Moved { group, by }
            }
            P::Unmet(_) => Self::Unmet,
            P::Group(reply) => Self::Group(groups::reply_of(reply)?),
        })
    }
}

pub(crate) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl From<&SessionRow> for proto::SessionRow {
    fn from(row: &SessionRow) -> Self {
        Self {
            session: row.session.0,
            client: Some((&row.client).into()),
            live: row.live,
            recoverer: row.recoverer.map_or(0, |by| by.0),
            lease_left_ms: millis(row.lease_left),
            report: row.report.clone(),
            spans: row.spans,
            names: row.names,
            waiting: row.waiting,
            flushing: row.flushing,
        }
    }
}

pub(crate) fn session_row_of(row: proto::SessionRow) -> Read<SessionRow> {
    Ok(SessionRow {
        session: id_of(row.session)?,
        client: client_of(option_of(row.client)?)?,
        live: row.live,
        recoverer: (row.recoverer != 0).then_some(SessionId(row.recoverer)),
        lease_left: Duration::from_millis(row.lease_left_ms),
        report: row.report,
        spans: row.spans,
        names: row.names,
        waiting: row.waiting,
        flushing: row.flushing,
    })
}

impl From<&LockRows> for proto::LockRows {
    fn from(rows: &LockRows) -> Self {
        let locks = rows.locks.iter().map(|row| proto::LockRow {
            span: Some(row.span.into()),
            owners: row.owners.iter().copied().map(owner_to).collect(),
            held_ms: row.held.map(millis),
        });
        let waiters = rows.waiters.iter().map(|row| proto::WaiterRow {
            session: row.session.0,
            need: Some(row.need.into()),
            mode: mode_to(Some(row.mode)),
            r#for: row.on.iter().map(|on| on.0).collect(),
            waited_ms: millis(row.waited),
        });
        let claims = rows.claims.iter().map(claim_row_to).collect();
        Self { locks: locks.collect(), waiters: waiters.collect(), cut: rows.cut, claims }
    }
}

pub(crate) fn lock_rows_of(rows: proto::LockRows) -> Read<LockRows> {
    let lock = |row: proto::LockRow| {
        Ok(LockRow {
            span: span_of(row.span)?,
            owners: row.owners.into_iter().map(owner_of).collect::<Read<_>>()?,
            held: row.held_ms.map(Duration::from_millis),
        })
    };
    let waiter = |row: proto::WaiterRow| {
        Ok(WaiterRow {
            session: id_of(row.session)?,
            need: span_of(row.need)?,
            mode: some_mode_of(row.mode)?,
            on: row.r#for.into_iter().map(SessionId).collect(),
            waited: Duration::from_millis(row.waited_ms),
        })
    };
    Ok(LockRows {
        locks: rows.locks.into_iter().map(lock).collect::<Read<_>>()?,
        waiters: rows.waiters.into_iter().map(waiter).collect::<Read<_>>()?,
        claims: rows.claims.into_iter().map(claim_row_of).collect::<Read<_>>()?,
        cut: rows.cut,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{steps_of, steps_to};
    use crate::name::Name;

    proptest! {
        #[test]
        fn steps_tell_any_names_in_any_order(names in prop::collection::vec(any::<u64>().prop_map(Name), 0..50)) {
            prop_assert_eq!(steps_of(&steps_to(&names)), names);
        }
    }

    #[test]
    fn neighbours_cost_a_byte_each() {
        let names: Vec<Name> = (0..1000).map(|index| Name::new(9, 4, index)).collect();
        assert!(steps_to(&names)[1..].iter().all(|step| *step == 1));
    }
}
