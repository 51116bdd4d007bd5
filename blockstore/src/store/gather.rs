//! Puts the pages of a read together. Where pages come from is not known here.

use bytes::{Bytes, BytesMut};

use super::{
    Found,
    overlay::{Key, PAGE_BYTES},
};
use crate::{
    disk::{BLOCK, PAGE},
    message::checksum,
    place::{BlockId, Volume},
};

/// The pages of a read, in order; `None` for zeros.
pub(crate) struct Gather {
    volume: Volume,
    offset: u64,
    length: usize,
    pub(crate) pages: Vec<Option<(Bytes, u32)>>,
}

/// A page of a read: where it lies in the volume, and its index in [`Gather::pages`].
#[derive(Clone, Copy)]
pub(crate) struct Spot {
    pub(crate) key: Key,
    pub(crate) page: usize,
    pub(crate) index: usize,
}

impl Spot {
    /// Its first byte in the volume.
    pub(crate) fn offset(&self) -> u64 {
        self.key.id.start() + self.page as u64 * PAGE
    }
}

impl Gather {
    pub(crate) fn new(volume: Volume, offset: u64, length: u32) -> Self {
        let length = usize::try_from(length).expect("a length fits");
        let within = usize::try_from(offset % PAGE).expect("less than a page");
        let count = (within + length).div_ceil(PAGE_BYTES);
        Self { volume, offset, length, pages: vec![None; count] }
    }

    /// The pages by block.
    pub(crate) fn spots(&self) -> Vec<Spot> {
        let first = self.offset / PAGE;
        let mut key = None::<Key>;
        (0..self.pages.len())
            .map(|index| {
                let number = first + index as u64;
                let id = BlockId { volume: self.volume, block: number / (BLOCK / PAGE) };
                let key = match key {
                    Some(same) if same.id == id => same,
                    _ => *key.insert(Key::of(id)),
                };
                let page = usize::try_from(number % (BLOCK / PAGE)).expect("less than sixteen");
                Spot { key, page, index }
            })
            .collect()
    }

    /// The bytes that were asked for.
    pub(crate) fn finish(self) -> Found {
        if self.pages.iter().all(Option::is_none) {
            return Found::default();
        }
        let mut within = usize::try_from(self.offset % PAGE).expect("less than a page");
        let mut left = self.length;
        let mut sums = Vec::with_capacity(self.pages.len());
        let mut parts = Vec::with_capacity(self.pages.len());
        let zeros = Bytes::from_static(&[0; PAGE_BYTES]);
        for page in &self.pages {
            let length = left.min(PAGE_BYTES - within);
            let (bytes, sum) = match page {
                Some((bytes, sum)) => (bytes, Some(*sum)),
                None => (&zeros, None),
            };
            let part = bytes.slice(within..within + length);
            sums.push(match sum {
                Some(sum) if length == PAGE_BYTES => sum,
                _ => checksum(&part),
            });
            parts.push(part);
            left -= length;
            within = 0;
        }
        if parts.len() == 1 {
            return Found { sums, body: parts.remove(0) };
        }
        let mut body = BytesMut::with_capacity(self.length);
        for part in parts {
            body.extend_from_slice(&part);
        }
        Found { sums, body: body.freeze() }
    }
}
