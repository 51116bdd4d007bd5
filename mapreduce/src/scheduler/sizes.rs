//! The bytes of the partitions of a map, about: one byte for each, as in the paper, because there are as many
//! as maps times reduces. 0 is none at all; others are powers of the ninth root of two.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

const STEPS: f64 = 9.0;

/// The sizes of one map's partitions. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sizes(Arc<[u8]>);

impl Sizes {
    pub(crate) fn new(bytes: &[u64]) -> Self {
        let code = |bytes: &u64| match bytes {
            0 => 0,
            // Rounded up, so that nothing is taken for nothing.
            some => (((*some as f64).log2() * STEPS).ceil() as u64).min(254) as u8 + 1,
        };
        Self(bytes.iter().map(code).collect())
    }

    /// About the bytes of a partition; 0 only if it is empty.
    pub(crate) fn get(&self, partition: u32) -> u64 {
        match self.0.get(partition as usize) {
            None | Some(0) => 0,
            Some(code) => (f64::from(code - 1) / STEPS).exp2().round() as u64,
        }
    }
}

/// As two letters for each, so that they stay short in text too.
impl Serialize for Sizes {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let letter = |half: u8| char::from(b'a' + half);
        let text = self.0.iter().flat_map(|code| [letter(code >> 4), letter(code & 15)]);
        to.serialize_str(&text.collect::<String>())
    }
}

impl<'de> Deserialize<'de> for Sizes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let half = |letter: u8| letter.checked_sub(b'a').filter(|half| *half < 16);
        let code = |pair: &[u8]| match pair {
            [high, low] => Some(half(*high)? << 4 | half(*low)?),
            _ => None,
        };
        let codes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(code).collect();
        codes.map(|codes| Self(codes.into())).ok_or_else(|| D::Error::custom("no sizes"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{prop_assert, proptest};

    use super::Sizes;

    proptest! {
        #[test]
        fn a_size_is_kept_to_a_tenth(bytes in 1_u64..200_000_000) {
            let sizes = Sizes::new(&[bytes, 0, bytes / 3]);
            let text = serde_json::to_string(&sizes).unwrap();
            prop_assert!(serde_json::from_str::<Sizes>(&text).unwrap() == sizes);
            let kept = sizes.get(0);
            prop_assert!(kept >= bytes - bytes / 100 - 1 && kept <= bytes + bytes / 10 + 1, "{kept} for {bytes}");
        }
    }

    #[test]
    fn nothing_stays_nothing_and_one_byte_is_something() {
        let sizes = Sizes::new(&[0, 1]);
        assert_eq!((sizes.get(0), sizes.get(1), sizes.get(2)), (0, 1, 0));
    }
}
