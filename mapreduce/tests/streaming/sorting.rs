//! The rules of partitions and order.

use crate::harness::{Place, sorted};

const COMPARATOR: &str = "mapreduce.job.output.key.comparator.class=org.apache.hadoop.mapred.lib.KeyFieldBasedComparator";
const PARTITIONER: [&str; 2] =
    ["-partitioner", "org.apache.hadoop.mapred.lib.KeyFieldBasedPartitioner"];

#[test]
fn keys_are_in_the_order_of_their_bytes() {
    let ran = Place::with("b\nB\na\n10\n9\n\u{e9}\n").ok(&[]);
    assert_eq!(ran.all(), "10\n9\nB\na\nb\n\u{e9}\n");
}

#[test]
fn equal_keys_meet_in_one_partition() {
    let place = Place::with((0..600).map(|n| format!("key{}\t{n}\n", n % 50)).collect::<String>());
    let split = ["-D", "mapred.max.split.size=700"];
    let ran = place.ok(&["-numReduceTasks", "4", "-reducer", "cut -f1", split[0], split[1]]);
    let mut seen: Vec<_> = ran
        .parts
        .iter()
        .flat_map(|part| {
            let mut keys = sorted(part);
            keys.dedup();
            keys
        })
        .collect();
    let all = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!((seen.len(), all), (50, 50));
    assert!(ran.parts.iter().all(|part| !part.is_empty()));
}

#[test]
fn the_partition_of_a_key_is_hadoop_s() {
    // (31 + byte) & MAX % 3 for keys of one byte.
    let ran = Place::with("a\nb\nc\nd\n").ok(&["-numReduceTasks", "3"]);
    let of = |byte: u32| (31 + byte) % 3;
    for (key, byte) in [("a", 97), ("b", 98), ("c", 99), ("d", 100)] {
        assert!(
            ran.parts[of(byte) as usize].lines().any(|line| line == key),
            "{key}: {:?}",
            ran.parts
        );
    }
}

#[test]
fn values_of_a_key_come_in_the_order_of_the_input() {
    let text: String = (0..500).map(|n| format!("{}\t{n:03}\n", n % 3)).collect();
    let ran = Place::with(text).ok(&["-D", "mapred.max.split.size=200"]);
    let lines: Vec<_> = ran.parts[0].lines().collect();
    assert_eq!(lines, sorted(&ran.parts[0]));
}

#[test]
fn numbers_can_be_sorted_downwards() {
    let ran = Place::with("9\n10\n-1\n100\n").ok(&[
        "-D",
        COMPARATOR,
        "-D",
        "mapreduce.partition.keycomparator.options=-nr",
    ]);
    assert_eq!(ran.all(), "100\n10\n9\n-1\n");
}

#[test]
fn a_field_of_the_key_can_decide() {
    let ran = Place::with("a.2.x\nb.10.y\nc.1.z\n").ok(&[
        "-D",
        COMPARATOR,
        "-D",
        "mapreduce.map.output.key.field.separator=.",
        "-D",
        "mapreduce.partition.keycomparator.options=-k2,2nr",
    ]);
    assert_eq!(ran.all(), "b.10.y\na.2.x\nc.1.z\n");
}

#[test]
fn secondary_sort_keeps_a_group_in_one_partition_ordered_by_the_rest() {
    let text: String =
        (0..300).map(|n| format!("user{}\t{}\n", n % 10, (n * 7919) % 1000)).collect();
    let place = Place::with(text);
    let ran = place.ok(&[
        PARTITIONER[0],
        PARTITIONER[1],
        "-numReduceTasks",
        "3",
        "-D",
        COMPARATOR,
        "-D",
        "stream.num.map.output.key.fields=2",
        "-D",
        "mapreduce.partition.keypartitioner.options=-k1,1",
        "-D",
        "mapreduce.partition.keycomparator.options=-k1,1 -k2,2nr",
    ]);
    let mut users = Vec::new();
    for part in &ran.parts {
        let rows: Vec<(&str, i64)> = part
            .lines()
            .map(|line| line.split_once('\t').unwrap())
            .map(|(user, number)| (user, number.parse().unwrap()))
            .collect();
        assert!(
            rows.windows(2)
                .all(|two| two[0].0 < two[1].0 || (two[0].0 == two[1].0 && two[0].1 >= two[1].1))
        );
        let mut here: Vec<_> = rows.iter().map(|row| row.0).collect();
        here.dedup();
        users.extend(here);
    }
    let all = users.len();
    users.sort_unstable();
    users.dedup();
    assert_eq!((users.len(), all), (10, 10));
}

#[test]
fn the_older_names_of_the_properties_are_understood() {
    let ran = Place::with("1.b\n2.a\n1.a\n").ok(&[
        "-D",
        "mapred.output.key.comparator.class=KeyFieldBasedComparator",
        "-D",
        "map.output.key.field.separator=.",
        "-D",
        "mapred.text.key.comparator.options=-k2,2 -k1,1nr",
        "-D",
        "mapred.text.key.partitioner.options=-k1,1",
        PARTITIONER[0],
        "KeyFieldBasedPartitioner",
    ]);
    assert_eq!(ran.all(), "2.a\n1.a\n1.b\n");
}

#[test]
fn a_key_option_that_is_none_is_named() {
    let error = Place::with("a\n").refused(&[
        "-D",
        COMPARATOR,
        "-D",
        "mapreduce.partition.keycomparator.options=-z",
    ]);
    assert!(error.contains("\"-z\""), "{error}");
}

#[test]
fn more_records_than_memory_are_spilled_and_merged_into_the_same_order() {
    let text: String =
        (0..200_000_u64).map(|n| format!("{:07}\t{n}\n", (n * 7_919) % 200_000)).collect();
    let place = Place::with(&text);
    let ran = place.ok(&["-D", "mapreduce.task.io.sort.mb=1"]);
    assert_eq!(ran.parts[0].lines().collect::<Vec<_>>(), sorted(&text));
    assert!(ran.framework("Spilled Records") >= 400_000);
}
