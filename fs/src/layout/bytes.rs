//! Little-endian numbers at fixed places of a byte slice, and a bounded cursor over one.
//!
//! The fixed-place functions are for blocks whose length was checked once; the [`Cursor`] is for
//! records of unknown length. Neither knows what the numbers mean.

use super::Damaged;

macro_rules! number {
    ($get:ident, $put:ident, $type:ty) => {
        #[doc = concat!("The ", stringify!($type), " at `at`; the caller knows that it lies within.")]
        #[must_use]
        pub fn $get(bytes: &[u8], at: usize) -> $type {
            const N: usize = size_of::<$type>();
            let mut raw = [0; N];
            raw.copy_from_slice(&bytes[at..at + N]);
            <$type>::from_le_bytes(raw)
        }

        #[doc = concat!("Puts a ", stringify!($type), " at `at`; the caller knows that it lies within.")]
        pub fn $put(bytes: &mut [u8], at: usize, value: $type) {
            bytes[at..at + size_of::<$type>()].copy_from_slice(&value.to_le_bytes());
        }
    };
}

number!(get_u16, put_u16, u16);
number!(get_u32, put_u32, u32);
number!(get_u64, put_u64, u64);
number!(get_i64, put_i64, i64);
number!(get_u128, put_u128, u128);

/// Reads one field after the other and never past the end.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `bytes`; `what` names the thing in errors.
    #[must_use]
    pub const fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(Damaged(self.what))?;
        self.rest = rest;
        Ok(head)
    }

    /// The next byte.
    ///
    /// # Errors
    /// If there is none.
    pub fn u8(&mut self) -> Result<u8, Damaged> {
        Ok(self.take(1)?[0])
    }

    /// The next two bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn u16(&mut self) -> Result<u16, Damaged> {
        Ok(get_u16(self.take(2)?, 0))
    }

    /// The next four bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn u32(&mut self) -> Result<u32, Damaged> {
        Ok(get_u32(self.take(4)?, 0))
    }

    /// The next eight bytes.
    ///
    /// # Errors
    /// If there are fewer.
    pub fn u64(&mut self) -> Result<u64, Damaged> {
        Ok(get_u64(self.take(8)?, 0))
    }

    /// What is left.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }
}
