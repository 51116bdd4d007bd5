//! The volume map's bytes: its commands, outcomes and checkpoint, and the questions and answers of
//! its service. What is decoded is checked: numbers in range, addresses readable, sizes bounded by
//! the input. What it means is the machine's business.

mod checkpoint;

use std::time::Duration;

use bytes::Bytes;
use prost::Message;

use super::{
    api::{Change, Chart, MapError, ServerInfo, ServerState},
    machine::Command,
};
use crate::{
    disk::{Fence, Space, SpaceAsk},
    link::{Chain, Granted, Heartbeat, Known, Member, News, Past, Registration, Standing},
    pb,
    place::{ChainVersion, Group, GroupBits, Incarnation, ServerId},
};

/// The version of the checkpoint's and the commands' format, their first byte.
const FORMAT: u8 = 3;

/// Bytes that are no message, or not one that this version understands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the volume map cannot read this: {0}")]
pub(crate) struct Malformed(pub(crate) String);

impl Malformed {
    fn missing(what: &str) -> Self {
        Self(format!("{what} is missing"))
    }
}

impl From<prost::DecodeError> for Malformed {
    fn from(error: prost::DecodeError) -> Self {
        Self(error.to_string())
    }
}

pub(crate) use checkpoint::{decode_map, encode_map};

type Result<T> = std::result::Result<T, Malformed>;

fn versioned(message: &impl Message) -> Bytes {
    let mut bytes = Vec::with_capacity(1 + message.encoded_len());
    bytes.push(FORMAT);
    message.encode(&mut bytes).expect("a vector grows");
    bytes.into()
}

fn unversioned<M: Message + Default>(bytes: &[u8]) -> Result<M> {
    match bytes.split_first() {
        Some((&FORMAT, rest)) => Ok(M::decode(rest)?),
        Some((other, _)) => Err(Malformed(format!("format version {other}, this is {FORMAT}"))),
        None => Err(Malformed::missing("the format version")),
    }
}

fn uuid(x: u128) -> Option<pb::Uuid> {
    Some(pb::Uuid { high: (x >> 64) as u64, low: x as u64 })
}

fn from_uuid(x: Option<pb::Uuid>) -> u128 {
    x.map_or(0, |x| u128::from(x.high) << 64 | u128::from(x.low))
}

fn space(space: Space) -> Option<pb::Bytes> {
    Some(pb::Bytes { total: space.total, free: space.free })
}

fn from_space(space: Option<pb::Bytes>) -> Space {
    space.map_or(Space::default(), |x| Space { total: x.total, free: x.free })
}

fn known(known: Known) -> Option<pb::Known> {
    Some(pb::Known { map: known.map, fences: known.fences })
}

fn from_known(known: Option<pb::Known>) -> Known {
    known.map_or(Known::default(), |x| Known { map: x.map, fences: x.fences })
}

fn from_address(text: &str) -> Result<world::Address> {
    text.parse().map_err(|error: world::AddressError| Malformed(error.to_string()))
}

fn from_bits(bits: u32) -> Result<GroupBits> {
    match u8::try_from(bits) {
        Ok(bits) if bits <= 24 => Ok(GroupBits(bits)),
        _ => Err(Malformed(format!("2^{bits} groups are too many"))),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn versions(groups: &[(Group, ChainVersion)]) -> Vec<pb::GroupVersion> {
    groups.iter().map(|(g, v)| pb::GroupVersion { group: g.0, version: v.0 }).collect()
}

fn from_versions(groups: &[pb::GroupVersion]) -> Vec<(Group, ChainVersion)> {
    groups.iter().map(|row| (Group(row.group), ChainVersion(row.version))).collect()
}

pub(crate) fn registration(x: &Registration) -> pb::Registration {
    pb::Registration {
        server: x.server.0,
        directory: uuid(x.directory),
        start: uuid(x.start),
        address: x.address.to_string(),
        past: match x.past {
            Past::Clean => pb::registration::Past::Clean,
            Past::Unbroken => pb::registration::Past::Unbroken,
            Past::Lost => pb::registration::Past::Lost,
            Past::Nothing => pb::registration::Past::Nothing,
        }
        .into(),
        space: space(x.space),
    }
}

pub(crate) fn from_registration(x: &pb::Registration) -> Result<Registration> {
    Ok(Registration {
        server: ServerId(x.server),
        directory: from_uuid(x.directory),
        start: from_uuid(x.start),
        address: from_address(&x.address)?,
        past: match x.past() {
            pb::registration::Past::Clean => Past::Clean,
            pb::registration::Past::Unbroken => Past::Unbroken,
            pb::registration::Past::Lost => Past::Lost,
            pb::registration::Past::Nothing => Past::Nothing,
            pb::registration::Past::Unknown => return Err(Malformed::missing("what a server has")),
        },
        space: from_space(x.space),
    })
}

pub(crate) fn heartbeat(x: &Heartbeat) -> pb::Heartbeat {
    pb::Heartbeat {
        server: x.server.0,
        incarnation: x.incarnation.0,
        known: known(x.known),
        space: space(x.space),
        dirty: x.dirty_bytes,
        equal: versions(&x.equal),
        confirmed: x.confirmed,
        ready: joined(&x.ready),
        owed: x.owed.iter().map(|(id, bytes)| pb::Owed { server: id.0, bytes: *bytes }).collect(),
    }
}

fn joined(groups: &[(Group, ChainVersion, ServerId)]) -> Vec<pb::Joined> {
    let joined = |(g, v, s): &(Group, ChainVersion, ServerId)| pb::Joined {
        group: g.0,
        version: v.0,
        server: s.0,
    };
    groups.iter().map(joined).collect()
}

fn from_joined(groups: &[pb::Joined]) -> Vec<(Group, ChainVersion, ServerId)> {
    let joined = |x: &pb::Joined| (Group(x.group), ChainVersion(x.version), ServerId(x.server));
    groups.iter().map(joined).collect()
}

pub(crate) fn from_heartbeat(x: &pb::Heartbeat) -> Heartbeat {
    Heartbeat {
        server: ServerId(x.server),
        incarnation: Incarnation(x.incarnation),
        known: from_known(x.known),
        space: from_space(x.space),
        dirty_bytes: x.dirty,
        equal: from_versions(&x.equal),
        confirmed: x.confirmed,
        ready: from_joined(&x.ready),
        owed: x.owed.iter().map(|owed| (ServerId(owed.server), owed.bytes)).collect(),
    }
}

fn standing(x: Standing) -> i32 {
    match x {
        Standing::Serving => pb::Standing::Serving,
        Standing::Stale => pb::Standing::Stale,
        Standing::Syncing => pb::Standing::Syncing,
        Standing::Leaving => pb::Standing::Leaving,
    }
    .into()
}

fn from_standing(x: pb::Standing) -> Result<Standing> {
    Ok(match x {
        pb::Standing::Serving => Standing::Serving,
        pb::Standing::Stale => Standing::Stale,
        pb::Standing::Syncing => Standing::Syncing,
        pb::Standing::Leaving => Standing::Leaving,
        pb::Standing::Unknown => return Err(Malformed::missing("what a member has")),
    })
}

fn member(x: &Member) -> pb::Member {
    pb::Member {
        server: x.server.0,
        incarnation: x.incarnation.0,
        address: x.address.to_string(),
        standing: standing(x.standing),
    }
}

fn from_member(x: &pb::Member) -> Result<Member> {
    let standing = from_standing(x.standing())?;
    Ok(Member {
        server: ServerId(x.server),
        incarnation: Incarnation(x.incarnation),
        address: from_address(&x.address)?,
        standing,
    })
}

fn chain(x: &Chain) -> pb::Chain {
    pb::Chain {
        group: x.group.0,
        version: x.version.0,
        members: x.members.iter().map(member).collect(),
        equal: x.equal,
        intact: x.intact.0,
        joiner: x.joiner.as_ref().map(member),
        spare: x.spare.iter().map(|id| id.0).collect(),
    }
}

fn from_chain(x: pb::Chain) -> Result<Chain> {
    Ok(Chain {
        group: Group(x.group),
        version: ChainVersion(x.version),
        members: x.members.iter().map(from_member).collect::<Result<_>>()?,
        equal: x.equal,
        intact: ChainVersion(x.intact),
        joiner: x.joiner.as_ref().map(from_member).transpose()?,
        spare: x.spare.into_iter().map(ServerId).collect(),
    })
}

fn from_chains(chains: Vec<pb::Chain>) -> Result<Vec<Chain>> {
    chains.into_iter().map(from_chain).collect()
}

pub(crate) fn news(x: &News) -> pb::News {
    pb::News {
        known: known(x.known),
        bits: u32::from(x.bits.0),
        chains: x.chains.iter().map(chain).collect(),
        fenced: x.fenced.iter().map(|session| session.0).collect(),
    }
}

pub(crate) fn from_news(x: pb::News) -> Result<News> {
    Ok(News {
        known: from_known(x.known),
        bits: from_bits(x.bits)?,
        chains: from_chains(x.chains)?,
        fenced: x.fenced.into_iter().map(Fence).collect(),
    })
}

pub(crate) fn granted(x: &Granted) -> pb::Granted {
    pb::Granted { lease: nanos(x.lease), news: Some(news(&x.news)), rate: x.rate }
}

pub(crate) fn from_granted(x: pb::Granted) -> Result<Granted> {
    let news = x.news.ok_or_else(|| Malformed::missing("the news of a lease"))?;
    Ok(Granted { lease: Duration::from_nanos(x.lease), news: from_news(news)?, rate: x.rate })
}

pub(crate) fn chart(x: &Chart) -> pb::Chart {
    pb::Chart {
        version: x.version,
        bits: u32::from(x.bits.0),
        replication: u32::from(x.replication),
        chains: x.chains.iter().map(chain).collect(),
        absent: x.absent.iter().map(|id| id.0).collect(),
    }
}

pub(crate) fn from_chart(x: pb::Chart) -> Result<Chart> {
    let chains = from_chains(x.chains)?;
    if !chains.is_sorted_by(|a, b| a.group < b.group) {
        return Err(Malformed("the chains of the chart are not in order".to_owned()));
    }
    Ok(Chart {
        version: x.version,
        bits: from_bits(x.bits)?,
        replication: u8::try_from(x.replication).map_err(|e| Malformed(e.to_string()))?,
        chains,
        absent: x.absent.into_iter().map(ServerId).collect(),
    })
}

pub(crate) fn server_info(x: &ServerInfo) -> pb::ServerInfo {
    let state = match x.state {
        ServerState::Expected => pb::server_info::State::Expected,
        ServerState::Up => pb::server_info::State::Up,
        ServerState::Equalizing => pb::server_info::State::Equalizing,
        ServerState::Down => pb::server_info::State::Down,
        ServerState::Suspect => pb::server_info::State::Suspect,
        ServerState::Draining => pb::server_info::State::Draining,
    };
    pb::ServerInfo {
        server: x.server.0,
        address: x.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        incarnation: x.incarnation.0,
        state: state.into(),
        lease_left: nanos(x.lease_left),
        space: space(x.space),
        dirty: x.dirty_bytes,
        groups: x.groups,
        unequal: x.unequal,
        missing: x.missing,
        owed: x.owed,
        pace: x.pace,
        weight: x.weight,
        domain: x.domain.clone(),
    }
}

pub(crate) fn from_server_info(x: &pb::ServerInfo) -> Result<ServerInfo> {
    Ok(ServerInfo {
        server: ServerId(x.server),
        address: optional_address(&x.address)?,
        incarnation: Incarnation(x.incarnation),
        state: match x.state() {
            pb::server_info::State::Expected => ServerState::Expected,
            pb::server_info::State::Up => ServerState::Up,
            pb::server_info::State::Equalizing => ServerState::Equalizing,
            pb::server_info::State::Down => ServerState::Down,
            pb::server_info::State::Suspect => ServerState::Suspect,
            pb::server_info::State::Draining => ServerState::Draining,
            pb::server_info::State::Unknown => {
                return Err(Malformed("a server is in no known state".to_owned()));
            }
        },
        lease_left: Duration::from_nanos(x.lease_left),
        space: from_space(x.space),
        dirty_bytes: x.dirty,
        groups: x.groups,
        unequal: x.unequal,
        missing: x.missing,
        owed: x.owed,
        pace: x.pace,
        weight: x.weight,
        domain: x.domain.clone(),
    })
}

fn optional_address(text: &str) -> Result<Option<world::Address>> {
    if text.is_empty() { Ok(None) } else { from_address(text).map(Some) }
}

pub(crate) fn failure(error: &MapError) -> pb::Failure {
    use pb::failure::Kind;
    let (kind, node, text) = match error {
        MapError::NotLeader { leader } => (Kind::NotLeader, leader.unwrap_or(0), String::new()),
        MapError::Deadline => (Kind::Deadline, 0, String::new()),
        MapError::NotFormatted => (Kind::NotFormatted, 0, String::new()),
        MapError::Superseded(server) => (Kind::Superseded, server.0, String::new()),
        MapError::Refused(text) => (Kind::Refused, 0, text.clone()),
        MapError::Stopped(text) => (Kind::Stopped, 0, text.clone()),
        MapError::NotYet(text) => (Kind::NotYet, 0, text.clone()),
        MapError::Expired(server) => (Kind::Expired, server.0, String::new()),
    };
    pb::Failure { kind: kind.into(), node, text }
}

pub(crate) fn from_failure(x: pb::Failure) -> MapError {
    use pb::failure::Kind;
    match x.kind() {
        Kind::NotLeader => MapError::NotLeader { leader: (x.node != 0).then_some(x.node) },
        Kind::Deadline => MapError::Deadline,
        Kind::NotFormatted => MapError::NotFormatted,
        Kind::Superseded => MapError::Superseded(ServerId(x.node)),
        Kind::Refused => MapError::Refused(x.text),
        Kind::Stopped => MapError::Stopped(x.text),
        Kind::NotYet => MapError::NotYet(x.text),
        Kind::Expired => MapError::Expired(ServerId(x.node)),
        Kind::Unknown => MapError::Stopped("an answer of a later version".to_owned()),
    }
}

pub(crate) fn change(x: &Change) -> pb::Change {
    use pb::change::What;
    let what = match x {
        Change::Add { server, weight, domain } => {
            What::Add(pb::Add { server: server.0, weight: *weight, domain: domain.clone() })
        }
        Change::Drain(server) => What::Drain(server.0),
        Change::Remove(server) => What::Remove(server.0),
    };
    pb::Change { what: Some(what) }
}

pub(crate) fn from_change(x: pb::Change) -> Result<Change> {
    use pb::change::What;
    Ok(match x.what.ok_or_else(|| Malformed::missing("the change"))? {
        What::Add(x) => {
            Change::Add { server: ServerId(x.server), weight: x.weight, domain: x.domain }
        }
        What::Drain(server) => Change::Drain(ServerId(server)),
        What::Remove(server) => Change::Remove(ServerId(server)),
    })
}

fn start_of(server: ServerId, incarnation: Incarnation) -> pb::Expire {
    pb::Expire { server: server.0, incarnation: incarnation.0 }
}

fn from_start(x: pb::Expire) -> (ServerId, Incarnation) {
    (ServerId(x.server), Incarnation(x.incarnation))
}

pub(crate) fn encode_command(command: &Command) -> Bytes {
    use pb::command::What;
    let what = match command {
        Command::Format { cluster, servers, replication, bits } => What::Format(pb::Format {
            cluster: uuid(*cluster),
            servers: servers.iter().map(|id| id.0).collect(),
            replication: u32::from(*replication),
            bits: u32::from(bits.0),
        }),
        Command::Register(x) => What::Register(registration(x)),
        Command::Equal { server, incarnation, groups } => What::Equal(pb::Equal {
            server: server.0,
            incarnation: incarnation.0,
            groups: versions(groups),
        }),
        Command::Ready { server, incarnation, groups } => What::Ready(pb::Ready {
            server: server.0,
            incarnation: incarnation.0,
            groups: joined(groups),
        }),
        Command::Expire { server, incarnation } => What::Expire(start_of(*server, *incarnation)),
        Command::Forsake { server, incarnation } => What::Forsake(start_of(*server, *incarnation)),
        Command::Replace { server, incarnation } => What::Replace(start_of(*server, *incarnation)),
        Command::Change(x) => What::Change(change(x)),
        Command::Fence(session) => What::Fence(session.0),
        Command::Grant { session, ask, room } => What::Grant(pb::Grant {
            session: session.0,
            holds: ask.holds,
            least: ask.least,
            most: ask.most,
            room: *room,
        }),
    };
    versioned(&pb::Command { what: Some(what) })
}

pub(crate) fn decode_command(bytes: &[u8]) -> Result<Command> {
    use pb::command::What;
    let command: pb::Command = unversioned(bytes)?;
    Ok(match command.what.ok_or_else(|| Malformed::missing("the command"))? {
        What::Format(x) => Command::Format {
            cluster: from_uuid(x.cluster),
            servers: x.servers.into_iter().map(ServerId).collect(),
            replication: u8::try_from(x.replication).map_err(|e| Malformed(e.to_string()))?,
            bits: from_bits(x.bits)?,
        },
        What::Register(x) => Command::Register(from_registration(&x)?),
        What::Equal(x) => Command::Equal {
            server: ServerId(x.server),
            incarnation: Incarnation(x.incarnation),
            groups: from_versions(&x.groups),
        },
        What::Ready(x) => Command::Ready {
            server: ServerId(x.server),
            incarnation: Incarnation(x.incarnation),
            groups: from_joined(&x.groups),
        },
        What::Expire(x) => {
            let (server, incarnation) = from_start(x);
            Command::Expire { server, incarnation }
        }
        What::Forsake(x) => {
            let (server, incarnation) = from_start(x);
            Command::Forsake { server, incarnation }
        }
        What::Replace(x) => {
            let (server, incarnation) = from_start(x);
            Command::Replace { server, incarnation }
        }
        What::Change(x) => Command::Change(from_change(x)?),
        What::Fence(session) => Command::Fence(Fence(session)),
        What::Grant(x) => Command::Grant {
            session: Fence(x.session),
            ask: SpaceAsk { spent: 0, holds: x.holds, least: x.least, most: x.most },
            room: x.room,
        },
    })
}

pub(crate) fn encode_outcome(outcome: &std::result::Result<u64, MapError>) -> Bytes {
    use pb::outcome::What;
    let what = match outcome {
        Ok(number) => What::Number(*number),
        Err(error) => What::Failure(failure(error)),
    };
    pb::Outcome { what: Some(what) }.encode_to_vec().into()
}

pub(crate) fn decode_outcome(bytes: &[u8]) -> Result<std::result::Result<u64, MapError>> {
    use pb::outcome::What;
    match pb::Outcome::decode(bytes)?.what {
        Some(What::Number(number)) => Ok(Ok(number)),
        Some(What::Failure(x)) => Ok(Err(from_failure(x))),
        None => Err(Malformed::missing("the outcome")),
    }
}
