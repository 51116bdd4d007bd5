//! The rows of the index: keys and values as bytes, format version 1. Decoders answer `None` to
//! what they do not know. Where rows are kept is not known here.

use crate::{
    place::{BlockId, BlockVersion, ChainVersion, Order, Volume},
    store::overlay::{Key, PAGES},
};

const BLOCK_ROW: u8 = b'b';
const PATCH_ROW: u8 = b'p';
const UNIT_ROW: u8 = b'a';
/// The first key after all patch rows.
pub(crate) const PATCH_END: [u8; 1] = [PATCH_ROW + 1];
const KEY_LENGTH: usize = 25;
const ENTRY_LENGTH: usize = 1 + 8 + 16 + 2 + 2 + 4 * PAGES;
const ENTRY_FORMAT: u8 = 1;

/// Slots of a unit: what an extent file grows by, and what one bitmap row tells.
pub(crate) const UNIT_SLOTS: u64 = 256;

/// A slot of 64 KiB, counted over all extent files.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Slot(pub(crate) u64);

/// The row of a block.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Entry {
    /// Where its pages are, but for those that are patches. None if all are.
    pub(crate) slot: Option<Slot>,
    pub(crate) version: BlockVersion,
    /// The pages that are there; the others are zeros.
    pub(crate) valid: u16,
    /// Those of them whose bytes are in patch rows.
    pub(crate) patched: u16,
    pub(crate) sums: [u32; PAGES],
}

fn key(kind: u8, key: Key) -> [u8; KEY_LENGTH] {
    let mut bytes = [kind; KEY_LENGTH];
    bytes[1..9].copy_from_slice(&key.hash.to_be_bytes());
    bytes[9..17].copy_from_slice(&key.id.volume.0.to_be_bytes());
    bytes[17..].copy_from_slice(&key.id.block.to_be_bytes());
    bytes
}

/// The key of a block's row.
pub(crate) fn block_key(of: Key) -> [u8; KEY_LENGTH] {
    key(BLOCK_ROW, of)
}

/// The key of the row with a patched page.
pub(crate) fn patch_key(of: Key, page: usize) -> [u8; KEY_LENGTH + 1] {
    let mut bytes = [0; KEY_LENGTH + 1];
    bytes[..KEY_LENGTH].copy_from_slice(&key(PATCH_ROW, of));
    bytes[KEY_LENGTH] = u8::try_from(page).expect("less than sixteen");
    bytes
}

/// The least key of all patch rows.
pub(crate) const PATCH_START: [u8; 1] = [PATCH_ROW];

/// The block of a block row's or patch row's key.
pub(crate) fn key_of(bytes: &[u8]) -> Option<Key> {
    let hash = u64::from_be_bytes(bytes.get(1..9)?.try_into().ok()?);
    let volume = u64::from_be_bytes(bytes.get(9..17)?.try_into().ok()?);
    let block = u64::from_be_bytes(bytes.get(17..25)?.try_into().ok()?);
    Some(Key { hash, id: BlockId { volume: Volume(volume), block } })
}

/// The key of the bitmap row of a unit.
pub(crate) fn unit_key(unit: u32) -> [u8; 5] {
    let mut bytes = [UNIT_ROW; 5];
    bytes[1..].copy_from_slice(&unit.to_be_bytes());
    bytes
}

/// The unit of a bitmap row, and its bitmap. None: not a bitmap row.
pub(crate) fn unit_of(key: &[u8], value: &[u8]) -> Option<(u32, [u64; 4])> {
    let [UNIT_ROW, rest @ ..] = key else { return None };
    let unit = u32::from_be_bytes(rest.try_into().ok()?);
    let value: &[u8; 32] = value.try_into().ok()?;
    let mut bits = [0; 4];
    for (word, bytes) in bits.iter_mut().zip(value.chunks_exact(8)) {
        *word = u64::from_le_bytes(bytes.try_into().ok()?);
    }
    Some((unit, bits))
}

/// The value of a bitmap row.
pub(crate) fn unit_value(bits: &[u64; 4]) -> [u8; 32] {
    let mut value = [0; 32];
    for (bytes, word) in value.chunks_exact_mut(8).zip(bits) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    value
}

impl Entry {
    /// The value of the row.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = Vec::with_capacity(ENTRY_LENGTH);
        value.push(ENTRY_FORMAT);
        value.extend(self.slot.map_or(u64::MAX, |slot| slot.0).to_le_bytes());
        value.extend(self.version.chain.0.to_le_bytes());
        value.extend(self.version.order.0.to_le_bytes());
        value.extend(self.valid.to_le_bytes());
        value.extend(self.patched.to_le_bytes());
        for sum in self.sums {
            value.extend(sum.to_le_bytes());
        }
        value
    }

    /// Reads [`Entry::encode`].
    pub(crate) fn decode(value: &[u8]) -> Option<Self> {
        if value.len() != ENTRY_LENGTH || value[0] != ENTRY_FORMAT {
            return None;
        }
        let number = |at: usize| Some(u64::from_le_bytes(value.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u16::from_le_bytes(value.get(at..at + 2)?.try_into().ok()?));
        let mut sums = [0; PAGES];
        for (sum, bytes) in sums.iter_mut().zip(value[29..].chunks_exact(4)) {
            *sum = u32::from_le_bytes(bytes.try_into().ok()?);
        }
        let slot = number(1)?;
        Some(Self {
            slot: (slot != u64::MAX).then_some(Slot(slot)),
            version: BlockVersion { chain: ChainVersion(number(9)?), order: Order(number(17)?) },
            valid: short(25)?,
            patched: short(27)?,
            sums,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_back_as_they_were_written() {
        let mut entry = Entry { slot: Some(Slot(77)), valid: 0x8001, ..Entry::default() };
        entry.version = BlockVersion { chain: ChainVersion(3), order: Order(9) };
        entry.sums[15] = 5;
        assert_eq!(Entry::decode(&entry.encode()), Some(entry));
        assert_eq!(Entry::decode(&[1; 20]), None);
        let of = Key::of(BlockId { volume: Volume(1), block: 12345 });
        assert_eq!(key_of(&block_key(of)), Some(of));
        assert_eq!(key_of(&patch_key(of, 15)), Some(of));
        let bits = [1, 2, 3, u64::MAX];
        assert_eq!(unit_of(&unit_key(6), &unit_value(&bits)), Some((6, bits)));
    }

    #[test]
    fn rows_sort_as_their_keys_do() {
        let keys: Vec<_> =
            (0..5000).map(|block| Key::of(BlockId { volume: Volume(1), block })).collect();
        for pair in keys.windows(2) {
            assert_eq!(pair[0] < pair[1], block_key(pair[0]) < block_key(pair[1]));
        }
    }
}
