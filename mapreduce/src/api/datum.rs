//! How typed keys and values lie in bytes between maps and reduces, and how they are shown in lines of output. Which
//! job they belong to is not known here.

use crate::error::Error;

/// A type that keys or values may have.
///
/// Functions see it as [`Datum::Ref`], which may borrow from the record: nothing is allocated for each of them.
pub trait Datum: Clone + Send + Sync + 'static {
    /// What functions get and give.
    type Ref<'a>: Copy;

    /// Appends its bytes.
    ///
    /// # Errors
    /// [`Error::Job`] if this value has none.
    fn write(value: Self::Ref<'_>, out: &mut Vec<u8>) -> Result<(), Error>;

    /// What [`Datum::write`] wrote.
    ///
    /// # Errors
    /// [`Error::Damaged`] if that was something else.
    fn read(bytes: &[u8]) -> Result<Self::Ref<'_>, Error>;

    /// Appends it as text for people.
    fn show(value: Self::Ref<'_>, out: &mut Vec<u8>);

    /// Its bytes; a type that has them already gives those instead of filling `scratch`.
    ///
    /// # Errors
    /// As for [`Datum::write`].
    fn encoded<'v: 's, 's>(
        value: Self::Ref<'v>,
        scratch: &'s mut Vec<u8>,
    ) -> Result<&'s [u8], Error> {
        scratch.clear();
        Self::write(value, scratch)?;
        Ok(scratch)
    }

    /// Its text, likewise.
    fn shown<'v: 's, 's>(value: Self::Ref<'v>, scratch: &'s mut Vec<u8>) -> &'s [u8] {
        scratch.clear();
        Self::show(value, scratch);
        scratch
    }
}

/// A type whose bytes are ordered as its values are, so that keys can be sorted without being read.
pub trait Key: Datum {}

/// A key that tells where it ends, so that another may follow it: the first half of a pair.
pub trait Delimited: Key {
    /// Appends its bytes and their end.
    ///
    /// # Errors
    /// [`Error::Job`] if the value holds the end itself.
    fn write_delimited(value: Self::Ref<'_>, out: &mut Vec<u8>) -> Result<(), Error>;

    /// Its bytes, and those behind its end.
    ///
    /// # Errors
    /// [`Error::Damaged`] if there is no end.
    fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error>;
}

/// Bytes of any kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Raw;

/// UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Text;

/// Ends the bytes of a first half.
const END: u8 = 0;

fn delimit(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), Error> {
    if memchr::memchr(END, bytes).is_some() {
        let shown = String::from_utf8_lossy(bytes).into_owned();
        let why = format!("the first half of a pair has a NUL byte: {shown:?}");
        return Err(Error::Job(why));
    }
    out.extend_from_slice(bytes);
    out.push(END);
    Ok(())
}

fn split_at_end(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
    let end = memchr::memchr(END, bytes).ok_or(Error::Damaged("a pair without its first half"))?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

/// Types that are their own bytes.
macro_rules! bytes {
    ($name:ty, $seen:ty, $read:expr, $bytes:expr) => {
        impl Datum for $name {
            type Ref<'a> = &'a $seen;

            fn write(value: &$seen, out: &mut Vec<u8>) -> Result<(), Error> {
                out.extend_from_slice($bytes(value));
                Ok(())
            }

            fn read(bytes: &[u8]) -> Result<&$seen, Error> {
                $read(bytes)
            }

            fn show(value: &$seen, out: &mut Vec<u8>) {
                out.extend_from_slice($bytes(value));
            }

            fn encoded<'v: 's, 's>(
                value: &'v $seen,
                _: &'s mut Vec<u8>,
            ) -> Result<&'s [u8], Error> {
                Ok($bytes(value))
            }

            fn shown<'v: 's, 's>(value: &'v $seen, _: &'s mut Vec<u8>) -> &'s [u8] {
                $bytes(value)
            }
        }

        impl Key for $name {}

        impl Delimited for $name {
            fn write_delimited(value: &$seen, out: &mut Vec<u8>) -> Result<(), Error> {
                delimit($bytes(value), out)
            }

            fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
                split_at_end(bytes)
            }
        }
    };
}

bytes!(Raw, [u8], Ok, std::convert::identity);
bytes!(
    Text,
    str,
    |bytes| std::str::from_utf8(bytes).map_err(|_| Error::Damaged("a text that is no UTF-8")),
    str::as_bytes
);

/// Numbers: big endian, those with a sign moved up so that their bytes are ordered too.
macro_rules! numbers {
    ($($name:ty, $plain:ty, $top:expr;)*) => {$(
        impl Datum for $name {
            type Ref<'a> = $name;

            fn write(value: $name, out: &mut Vec<u8>) -> Result<(), Error> {
                out.extend_from_slice(&(value as $plain ^ $top).to_be_bytes());
                Ok(())
            }

            fn read(bytes: &[u8]) -> Result<$name, Error> {
                let bytes = bytes.try_into().map_err(|_| Error::Damaged("a number of another size"))?;
                Ok((<$plain>::from_be_bytes(bytes) ^ $top) as $name)
            }

            fn show(value: $name, out: &mut Vec<u8>) {
                let (minus, mut rest) = (i128::from(value) < 0, value.abs_diff(0));
                let mut digits = [0; 20];
                let mut at = digits.len();
                loop {
                    at -= 1;
                    digits[at] = b'0' + (rest % 10) as u8;
                    rest /= 10;
                    if rest == 0 {
                        break;
                    }
                }
                if minus {
                    out.push(b'-');
                }
                out.extend_from_slice(&digits[at..]);
            }
        }

        impl Key for $name {}

        impl Delimited for $name {
            fn write_delimited(value: $name, out: &mut Vec<u8>) -> Result<(), Error> {
                Self::write(value, out)
            }

            fn split(bytes: &[u8]) -> Result<(&[u8], &[u8]), Error> {
                bytes.split_at_checked(size_of::<$name>()).ok_or(Error::Damaged("half a number"))
            }
        }
    )*};
}

numbers! {
    u32, u32, 0;
    u64, u64, 0;
    i32, u32, 1 << 31;
    i64, u64, 1 << 63;
}

/// Nothing: for values that are not needed. A line of output then has no tab.
impl Datum for () {
    type Ref<'a> = ();

    fn write((): (), _: &mut Vec<u8>) -> Result<(), Error> {
        Ok(())
    }

    fn read(_: &[u8]) -> Result<(), Error> {
        Ok(())
    }

    fn show((): (), _: &mut Vec<u8>) {}
}

impl Key for () {}

/// A pair: sorted by the first half, then by the second; shown with a tab between them. A text in the first half may
/// not hold a NUL byte.
impl<A: Delimited, B: Datum> Datum for (A, B) {
    type Ref<'a> = (A::Ref<'a>, B::Ref<'a>);

    fn write((first, second): Self::Ref<'_>, out: &mut Vec<u8>) -> Result<(), Error> {
        A::write_delimited(first, out)?;
        B::write(second, out)
    }

    fn read(bytes: &[u8]) -> Result<Self::Ref<'_>, Error> {
        let (first, second) = A::split(bytes)?;
        Ok((A::read(first)?, B::read(second)?))
    }

    fn show((first, second): Self::Ref<'_>, out: &mut Vec<u8>) {
        A::show(first, out);
        out.push(b'\t');
        B::show(second, out);
    }
}

impl<A: Delimited, B: Key> Key for (A, B) {}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, prop_assert_eq, proptest};

    use super::{Datum, Key, Raw, Text};

    fn bytes<D: Datum>(value: D::Ref<'_>) -> Vec<u8> {
        D::encoded(value, &mut Vec::new()).unwrap().to_vec()
    }

    fn shown<D: Datum>(value: D::Ref<'_>) -> String {
        String::from_utf8(D::shown(value, &mut Vec::new()).to_vec()).unwrap()
    }

    /// The bytes of two keys are ordered as the keys, and each is read back.
    fn check<'a, K: Key>(one: K::Ref<'a>, other: K::Ref<'a>)
    where
        K::Ref<'a>: Ord + std::fmt::Debug,
    {
        assert_eq!(bytes::<K>(one).cmp(&bytes::<K>(other)), one.cmp(&other), "{one:?} {other:?}");
    }

    proptest! {
        #[test]
        fn keys_are_ordered_as_their_bytes(
            a in any::<i64>(), b in any::<i64>(),
            one in prop::collection::vec(1_u8..4, 0..5), other in prop::collection::vec(1_u8..4, 0..5),
        ) {
            check::<i64>(a, b);
            check::<u64>(a as u64, b as u64);
            check::<i32>(a as i32, b as i32);
            check::<u32>(a as u32, b as u32);
            check::<Raw>(&one, &other);
            check::<(Raw, i64)>((&one, a), (&other, b));
            check::<(i32, Raw)>((a as i32, &one), (b as i32, &other));
            check::<(Raw, (Raw, u64))>((&one, (&other, 1)), (&one, (&one, 2)));
        }

        #[test]
        fn what_is_written_is_read(number in any::<i64>(), text in "[^\0]{0,8}", end in any::<Vec<u8>>()) {
            prop_assert_eq!(i64::read(&bytes::<i64>(number)).unwrap(), number);
            prop_assert_eq!(i32::read(&bytes::<i32>(number as i32)).unwrap(), number as i32);
            let pair = bytes::<(Text, (i64, Raw))>((&text, (number, &end)));
            let back = <(Text, (i64, Raw))>::read(&pair).unwrap();
            prop_assert_eq!(back, (text.as_str(), (number, end.as_slice())));
            prop_assert_eq!(shown::<i64>(number), number.to_string());
            prop_assert_eq!(shown::<u64>(number as u64), (number as u64).to_string());
        }
    }

    #[test]
    fn foreign_bytes_are_refused_not_believed() {
        assert!(u64::read(b"1234567").is_err());
        assert!(Text::read(b"\xff").is_err());
        assert!(<(Text, u64)>::read(b"no end").is_err());
        assert!(<(u64, u64)>::read(b"123").is_err());
        let nul = <(Text, ())>::encoded(("a\0b", ()), &mut Vec::new()).unwrap_err();
        assert!(nul.to_string().contains("NUL"), "{nul}");
    }
}
