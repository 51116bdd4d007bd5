//! Runs: sorted records, partition after partition, in checksummed and perhaps compressed blocks; how they
//! are written and read back. Whose records they are is not known here.
//!
//! A block is a head of twelve bytes (stored length, plain length, CRC-32C of what is stored; little endian) and
//! its bytes, compressed by LZ4 if that made them fewer. A partition is a whole number of blocks, and the
//! plain bytes of its blocks, one after the other, are its records: length of the key, length of the value (as
//! variable-length numbers), key, value.

use std::sync::Arc;

use bytes::Bytes;
use world::File;

use crate::error::Error;

/// Plain bytes of a block, about.
const BLOCK: usize = 128 << 10;
/// More are not believed.
const BLOCK_LIMIT: usize = 1 << 20;
const HEAD: usize = 12;
/// The longest key or value that is believed.
const RECORD_LIMIT: u64 = 1 << 31;
/// How much of a run on disk is read at once.
const READ: u64 = 256 << 10;

fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The number at the start of `bytes` and its length; `None` if it is cut off.
fn varint(bytes: &[u8]) -> Result<Option<(u64, usize)>, Error> {
    let mut number = 0_u64;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * at as u32).min(63);
        if byte & 0x80 == 0 {
            return Ok(Some((number, at + 1)));
        }
    }
    if bytes.len() >= 10 { Err(Error::Damaged("a number that does not end")) } else { Ok(None) }
}

/// Makes blocks of records.
pub(crate) struct Packer {
    compress: bool,
    plain: Vec<u8>,
    packed: Vec<u8>,
    /// For the compressor, kept from block to block.
    scratch: Vec<u8>,
}

impl Packer {
    pub(crate) fn new(compress: bool) -> Self {
        Self { compress, plain: Vec::new(), packed: Vec::new(), scratch: Vec::new() }
    }

    /// Appends a record.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8]) {
        put_varint(key.len() as u64, &mut self.plain);
        put_varint(value.len() as u64, &mut self.plain);
        self.plain.extend_from_slice(key);
        self.plain.extend_from_slice(value);
        if self.plain.len() >= BLOCK {
            self.end_block();
        }
    }

    /// Completes the block: the next record begins another.
    pub(crate) fn end_block(&mut self) {
        let plain = std::mem::take(&mut self.plain);
        for piece in plain.chunks(BLOCK_LIMIT) {
            self.pack(piece);
        }
        self.plain = plain;
        self.plain.clear();
    }

    fn pack(&mut self, plain: &[u8]) {
        let mut stored = plain;
        if self.compress {
            self.scratch.resize(lz4_flex::block::get_maximum_output_size(plain.len()), 0);
            if let Ok(length) = lz4_flex::block::compress_into(plain, &mut self.scratch)
                && length < plain.len()
            {
                stored = &self.scratch[..length];
            }
        }
        let crc = crc_fast::crc32_iscsi(stored);
        for word in [stored.len() as u32, plain.len() as u32, crc] {
            self.packed.extend_from_slice(&word.to_le_bytes());
        }
        self.packed.extend_from_slice(stored);
    }

    /// The complete blocks, to be taken away.
    pub(crate) fn packed(&mut self) -> &mut Vec<u8> {
        &mut self.packed
    }
}

/// Where a partition of a run lies.
#[derive(Clone)]
pub(crate) enum Place {
    /// In memory.
    Memory(Bytes),
    /// In a file.
    File {
        /// The file.
        file: Arc<dyn File>,
        /// Where the partition begins in it.
        offset: u64,
        /// Its bytes.
        length: u64,
    },
}

/// Reads a partition record by record. Reading blocks if it lies in a file.
pub(crate) struct Reader {
    place: Place,
    /// Bytes of blocks, not yet unpacked.
    packed: Bytes,
    plain: Vec<u8>,
    at: usize,
    key: (usize, usize),
    value: (usize, usize),
}

impl Reader {
    pub(crate) fn new(place: Place) -> Self {
        let (place, packed) = match place {
            Place::Memory(bytes) => (Place::Memory(Bytes::new()), bytes),
            file @ Place::File { .. } => (file, Bytes::new()),
        };
        Self { place, packed, plain: Vec::new(), at: 0, key: (0, 0), value: (0, 0) }
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.plain[self.key.0..self.key.1]
    }

    pub(crate) fn value(&self) -> &[u8] {
        &self.plain[self.value.0..self.value.1]
    }

    /// Goes to the next record; `false` at the end.
    pub(crate) fn advance(&mut self) -> Result<bool, Error> {
        loop {
            if self.parse()? {
                return Ok(true);
            }
            let left = self.plain.len() - self.at;
            if !self.unpack()? {
                let torn = Error::Damaged("it ends within a record");
                return if left == 0 { Ok(false) } else { Err(torn) };
            }
        }
    }

    fn parse(&mut self) -> Result<bool, Error> {
        let bytes = &self.plain[self.at..];
        let Some((key, first)) = varint(bytes)? else { return Ok(false) };
        let Some((value, second)) = varint(&bytes[first..])? else { return Ok(false) };
        if key > RECORD_LIMIT || value > RECORD_LIMIT {
            return Err(Error::Damaged("a record that is too long"));
        }
        let begin = self.at + first + second;
        let middle = begin + key as usize;
        let end = middle + value as usize;
        if end > self.plain.len() {
            return Ok(false);
        }
        (self.key, self.value, self.at) = ((begin, middle), (middle, end), end);
        Ok(true)
    }

    /// Appends the next block to what is left; `false` at the end.
    fn unpack(&mut self) -> Result<bool, Error> {
        if !self.have(HEAD)? {
            return Ok(false);
        }
        let word = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&self.packed[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let (stored, length, crc) = (word(0) as usize, word(4) as usize, word(8));
        if length > BLOCK_LIMIT || stored > length {
            return Err(Error::Damaged("a block that is too long"));
        }
        if !self.have(HEAD + stored)? {
            return Err(Error::Damaged("it ends within a block"));
        }
        let block = self.packed.split_to(HEAD + stored).slice(HEAD..);
        if crc_fast::crc32_iscsi(&block) != crc {
            return Err(Error::Damaged("a block fails its checksum"));
        }
        self.plain.drain(..self.at);
        self.at = 0;
        if stored == length {
            self.plain.extend_from_slice(&block);
            return Ok(true);
        }
        let begin = self.plain.len();
        self.plain.resize(begin + length, 0);
        match lz4_flex::block::decompress_into(&block, &mut self.plain[begin..]) {
            Ok(got) if got == length => Ok(true),
            _ => Err(Error::Damaged("a block that does not unpack")),
        }
    }

    /// Makes `want` packed bytes ready; `false` if nothing at all is left.
    fn have(&mut self, want: usize) -> Result<bool, Error> {
        if self.packed.len() >= want {
            return Ok(true);
        }
        let kept = self.packed.len();
        let Place::File { file, offset, length } = &mut self.place else { return short(kept) };
        let take = READ.max((want - kept) as u64).min(*length);
        if kept as u64 + take < want as u64 {
            return short(kept + take as usize);
        }
        let mut bytes = vec![0; kept + take as usize];
        bytes[..kept].copy_from_slice(&self.packed);
        file.read_exact_at(&mut bytes[kept..], *offset)
            .map_err(|error| Error::disk("reading a run of map output", error))?;
        *offset += take;
        *length -= take;
        self.packed = bytes.into();
        Ok(true)
    }
}

fn short(left: usize) -> Result<bool, Error> {
    if left == 0 { Ok(false) } else { Err(Error::Damaged("it ends within a block")) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Packer, Place, Reader};

    type Records = Vec<(Vec<u8>, Vec<u8>)>;

    fn pack(records: &Records, compress: bool) -> Bytes {
        let mut packer = Packer::new(compress);
        for (key, value) in records {
            packer.put(key, value);
        }
        packer.end_block();
        std::mem::take(packer.packed()).into()
    }

    fn unpack(bytes: Bytes) -> Result<Records, crate::error::Error> {
        let mut reader = Reader::new(Place::Memory(bytes));
        let mut records = Records::new();
        while reader.advance()? {
            records.push((reader.key().to_vec(), reader.value().to_vec()));
        }
        Ok(records)
    }

    proptest! {
        #[test]
        fn what_was_packed_is_read_back(
            records in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..30), prop::collection::vec(0_u8..3, 0..300)), 0..200),
            compress in any::<bool>(),
        ) {
            prop_assert_eq!(unpack(pack(&records, compress)).unwrap(), records);
        }

        #[test]
        fn any_bytes_are_read_or_refused_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..100),
            flip in 0_usize..5000,
        ) {
            let _ = unpack(bytes.into());
            let mut packed = pack(&vec![(b"key".to_vec(), vec![7; 3000]); 3], true).to_vec();
            let at = flip % packed.len();
            packed[at] ^= 1 << (flip % 8);
            assert!(unpack(packed.into()).is_err(), "a flipped bit at {at} was not noticed");
        }
    }

    #[test]
    fn a_value_longer_than_any_block_is_whole() {
        let records = vec![
            (b"a".to_vec(), vec![1; 5_000_000]),
            (
                b"b".to_vec(),
                (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect(),
            ),
        ];
        assert_eq!(unpack(pack(&records, true)).unwrap(), records);
    }

    #[test]
    fn cut_off_bytes_are_damage_not_an_end() {
        let packed = pack(&vec![(b"key".to_vec(), b"value".to_vec()); 50], false);
        for length in 1..packed.len() {
            assert!(unpack(packed.slice(..length)).is_err(), "{length}");
        }
    }
}
