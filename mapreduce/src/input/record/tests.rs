//! The records of all splits are the records of the file, however it is cut and fed.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest,
};

use super::{Cutter, Rule, Tail};

type Records = Vec<(u64, Vec<u8>)>;

/// The records of a file, found in the simplest way.
fn simple(file: &[u8], rule: &Rule) -> Records {
    let mut records = Records::new();
    let mut start = 0;
    let mut at = 0;
    while at < file.len() {
        let end = match rule {
            Rule::Lines if file[at..].starts_with(b"\r\n") => 2,
            Rule::Lines if file[at] == b'\n' || file[at] == b'\r' => 1,
            Rule::Delimited(mark) if file[at..].starts_with(mark) => mark.len(),
            _ => 0,
        };
        if end > 0 {
            records.push((start as u64, file[start..at].to_vec()));
            start = at + end;
        }
        at += end.max(1);
    }
    if start < file.len() {
        records.push((start as u64, file[start..].to_vec()));
    }
    records
}

/// As a map task reads it: up to the end of the split, then behind it until the tail is enough.
fn split(file: &[u8], rule: &Rule, (begin, end): (usize, usize), chunk: usize) -> Records {
    let mut records = Records::new();
    let mut emit = |cut: super::Cut<'_>| {
        records.push((cut.offset, cut.bytes.to_vec()));
        Ok(())
    };
    let mut cutter = Cutter::new(rule, begin as u64, end as u64);
    let from = rule.from(begin as u64) as usize;
    let mut more = true;
    for bytes in file[from..end].chunks(chunk) {
        more = cutter.feed(bytes, &mut emit).unwrap();
    }
    let mut tail = Tail::new(rule);
    let mut enough = false;
    for bytes in file[end..].chunks(chunk) {
        if enough {
            break;
        }
        more = cutter.feed(bytes, &mut emit).unwrap();
        enough = tail.is_enough(bytes);
    }
    if enough {
        assert!(!more, "the tail was said to be enough, but the cutter wants more");
    } else {
        cutter.finish(&mut emit).unwrap();
    }
    records
}

fn in_splits(file: &[u8], rule: &Rule, size: usize, chunk: usize) -> Records {
    let starts = (0..file.len()).step_by(size);
    starts
        .flat_map(|begin| split(file, rule, (begin, (begin + size).min(file.len())), chunk))
        .collect()
}

/// The full count is run by `cargo xtask soak`.
fn cases() -> u32 {
    std::env::var("PLUMERIA_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(4000)
}

fn rule() -> impl Strategy<Value = Rule> {
    prop_oneof![
        3 => Just(Rule::Lines),
        1 => Just(Rule::Delimited(vec![0])),
        1 => Just(Rule::Delimited(b"ab".to_vec())),
        1 => Just(Rule::Delimited(b"\n\na".to_vec())),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 10_000, ..ProptestConfig::default() })]

    #[test]
    fn the_records_of_all_splits_are_those_of_the_file(
        rule in rule(),
        file in prop::collection::vec(prop::sample::select(b"ab\n\n\r\r\0x".to_vec()), 0..120),
        size in 1_usize..50,
        chunk in 1_usize..50,
    ) {
        prop_assert_eq!(in_splits(&file, &rule, size, chunk), simple(&file, &rule));
    }

    #[test]
    fn any_bytes_are_cut_alike(
        file in prop::collection::vec(any::<u8>(), 0..600),
        size in 1_usize..200,
        chunk in 1_usize..90,
    ) {
        prop_assert_eq!(in_splits(&file, &Rule::Lines, size, chunk), simple(&file, &Rule::Lines));
    }

    #[test]
    fn fixed_records_are_cut_where_they_should_be(
        records in prop::collection::vec(any::<[u8; 5]>(), 0..60),
        size in 1_u64..60,
        chunk in 1_usize..30,
    ) {
        let file = records.concat();
        let rule = Rule::Fixed(5);
        let size = rule.align(size + 4) as usize;
        let expected: Records =
            records.iter().enumerate().map(|(at, record)| (at as u64 * 5, record.to_vec())).collect();
        prop_assert_eq!(in_splits(&file, &rule, size, chunk), expected);
    }
}

#[test]
fn empty_lines_and_all_line_ends_are_kept_apart() {
    let lines: Vec<_> = simple(b"\na\r\n\r\nb\rc\n\n", &Rule::Lines);
    let text: Vec<_> = lines.iter().map(|(_, line)| line.as_slice()).collect();
    assert_eq!(text, [&b""[..], b"a", b"", b"b", b"c", b""]);
    for size in 1..12 {
        assert_eq!(in_splits(b"\na\r\n\r\nb\rc\n\n", &Rule::Lines, size, 1), lines, "{size}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_first_line() {
    assert_eq!(
        in_splits(b"\xef\xbb\xbfa\nb", &Rule::Lines, 100, 100),
        [(3, b"a".to_vec()), (5, b"b".to_vec())]
    );
    assert_eq!(in_splits(b"\xef\xbb\xbf\n", &Rule::Lines, 100, 100), [(3, b"".to_vec())]);
}

#[test]
fn a_line_of_ten_megabytes_belongs_to_the_first_of_its_splits() {
    let mut file = b"short\n".to_vec();
    file.extend(vec![b'x'; 10 << 20]);
    file.extend(b"\nlast");
    let records = in_splits(&file, &Rule::Lines, 1 << 20, 64 << 10);
    let lengths: Vec<_> = records.iter().map(|(offset, line)| (*offset, line.len())).collect();
    assert_eq!(lengths, [(0, 5), (6, 10 << 20), (7 + (10 << 20), 4)]);
    assert_eq!(split(&file, &Rule::Lines, (0, 1 << 20), 4096).len(), 2);
}

#[test]
fn a_whole_file_is_one_record_and_a_torn_fixed_record_is_refused() {
    let whole = split(b"a\nb\n", &Rule::Whole, (0, 4), 3);
    assert_eq!(whole, [(0, b"a\nb\n".to_vec())]);
    let mut cutter = Cutter::new(&Rule::Fixed(4), 0, 6);
    assert!(cutter.feed(b"abcdef", &mut |_| Ok(())).unwrap());
    let error = cutter.finish(&mut |_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("multiple of 4"), "{error}");
}

#[test]
fn a_delimiter_that_overlaps_itself_is_not_split() {
    assert!(!Rule::Delimited(b"aa".to_vec()).is_splittable());
    assert!(!Rule::Delimited(b"aba".to_vec()).is_splittable());
    assert!(Rule::Delimited(b"ab".to_vec()).is_splittable());
    assert!(!Rule::Whole.is_splittable());
}
