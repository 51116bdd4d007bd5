//! The superblock: says that a volume is formatted, in which version, and under which hash key.
//!
//! It is written once, by `mkfs`, as the last thing; nobody changes it while the volume lives.

use blockstore::PAGE;
use crc_fast::{CrcAlgorithm::Crc32Iscsi, checksum};

use super::{
    Damaged,
    bytes::{get_i64, get_u32, get_u64, get_u128, put_i64, put_u32, put_u64, put_u128},
    geometry::LOG_SLOTS,
    hash::HashKey,
    inode::Stamp,
};

const MAGIC: u64 = u64::from_le_bytes(*b"PLUMERIA");
/// The format version that this code reads and writes.
pub const FORMAT: u32 = 1;

const VERSION: usize = 8;
const SLOTS: usize = 12;
const VOLUME: usize = 16;
const KEY: usize = 32;
const BIRTH: usize = 48;
const CRC: usize = 508;

/// The parameters of a volume.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// The format version.
    pub format: u32,
    /// The identity of the volume: a random number.
    pub volume: u128,
    /// How many log slots there are.
    pub log_slots: u32,
    /// The key of the name hash.
    pub hash_key: HashKey,
    /// When it was formatted.
    pub birth: Stamp,
}

impl Superblock {
    /// Its page.
    #[must_use]
    pub fn encode(&self) -> [u8; PAGE as usize] {
        let mut page = [0; PAGE as usize];
        put_u64(&mut page, 0, MAGIC);
        put_u32(&mut page, VERSION, self.format);
        put_u32(&mut page, SLOTS, self.log_slots);
        put_u128(&mut page, VOLUME, self.volume);
        put_u64(&mut page, KEY, self.hash_key.0[0]);
        put_u64(&mut page, KEY + 8, self.hash_key.0[1]);
        put_i64(&mut page, BIRTH, self.birth.seconds);
        put_u32(&mut page, BIRTH + 8, self.birth.nanos);
        let crc = checksum(Crc32Iscsi, &page[..CRC]) as u32;
        put_u32(&mut page, CRC, crc);
        page
    }

    /// The superblock in `page`; `None` if the volume is not formatted. One of another format
    /// version is returned with nothing but that version known: compare it with [`FORMAT`].
    ///
    /// # Errors
    /// If there is something else.
    pub fn decode(page: &[u8]) -> Result<Option<Self>, Damaged> {
        if page.len() != PAGE as usize {
            return Err(Damaged("superblock: not a page"));
        }
        if page.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if get_u64(page, 0) != MAGIC {
            return Err(Damaged("superblock: not a Plumeria volume"));
        }
        let format = get_u32(page, VERSION);
        let mut superblock = Self {
            format,
            volume: 0,
            log_slots: LOG_SLOTS,
            hash_key: HashKey([0, 0]),
            birth: Stamp::default(),
        };
        if format != FORMAT {
            return Ok(Some(superblock));
        }
        if get_u32(page, CRC) != checksum(Crc32Iscsi, &page[..CRC]) as u32 {
            return Err(Damaged("superblock: wrong checksum"));
        }
        superblock.volume = get_u128(page, VOLUME);
        superblock.log_slots = get_u32(page, SLOTS);
        superblock.hash_key = HashKey([get_u64(page, KEY), get_u64(page, KEY + 8)]);
        superblock.birth = Stamp { seconds: get_i64(page, BIRTH), nanos: get_u32(page, BIRTH + 8) };
        if superblock.log_slots == 0 || superblock.log_slots > LOG_SLOTS {
            return Err(Damaged("superblock: impossible number of logs"));
        }
        Ok(Some(superblock))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_superblock_comes_back_and_every_flipped_byte_is_noticed() {
        let superblock = Superblock {
            format: FORMAT,
            volume: 77,
            log_slots: LOG_SLOTS,
            hash_key: HashKey([1, 2]),
            birth: Stamp { seconds: 5, nanos: 6 },
        };
        let page = superblock.encode();
        assert_eq!(Superblock::decode(&page), Ok(Some(superblock)));
        assert_eq!(Superblock::decode(&[0; 4096]), Ok(None));
        assert!(Superblock::decode(&page[..100]).is_err());
        for at in 0..512 {
            let mut bad = page;
            bad[at] ^= 4;
            assert_ne!(Superblock::decode(&bad), Ok(Some(superblock)), "byte {at}");
        }
    }
}
