//! A page of bytes that belong to one inode: a long symlink target, or extended attributes. What
//! the bytes mean is not known here.

use blockstore::PAGE;

use super::{
    Damaged,
    bytes::{get_u16, put_u16},
    version::{HEAD, Kind, Version, head, put_head},
};

const LENGTH: usize = HEAD;
const TEXT: usize = HEAD + 8;
const END: usize = PAGE as usize;

/// Bytes that fit in a page.
pub const ROOM: usize = END - TEXT;

/// A page of bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct TextPage {
    page: Box<[u8; END]>,
}

impl TextPage {
    /// A page with `text`; what does not fit is left out.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let mut page = Box::new([0; END]);
        put_head(page.as_mut_slice(), Kind::Text, Version::ZERO);
        let length = text.len().min(ROOM);
        put_u16(page.as_mut_slice(), LENGTH, length as u16);
        page[TEXT..TEXT + length].copy_from_slice(&text[..length]);
        Self { page }
    }

    /// The page in `page`; empty if it was never written, or was part of a freed run.
    ///
    /// # Errors
    /// If it is another kind of block or not well formed.
    pub fn decode(page: &[u8]) -> Result<Self, Damaged> {
        let page: Box<[u8; END]> =
            Box::new(page.try_into().map_err(|_| Damaged("text page: not a page"))?);
        match head(page.as_slice())? {
            None => return Ok(Self::of(&[])),
            Some((Kind::Freed, version)) => {
                let mut empty = Self::of(&[]);
                empty.set_version(version);
                return Ok(empty);
            }
            Some((Kind::Text, _)) => {}
            Some(_) => return Err(Damaged("text page: another kind of block")),
        }
        if usize::from(get_u16(page.as_slice(), LENGTH)) > ROOM {
            return Err(Damaged("text page: longer than a page"));
        }
        Ok(Self { page })
    }

    /// What it holds.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.page[TEXT..TEXT + usize::from(get_u16(self.page.as_slice(), LENGTH))]
    }

    /// Its block.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.page.as_slice()
    }

    /// Gives it a version.
    pub fn set_version(&mut self, version: Version) {
        put_head(self.page.as_mut_slice(), Kind::Text, version);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_comes_back_and_noise_is_refused_without_a_panic(
            text in prop::collection::vec(any::<u8>(), 0..5000), at in 0..END, byte: u8,
        ) {
            let mut page = TextPage::of(&text);
            page.set_version(Version { grant: 3, counter: 4 });
            let back = TextPage::decode(page.bytes()).unwrap();
            prop_assert_eq!(back.text(), &text[..text.len().min(ROOM)]);
            let mut noise = page.bytes().to_vec();
            noise[at] ^= byte;
            if let Ok(page) = TextPage::decode(&noise) {
                prop_assert!(page.text().len() <= ROOM);
            }
        }
    }

    #[test]
    fn a_page_that_was_never_written_is_empty() {
        assert_eq!(TextPage::decode(&[0; END]).unwrap().text(), b"");
        assert!(TextPage::decode(&[0; 100]).is_err());
    }
}
