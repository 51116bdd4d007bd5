//! Extended attributes as bytes: one after the other, each the length of its name (one byte), the
//! length of its value (two bytes), name, value; sorted by name. Which names may be set, and what
//! the values mean, is not known here.

use std::collections::BTreeMap;

use super::{Damaged, bytes::Cursor, text::ROOM};

/// The extended attributes of an inode, by name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// The attributes in `bytes`.
///
/// # Errors
/// If they are cut off, or one has no name.
pub fn decode(bytes: &[u8]) -> Result<Xattrs, Damaged> {
    let mut cursor = Cursor::new(bytes, "extended attributes");
    let mut all = Xattrs::new();
    let mut left = bytes.len();
    while left > 0 {
        let (name, value) = (cursor.u8()? as usize, cursor.u16()? as usize);
        if name == 0 {
            return Err(Damaged("extended attributes: one without a name"));
        }
        let key = cursor.take(name)?.to_vec();
        all.insert(key, cursor.take(value)?.to_vec());
        left -= 3 + name + value;
    }
    Ok(all)
}

/// The bytes of `all`; `None` if they do not fit in a page.
#[must_use]
pub fn encode(all: &Xattrs) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for (name, value) in all {
        bytes.push(u8::try_from(name.len()).ok()?);
        bytes.extend_from_slice(&u16::try_from(value.len()).ok()?.to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(value);
    }
    (bytes.len() <= ROOM).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn attributes_come_back_and_noise_never_panics(
            all in prop::collection::btree_map(
                prop::collection::vec(any::<u8>(), 1..40),
                prop::collection::vec(any::<u8>(), 0..200),
                0..12,
            ),
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let bytes = encode(&all).unwrap();
            prop_assert_eq!(decode(&bytes).unwrap(), all.clone());
            if !bytes.is_empty() {
                prop_assert!(decode(&bytes[..bytes.len() - 1]).is_err());
            }
            let _ = decode(&noise);
        }
    }

    #[test]
    fn what_does_not_fit_in_a_page_is_refused() {
        let most = Xattrs::from([(b"n".to_vec(), vec![1; ROOM - 4])]);
        assert_eq!(encode(&most).unwrap().len(), ROOM);
        assert_eq!(encode(&Xattrs::from([(b"n".to_vec(), vec![1; ROOM - 3])])), None);
    }
}
