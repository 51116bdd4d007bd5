//! The 63-bit hash of a name, by which directories are kept in order.
//!
//! SipHash-1-3 under a key of the volume, so that nobody outside can make names collide. The last
//! [`TIE_BITS`] bits of the hash are zero: the stored hash of an entry fills them with the first
//! free number, so entries whose names have the same hash lie side by side in one page and a
//! removal leaves no hole to probe over. The stored hash is the entry's readdir cookie.

/// Bits that tell apart entries whose names have the same hash.
pub const TIE_BITS: u32 = 6;

/// The key of a volume, from its superblock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HashKey(pub [u64; 2]);

/// The hash of a name, or the stored hash of an entry: 63 bits, never 0, 1 or 2 when stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct NameHash(pub u64);

impl NameHash {
    /// The largest.
    pub const LAST: Self = Self((1 << 63) - 1);

    /// The hash of `name`, its tie bits zero.
    #[must_use]
    pub fn of(name: &[u8], key: HashKey) -> Self {
        let hash = siphash(name, key) >> 1 >> TIE_BITS << TIE_BITS;
        // The group of hashes that begins with 0 is never used: 0, 1 and 2 are the cookies of the
        // start of a directory, of `.` and of `..`.
        Self(if hash == 0 { 1 << TIE_BITS } else { hash })
    }

    /// Whether entries with this stored hash may have a name with hash `of`.
    #[must_use]
    pub const fn same_name_hash(self, of: Self) -> bool {
        self.0 >> TIE_BITS == of.0 >> TIE_BITS
    }

    /// Its first `depth` bits: the number of the page of that depth that it belongs to.
    #[must_use]
    pub const fn prefix(self, depth: u8) -> u64 {
        if depth == 0 { 0 } else { self.0 >> (63 - depth as u32) }
    }

    /// The first hash of page `prefix` of `depth`.
    #[must_use]
    pub const fn first_of(depth: u8, prefix: u64) -> Self {
        if depth == 0 { Self(0) } else { Self(prefix << (63 - depth as u32)) }
    }

    /// The last hash of page `prefix` of `depth`.
    #[must_use]
    pub const fn last_of(depth: u8, prefix: u64) -> Self {
        Self(Self::first_of(depth, prefix).0 + (Self::LAST.0 >> depth))
    }
}

fn siphash(bytes: &[u8], HashKey([k0, k1]): HashKey) -> u64 {
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for word in &mut words {
        compress(&mut v, super::bytes::get_u64(word, 0));
    }
    let mut last = (bytes.len() as u64) << 56;
    for (i, byte) in words.remainder().iter().enumerate() {
        last |= u64::from(*byte) << (8 * i);
    }
    compress(&mut v, last);
    v[2] ^= 0xff;
    for _ in 0..3 {
        round(&mut v);
    }
    v[0] ^ v[1] ^ v[2] ^ v[3]
}

const fn compress(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
}

const fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[2] = v[2].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[1]);
    v[0] = v[0].wrapping_add(v[3]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_siphash_1_3_and_spreads() {
        use std::hash::Hasher;
        for name in ["", "a", "plumeria", "a name longer than two words"] {
            let mut oracle = std::hash::DefaultHasher::new();
            oracle.write(name.as_bytes());
            assert_eq!(oracle.finish(), siphash(name.as_bytes(), HashKey([0, 0])), "{name}");
        }
        let mut hashes: Vec<_> = (0..10_000)
            .map(|i| NameHash::of(format!("f{i}").as_bytes(), HashKey([1, 2])))
            .collect();
        let pages = |depth| hashes.iter().filter(|h| h.prefix(depth) == 0).count();
        assert!((4_700..5_300).contains(&pages(1)), "{}", pages(1));
        assert!((500..750).contains(&pages(4)), "{}", pages(4));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 10_000);
    }

    #[test]
    fn prefixes_cut_the_hashes_into_pages() {
        for depth in [0, 1, 5, 28] {
            let hash = NameHash(0x1234_5678_9abc_def0);
            let prefix = hash.prefix(depth);
            assert!(NameHash::first_of(depth, prefix) <= hash);
            assert!(hash <= NameHash::last_of(depth, prefix));
            if depth > 0 {
                let next = NameHash(NameHash::last_of(depth, prefix).0 + 1);
                assert_eq!(next.prefix(depth), prefix + 1);
            }
        }
        assert_eq!(NameHash::last_of(28, (1 << 28) - 1), NameHash::LAST);
    }
}
