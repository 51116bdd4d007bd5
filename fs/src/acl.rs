//! POSIX access control lists, in the form in which Linux passes them as the extended attributes
//! `system.posix_acl_access` and `system.posix_acl_default` (version 2). The kernel checks
//! permissions against them; kept here is what goes with the mode: a list that says no more than
//! the mode is none, `chmod` changes the list, and a new inode inherits its directory's default.

use crate::error::Error;

/// The attribute with the list that is checked.
pub(crate) const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute of a directory with the list that what is made in it begins with.
pub(crate) const DEFAULT: &[u8] = b"system.posix_acl_default";

const VERSION: u32 = 2;
const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Entry {
    tag: u16,
    permissions: u16,
    id: u32,
}

/// An access control list that is whole: an owner, a group, others, and a mask if it names anybody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Acl(Vec<Entry>);

impl Acl {
    /// The list in `value`.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is none.
    pub(crate) fn decode(value: &[u8]) -> Result<Self, Error> {
        let (version, rest) = value.split_first_chunk::<4>().ok_or(Error::Invalid)?;
        if u32::from_le_bytes(*version) != VERSION || !rest.len().is_multiple_of(8) {
            return Err(Error::Invalid);
        }
        let entries: Vec<Entry> = rest
            .chunks_exact(8)
            .map(|raw| Entry {
                tag: u16::from_le_bytes([raw[0], raw[1]]),
                permissions: u16::from_le_bytes([raw[2], raw[3]]) & 7,
                id: u32::from_le_bytes([raw[4], raw[5], raw[6], raw[7]]),
            })
            .collect();
        let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
        let named = count(USER) + count(GROUP);
        let known = [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER];
        let whole = [USER_OBJ, GROUP_OBJ, OTHER].into_iter().all(|tag| count(tag) == 1)
            && count(MASK) <= 1
            && (named == 0 || count(MASK) == 1)
            && entries.iter().all(|entry| known.contains(&entry.tag));
        if whole { Ok(Self(entries)) } else { Err(Error::Invalid) }
    }

    /// The list as the value of an attribute.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut value = VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            value.extend_from_slice(&entry.tag.to_le_bytes());
            value.extend_from_slice(&entry.permissions.to_le_bytes());
            value.extend_from_slice(&entry.id.to_le_bytes());
        }
        value
    }

    fn of(&self, tag: u16) -> Option<u32> {
        self.0.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.permissions))
    }

    fn entry(&mut self, tag: u16) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.tag == tag)
    }

    /// The class that the group bits of the mode stand for: the mask, if there is one.
    fn group_class(&self) -> u16 {
        if self.of(MASK).is_some() { MASK } else { GROUP_OBJ }
    }

    /// The nine permission bits that show what the list allows.
    pub(crate) fn mode(&self) -> u32 {
        let of = |tag| self.of(tag).unwrap_or(0);
        of(USER_OBJ) << 6 | of(self.group_class()) << 3 | of(OTHER)
    }

    /// Whether the mode says all that the list says.
    pub(crate) fn is_mode(&self) -> bool {
        self.0.len() == 3
    }

    /// Takes over the permission bits of `mode`, as `chmod` does.
    pub(crate) fn set_mode(&mut self, mode: u32) {
        let group = self.group_class();
        for (tag, bits) in [(USER_OBJ, mode >> 6), (group, mode >> 3), (OTHER, mode)] {
            if let Some(entry) = self.entry(tag) {
                entry.permissions = (bits & 7) as u16;
            }
        }
    }

    /// Makes a default list the access list of a new inode that was asked for with `mode`: neither
    /// gives more than the other. Returns the new permission bits.
    pub(crate) fn inherit(&mut self, mode: u32) -> u32 {
        let allowed = self.mode() & mode;
        self.set_mode(allowed);
        mode & !0o777 | allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[(u16, u16, u32)]) -> Vec<u8> {
        let entries = entries.iter().map(|&(tag, permissions, id)| Entry { tag, permissions, id });
        Acl(entries.collect()).encode()
    }

    const NOBODY: u32 = u32::MAX;

    #[test]
    fn a_list_that_is_not_whole_is_refused() {
        let three = [(USER_OBJ, 6, NOBODY), (GROUP_OBJ, 4, NOBODY), (OTHER, 0, NOBODY)];
        let plain = Acl::decode(&list(&three)).unwrap();
        assert!(plain.is_mode());
        assert_eq!(plain.mode(), 0o640);
        assert_eq!(plain.encode(), list(&three));
        assert!(Acl::decode(&list(&three[..2])).is_err());
        let unmasked = [three[0], (USER, 7, 1000), three[1], three[2]];
        assert!(Acl::decode(&list(&unmasked)).is_err());
        assert!(Acl::decode(b"").is_err() && Acl::decode(&[2, 0, 0, 0, 1]).is_err());
    }

    #[test]
    fn the_group_bits_of_the_mode_are_the_mask() {
        let masked = [
            (USER_OBJ, 7, NOBODY),
            (USER, 6, 1000),
            (GROUP_OBJ, 5, NOBODY),
            (MASK, 6, NOBODY),
            (OTHER, 1, NOBODY),
        ];
        let mut acl = Acl::decode(&list(&masked)).unwrap();
        assert!(!acl.is_mode());
        assert_eq!(acl.mode(), 0o761);
        acl.set_mode(0o640);
        assert_eq!((acl.mode(), acl.of(GROUP_OBJ), acl.of(USER)), (0o640, Some(5), Some(6)));
    }

    #[test]
    fn what_is_made_gets_no_more_than_it_asked_for_and_no_more_than_the_default() {
        let default = list(&[(USER_OBJ, 7, NOBODY), (GROUP_OBJ, 5, NOBODY), (OTHER, 0, NOBODY)]);
        let mut acl = Acl::decode(&default).unwrap();
        assert_eq!(acl.inherit(0o4666), 0o4640);
        assert_eq!(acl.mode(), 0o640);
    }
}
