//! The checkpoint of the volume map: all of its state in one message.

use bytes::Bytes;

use super::{
    Malformed, Result, from_bits, from_space, from_standing, from_uuid, optional_address, space,
    standing, unversioned, uuid, versioned,
};
use crate::{
    disk::Fence,
    map::machine::{Map, Row, Seat, Server},
    pb,
    place::{ChainVersion, Incarnation, ServerId, Volume},
};

pub(crate) fn encode_map(map: &Map) -> Bytes {
    let server = |(id, x): (&ServerId, &Server)| pb::Server {
        server: id.0,
        address: x.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        incarnation: x.incarnation.0,
        up: x.up,
        directory: uuid(x.directory),
        start: uuid(x.start),
        space: space(x.space),
        weight: x.weight,
        domain: x.domain.clone(),
        draining: x.draining,
    };
    let seat = |x: &Seat| pb::Seat {
        server: x.server.0,
        standing: standing(x.standing),
        leaving: x.leaving,
    };
    let row = |x: &Row| pb::Row {
        version: x.version.0,
        chain: x.chain.iter().map(seat).collect(),
        spare: x.spare.iter().map(|id| id.0).collect(),
        former: x.former.iter().map(|id| id.0).collect(),
        changed: x.changed,
        equal: x.equal,
        clean: x.clean.iter().map(|id| id.0).collect(),
        intact: x.intact.0,
    };
    let volume = |(id, name): (&Volume, &String)| pb::Volume { volume: id.0, name: name.clone() };
    let grant = |(session, bytes): (&Fence, &u64)| pb::Held { session: session.0, bytes: *bytes };
    versioned(&pb::Checkpoint {
        cluster: map.cluster.and_then(uuid),
        bits: u32::from(map.bits),
        replication: u32::from(map.replication),
        version: map.version,
        servers: map.servers.iter().map(server).collect(),
        rows: map.rows.iter().map(row).collect(),
        fenced: map.fenced.iter().map(|session| session.0).collect(),
        volumes: map.volumes.iter().map(volume).collect(),
        grants: map.grants.iter().map(grant).collect(),
    })
}

pub(crate) fn decode_map(bytes: &[u8]) -> Result<Map> {
    let x: pb::Checkpoint = unversioned(bytes)?;
    let server = |x: pb::Server| {
        Ok((
            ServerId(x.server),
            Server {
                address: optional_address(&x.address)?,
                incarnation: Incarnation(x.incarnation),
                up: x.up,
                directory: from_uuid(x.directory),
                start: from_uuid(x.start),
                space: from_space(x.space),
                weight: x.weight,
                domain: x.domain,
                draining: x.draining,
            },
        ))
    };
    let seat = |x: pb::Seat| {
        let standing = from_standing(x.standing())?;
        Ok(Seat { server: ServerId(x.server), standing, leaving: x.leaving })
    };
    let row = |x: pb::Row| {
        Ok(Row {
            version: ChainVersion(x.version),
            chain: x.chain.into_iter().map(seat).collect::<Result<_>>()?,
            spare: x.spare.into_iter().map(ServerId).collect(),
            former: x.former.into_iter().map(ServerId).collect(),
            changed: x.changed,
            equal: x.equal,
            clean: x.clean.into_iter().map(ServerId).collect(),
            intact: ChainVersion(x.intact),
        })
    };
    let bits = from_bits(x.bits)?;
    let cluster = x.cluster.map(|id| from_uuid(Some(id)));
    if cluster.is_some() && x.rows.len() != bits.groups() as usize {
        return Err(Malformed(format!("{} rows for 2^{} groups", x.rows.len(), bits.0)));
    }
    Ok(Map {
        cluster,
        bits: bits.0,
        replication: u8::try_from(x.replication).map_err(|e| Malformed(e.to_string()))?,
        version: x.version,
        servers: x.servers.into_iter().map(server).collect::<Result<_>>()?,
        rows: x.rows.into_iter().map(row).collect::<Result<_>>()?,
        fenced: x.fenced.into_iter().map(Fence).collect(),
        volumes: x.volumes.into_iter().map(|x| (Volume(x.volume), x.name)).collect(),
        grants: x.grants.into_iter().map(|x| (Fence(x.session), x.bytes)).collect(),
    })
}
