//! The header sector of a log slot: whose log it is, and where its oldest needed record begins.

use blockstore::{PAGE, SECTOR};
use crc_fast::{CrcAlgorithm::Crc32Iscsi, checksum};
use lockservice::SessionId;

use super::{
    Damaged,
    bytes::{get_u32, get_u64, put_u32, put_u64},
    geometry::LOG_SLOT,
    record::Lsn,
};

const MAGIC: u32 = 0x504c_4c48;
const LENGTH: usize = 40;

/// The header of a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogHeader {
    /// The session whose log it is; 0 for none.
    pub session: SessionId,
    /// Bytes of the ring of records that begins one page after the header.
    pub ring: u64,
    /// Where replay begins.
    pub tail: Lsn,
}

impl LogHeader {
    /// Its sector.
    #[must_use]
    pub fn encode(&self) -> [u8; SECTOR as usize] {
        let mut sector = [0; SECTOR as usize];
        put_u32(&mut sector, 0, MAGIC);
        put_u64(&mut sector, 8, self.session.0);
        put_u64(&mut sector, 16, self.ring);
        put_u64(&mut sector, 24, self.tail.0);
        let crc = checksum(Crc32Iscsi, &sector[8..LENGTH]) as u32;
        put_u32(&mut sector, 4, crc);
        sector
    }

    /// The header in `sector`; `None` if the slot was never used.
    ///
    /// # Errors
    /// If there is something else.
    pub fn decode(sector: &[u8]) -> Result<Option<Self>, Damaged> {
        if sector.len() < LENGTH {
            return Err(Damaged("log header: too short"));
        }
        if get_u32(sector, 0) == 0 {
            return Ok(None);
        }
        if get_u32(sector, 0) != MAGIC
            || get_u32(sector, 4) != checksum(Crc32Iscsi, &sector[8..LENGTH]) as u32
        {
            return Err(Damaged("log header: wrong magic number or checksum"));
        }
        let header = Self {
            session: SessionId(get_u64(sector, 8)),
            ring: get_u64(sector, 16),
            tail: Lsn(get_u64(sector, 24)),
        };
        let sane = header.ring >= SECTOR
            && header.ring.is_multiple_of(SECTOR)
            && header.ring <= LOG_SLOT - PAGE;
        if sane { Ok(Some(header)) } else { Err(Damaged("log header: impossible ring")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_every_flipped_byte_is_noticed() {
        let header = LogHeader { session: SessionId(4), ring: 8192, tail: Lsn(77) };
        let sector = header.encode();
        assert_eq!(LogHeader::decode(&sector), Ok(Some(header)));
        assert_eq!(LogHeader::decode(&[0; 512]), Ok(None));
        for at in 0..LENGTH {
            let mut bad = sector;
            bad[at] ^= 2;
            assert!(LogHeader::decode(&bad).is_err(), "byte {at}");
        }
        assert!(LogHeader::decode(&sector[..8]).is_err());
    }
}
