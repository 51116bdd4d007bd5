//! Parts of a key in the manner of sort(1): `-k2,2nr`, as Hadoop's KeyFieldBasedComparator and
//! KeyFieldBasedPartitioner take them. Pure; which job uses them is not known here.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// One `-k` option: from a byte of a field to a byte of a field. Numbers count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    from_field: usize,
    from_byte: usize,
    /// 0: to the end of the key.
    to_field: usize,
    /// 0: to the end of the field.
    to_byte: usize,
    numeric: bool,
    reverse: bool,
}

/// The parts of a key that count, in their order; none: all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fields {
    separator: Vec<u8>,
    parts: Vec<Part>,
}

impl Fields {
    /// Reads options such as `-k1,2 -k3.2,3nr` or `-nr`; fields are separated by `separator`.
    pub(crate) fn parse(options: &str, separator: &str) -> Result<Self, Error> {
        let bad = |word: &str| {
            Error::Spec(format!(
                "{word:?} in {options:?} is no key option: write -k2,2nr, -n or -r"
            ))
        };
        let mut parts = Vec::new();
        let (mut numeric, mut reverse) = (false, false);
        let mut words = options.split_whitespace();
        while let Some(word) = words.next() {
            if let Some(spec) = word.strip_prefix("-k") {
                let spec = if spec.is_empty() { words.next().unwrap_or_default() } else { spec };
                parts.push(part(spec).ok_or_else(|| bad(word))?);
            } else if let Some(letters) = word.strip_prefix('-').filter(|rest| !rest.is_empty()) {
                for letter in letters.chars() {
                    match letter {
                        'n' => numeric = true,
                        'r' => reverse = true,
                        _ => return Err(bad(word)),
                    }
                }
            } else {
                return Err(bad(word));
            }
        }
        if parts.is_empty() {
            parts.push(Part { from_field: 1, from_byte: 1, ..Part::default() });
        }
        // Options without a key hold for the keys that have none of their own.
        for part in parts.iter_mut().filter(|part| !part.numeric && !part.reverse) {
            (part.numeric, part.reverse) = (numeric, reverse);
        }
        if separator.is_empty() {
            return Err(Error::Spec("the separator of key fields is empty".to_owned()));
        }
        Ok(Self { separator: separator.as_bytes().to_vec(), parts })
    }

    /// The first `count` fields.
    pub(crate) fn first(count: usize, separator: &str) -> Result<Self, Error> {
        Self::parse(&format!("-k1,{}", count.max(1)), separator)
    }

    pub(crate) fn compare(&self, one: &[u8], other: &[u8]) -> Ordering {
        for part in &self.parts {
            let (a, b) = (self.take(part, one), self.take(part, other));
            let (a, b) = (a.unwrap_or_default(), b.unwrap_or_default());
            let order = if part.numeric { numeric(a, b) } else { a.cmp(b) };
            let order = if part.reverse { order.reverse() } else { order };
            if order != Ordering::Equal {
                return order;
            }
        }
        Ordering::Equal
    }

    /// Hadoop's hash of the parts.
    pub(crate) fn hash(&self, key: &[u8]) -> i32 {
        let mut hash = 0_i32;
        for bytes in self.parts.iter().filter_map(|part| self.take(part, key)) {
            for byte in bytes {
                hash = hash.wrapping_mul(31).wrapping_add(i32::from(*byte as i8));
            }
        }
        hash
    }

    /// The bytes of a part; none if the key has not that many fields.
    fn take<'a>(&self, part: &Part, key: &'a [u8]) -> Option<&'a [u8]> {
        let (begin, end) = self.field(part.from_field, key)?;
        let from = begin + part.from_byte - 1;
        if from > end {
            return None;
        }
        let to = if part.to_field == 0 {
            key.len()
        } else {
            match self.field(part.to_field, key) {
                None => key.len(),
                Some((_, end)) if part.to_byte == 0 => end,
                Some((begin, end)) => (begin + part.to_byte).min(end),
            }
        };
        Some(&key[from..to.max(from)])
    }

    /// Where field `number` lies.
    fn field(&self, number: usize, key: &[u8]) -> Option<(usize, usize)> {
        let mut begin = 0;
        for _ in 1..number {
            begin += memchr::memmem::find(&key[begin..], &self.separator)? + self.separator.len();
        }
        let length = memchr::memmem::find(&key[begin..], &self.separator);
        Some((begin, length.map_or(key.len(), |length| begin + length)))
    }
}

fn part(spec: &str) -> Option<Part> {
    let mut part = Part::default();
    let (from, to) = match spec.split_once(',') {
        Some((from, to)) => (from, Some(to)),
        None => (spec, None),
    };
    (part.from_field, part.from_byte) = position(from, &mut part)?;
    part.from_byte = part.from_byte.max(1);
    if let Some(to) = to {
        (part.to_field, part.to_byte) = position(to, &mut part)?;
    }
    (part.from_field > 0).then_some(part)
}

/// `FIELD[.BYTE][nr]`.
fn position(text: &str, part: &mut Part) -> Option<(usize, usize)> {
    let digits = text.trim_end_matches(['n', 'r']);
    let letters = &text[digits.len()..];
    part.numeric |= letters.contains('n');
    part.reverse |= letters.contains('r');
    match digits.split_once('.') {
        Some((field, byte)) => Some((field.parse().ok()?, byte.parse().ok()?)),
        None => Some((digits.parse().ok()?, 0)),
    }
}

/// Compares decimal numbers of any length; what does not begin as a number counts as 0.
fn numeric(one: &[u8], other: &[u8]) -> Ordering {
    let (a, b) = (Decimal::of(one), Decimal::of(other));
    match (a.is_negative(), b.is_negative()) {
        (false, true) => Ordering::Greater,
        (true, false) => Ordering::Less,
        (false, false) => a.magnitude(&b),
        (true, true) => b.magnitude(&a),
    }
}

struct Decimal<'a> {
    minus: bool,
    whole: &'a [u8],
    fraction: &'a [u8],
}

impl<'a> Decimal<'a> {
    fn of(text: &'a [u8]) -> Self {
        let text = text.trim_ascii_start();
        let (minus, text) = match text {
            [b'-', rest @ ..] => (true, rest),
            _ => (false, text),
        };
        let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let (whole, rest) = text.split_at(digits(text));
        let fraction = match rest {
            [b'.', rest @ ..] => &rest[..digits(rest)],
            _ => &[],
        };
        let zeros = whole.iter().take_while(|byte| **byte == b'0').count();
        let tail = fraction.iter().rev().take_while(|byte| **byte == b'0').count();
        Self { minus, whole: &whole[zeros..], fraction: &fraction[..fraction.len() - tail] }
    }

    fn is_negative(&self) -> bool {
        self.minus && !(self.whole.is_empty() && self.fraction.is_empty())
    }

    fn magnitude(&self, other: &Self) -> Ordering {
        let whole = self.whole.len().cmp(&other.whole.len());
        whole
            .then_with(|| self.whole.cmp(other.whole))
            .then_with(|| self.fraction.cmp(other.fraction))
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::{prop_assert_eq, proptest};

    use super::{Fields, numeric};

    fn fields(options: &str) -> Fields {
        Fields::parse(options, ".").unwrap()
    }

    #[test]
    fn parts_are_taken_as_sort_takes_them() {
        let taken = |options: &str, key: &str| {
            let fields = fields(options);
            fields
                .take(&fields.parts[0], key.as_bytes())
                .map(|part| String::from_utf8_lossy(part).into_owned())
        };
        assert_eq!(taken("-k2,2", "a.bcd.e").as_deref(), Some("bcd"));
        assert_eq!(taken("-k2", "a.bcd.e").as_deref(), Some("bcd.e"));
        assert_eq!(taken("-k1,2", "a.bcd.e").as_deref(), Some("a.bcd"));
        assert_eq!(taken("-k2.2,2.3", "a.bcd.e").as_deref(), Some("cd"));
        assert_eq!(taken("-k 2,9", "a.bcd.e").as_deref(), Some("bcd.e"));
        assert_eq!(taken("-k4,4", "a.bcd.e"), None);
        assert_eq!(taken("", "a.b").as_deref(), Some("a.b"));
    }

    #[test]
    fn secondary_sort_orders_by_one_field_and_then_another() {
        let order = fields("-k1,1 -k2,2nr");
        assert_eq!(order.compare(b"a.10", b"a.9"), Ordering::Less);
        assert_eq!(order.compare(b"a.1", b"b.2"), Ordering::Less);
        assert_eq!(order.compare(b"a.1", b"a.1.x"), Ordering::Equal);
        assert_eq!(fields("-nr").compare(b"10", b"9"), Ordering::Less);
    }

    #[test]
    fn the_hash_is_hadoop_s() {
        // 'a' = 97, 'b' = 98: (97 * 31 + 98).
        assert_eq!(fields("-k1,1").hash(b"ab.c"), 97 * 31 + 98);
        assert_eq!(fields("-k1,1").hash(b"ab.other"), 97 * 31 + 98);
        assert_eq!(fields("-k3,3").hash(b"ab.c"), 0);
    }

    #[test]
    fn nonsense_is_refused_by_name() {
        for options in ["-x", "k2", "-ka", "-k0,1", "-k"] {
            let error = Fields::parse(options, "\t").unwrap_err().to_string();
            assert!(error.contains(options.split_whitespace().next().unwrap()), "{error}");
        }
        assert!(Fields::parse("-k1", "").is_err());
    }

    proptest! {
        #[test]
        fn numbers_are_compared_as_numbers(a in -100_000_i64..100_000, b in -100_000_i64..100_000) {
            let text = |n: i64| format!("{}{}.{:03}", if n < 0 { "-" } else { "" }, n.abs() / 1000, n.abs() % 1000);
            prop_assert_eq!(numeric(text(a).as_bytes(), text(b).as_bytes()), a.cmp(&b));
        }
    }

    #[test]
    fn long_odd_and_empty_numbers_have_an_order() {
        assert_eq!(numeric(b"123456789012345678901234567890", b"9"), Ordering::Greater);
        assert_eq!(numeric(b"007", b"7.0"), Ordering::Equal);
        assert_eq!(numeric(b"-0", b""), Ordering::Equal);
        assert_eq!(numeric(b"x", b"-1"), Ordering::Greater);
    }
}
