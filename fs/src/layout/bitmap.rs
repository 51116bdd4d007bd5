//! A page of 32,256 bits: inodes in use, orphans, or runs of one class in a space segment.
//!
//! What a bit stands for, and which lock protects the page, is not known here.

use blockstore::PAGE;

use super::{
    Damaged,
    bytes::{get_u32, get_u64, put_u32, put_u64},
    geometry::BITS,
    version::{HEAD, Kind, Version, head, put_head},
};

const FLAGS: usize = HEAD;
const FIRST: usize = 64;
const WORDS: usize = BITS as usize / 64;
/// The last owner of the segment died: its free runs may hold bytes.
const FLAG_DIRTY: u32 = 1;

/// A bitmap page.
#[derive(Clone, PartialEq, Eq)]
pub struct Bitmap {
    page: Box<[u8; PAGE as usize]>,
    set: u32,
}

impl Bitmap {
    /// A page with no bit set.
    #[must_use]
    pub fn blank() -> Self {
        let mut page = Box::new([0; PAGE as usize]);
        put_head(page.as_mut_slice(), Kind::Bitmap, Version::ZERO);
        Self { page, set: 0 }
    }

    /// The bitmap in `page`; blank if it was never written.
    ///
    /// # Errors
    /// If it is no bitmap.
    pub fn decode(page: &[u8]) -> Result<Self, Damaged> {
        let page: Box<[u8; PAGE as usize]> =
            Box::new(page.try_into().map_err(|_| Damaged("bitmap: not a page"))?);
        match head(page.as_slice())? {
            None => return Ok(Self::blank()),
            Some((Kind::Bitmap, _)) => {}
            Some(_) => return Err(Damaged("bitmap: another kind of block")),
        }
        let mut bitmap = Self { page, set: 0 };
        bitmap.set = (0..WORDS).map(|i| bitmap.word(i).count_ones()).sum();
        Ok(bitmap)
    }

    /// The bytes of the page.
    #[must_use]
    pub fn bytes(&self) -> &[u8; PAGE as usize] {
        &self.page
    }

    /// Its version.
    #[must_use]
    pub fn version(&self) -> Version {
        Version {
            grant: get_u64(self.page.as_slice(), 8),
            counter: get_u64(self.page.as_slice(), 16),
        }
    }

    /// Gives it a version.
    pub fn set_version(&mut self, version: Version) {
        put_head(self.page.as_mut_slice(), Kind::Bitmap, version);
    }

    /// Whether bit `index` is set; bits that are not there are not.
    #[must_use]
    pub fn get(&self, index: u32) -> bool {
        index < BITS && self.word(index as usize / 64) >> (index % 64) & 1 == 1
    }

    /// Sets or clears bit `index`; says whether that changed it.
    ///
    /// # Panics
    /// If there is no such bit.
    pub fn put(&mut self, index: u32, value: bool) -> bool {
        assert!(index < BITS, "no such bit");
        if self.get(index) == value {
            return false;
        }
        let i = index as usize / 64;
        let word = self.word(i) ^ (1 << (index % 64));
        put_u64(self.page.as_mut_slice(), FIRST + 8 * i, word);
        if value {
            self.set += 1;
        } else {
            self.set -= 1;
        }
        true
    }

    /// How many bits are set.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.set
    }

    /// A clear bit from `low` up to, not including, `high`: the first from `hint` on, then from
    /// `low`.
    #[must_use]
    pub fn find_free(&self, low: u32, high: u32, hint: u32) -> Option<u32> {
        let high = high.min(BITS);
        let hint = hint.clamp(low, high);
        self.first_free(hint, high).or_else(|| self.first_free(low, hint))
    }

    /// The bits that are set, in order.
    pub fn ones(&self) -> impl Iterator<Item = u32> + '_ {
        (0..WORDS).flat_map(|i| {
            let mut word = self.word(i);
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros())?;
                word &= word - 1;
                Some(i as u32 * 64 + bit)
            })
        })
    }

    /// The stretches of clear bits below `high`, as (first, past the last).
    #[must_use]
    pub fn gaps(&self, high: u32) -> Vec<(u32, u32)> {
        let mut gaps = Vec::new();
        let mut from = 0;
        for one in self.ones().take_while(|one| *one < high).chain([high]) {
            if from < one {
                gaps.push((from, one));
            }
            from = one + 1;
        }
        gaps
    }

    /// Whether the segment's last owner died, so that free runs may hold bytes: the next owner
    /// discards them before it uses any. Only on the head page of a space segment.
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        get_u32(self.page.as_slice(), FLAGS) & FLAG_DIRTY != 0
    }

    /// Sets or clears that mark.
    pub fn set_dirty(&mut self, dirty: bool) {
        put_u32(self.page.as_mut_slice(), FLAGS, if dirty { FLAG_DIRTY } else { 0 });
    }

    fn first_free(&self, low: u32, high: u32) -> Option<u32> {
        let mut at = low;
        while at < high {
            let taken = (self.word(at as usize / 64) >> (at % 64)).trailing_ones();
            let left = 64 - at % 64;
            if taken < left {
                return (at + taken < high).then_some(at + taken);
            }
            at += left;
        }
        None
    }

    fn word(&self, i: usize) -> u64 {
        get_u64(self.page.as_slice(), FIRST + 8 * i)
    }
}

impl std::fmt::Debug for Bitmap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bitmap({} set, {:?})", self.set, self.version())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_page_has_no_free_bit_and_bits_do_not_touch_the_head() {
        let mut map = Bitmap::blank();
        map.set_version(Version { grant: 1, counter: 2 });
        map.set_dirty(true);
        for i in 0..BITS {
            assert_eq!(map.find_free(0, BITS, i), Some(i));
            map.put(i, true);
        }
        assert_eq!((map.find_free(0, BITS, 9), map.count()), (None, BITS));
        assert_eq!((map.version(), map.is_dirty()), (Version { grant: 1, counter: 2 }, true));
        map.put(5, false);
        assert_eq!(map.find_free(1, BITS, 3000), Some(5));
        assert_eq!(map.find_free(6, BITS, 0), None);
        assert_eq!(map.gaps(BITS), [(5, 6)]);
        assert_eq!(Bitmap::decode(map.bytes()).unwrap(), map);
    }

    proptest! {
        #[test]
        fn a_bitmap_is_a_set(bits in prop::collection::btree_set(0..BITS, 0..200), hint in 0..BITS) {
            let mut map = Bitmap::blank();
            for bit in &bits {
                prop_assert!(map.put(*bit, true) && !map.put(*bit, true));
            }
            let back = Bitmap::decode(map.bytes()).unwrap();
            prop_assert_eq!(back.ones().collect::<BTreeSet<_>>(), bits.clone());
            prop_assert_eq!(back.count() as usize, bits.len());
            let free = back.find_free(0, BITS, hint).unwrap();
            prop_assert!(!bits.contains(&free) && (hint..free).all(|b| bits.contains(&b)));
            let gaps: u32 = back.gaps(BITS).iter().map(|(a, b)| b - a).sum();
            prop_assert_eq!(gaps + back.count(), BITS);
        }

        #[test]
        fn foreign_bytes_never_panic(noise in prop::collection::vec(any::<u8>(), 4096), length in 0..4096_usize) {
            let _ = Bitmap::decode(&noise);
            let _ = Bitmap::decode(&noise[..length]);
            let mut page = noise;
            put_head(&mut page, Kind::Bitmap, Version::ZERO);
            let map = Bitmap::decode(&page).unwrap();
            prop_assert_eq!(map.ones().count(), map.count() as usize);
        }
    }
}
