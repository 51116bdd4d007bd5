//! The rules of mappers, combiners and reducers, and of what they report.

use crate::harness::{Place, sorted};

/// Counts the words that come as lines, without knowing that they are sorted.
const COUNT: &str =
    "awk -F'\\t' '{ n[$1] += ($2 == \"\" ? 1 : $2) } END { for (w in n) print w \"\\t\" n[w] }'";

#[test]
fn the_classic_word_count_counts() {
    let ran = Place::with("to be or not\nto be\n").ok(&[
        "-mapper",
        "tr ' ' '\\n'",
        "-reducer",
        "uniq -c",
    ]);
    let lines: Vec<Vec<&str>> =
        ran.parts[0].lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines, [["2", "be"], ["1", "not"], ["1", "or"], ["2", "to"]]);
}

#[test]
fn a_mapper_is_one_process_for_a_task() {
    let place = Place::with("a\nb\nc\n");
    let ran = place.ok(&["-mapper", "sh -c 'wc -l'"]);
    assert_eq!(ran.all().trim(), "3");
}

#[test]
fn the_key_is_up_to_the_first_tab() {
    // With another order of values the key alone decides.
    let ran = Place::with("b\t2\na\t9\nb\t1\n").ok(&[]);
    assert_eq!(ran.all(), "a\t9\nb\t2\nb\t1\n");
}

#[test]
fn a_line_without_a_tab_is_a_key_without_value() {
    let ran = Place::with("b\na\t\n").ok(&["-reducer", "cat -A"]);
    assert_eq!(ran.all(), "a^I$\nb$\n");
}

#[test]
fn more_fields_and_another_separator_make_the_key() {
    let ran = Place::with("11.12.1.2\n11.14.2.3\n11.11.4.1\n11.12.1.1\n").ok(&[
        "-D",
        "stream.map.output.field.separator=.",
        "-D",
        "stream.num.map.output.key.fields=3",
        "-reducer",
        "cat",
    ]);
    assert_eq!(ran.all(), "11.11.4\t1\n11.12.1\t2\n11.12.1\t1\n11.14.2\t3\n");
}

#[test]
fn the_reducer_reads_with_its_own_separator() {
    let ran = Place::with("a\t1\n").ok(&[
        "-D",
        "stream.reduce.input.field.separator=|",
        "-reducer",
        "cat",
    ]);
    assert_eq!(ran.all(), "a|1\n");
}

#[test]
fn a_combiner_gets_sorted_lines_and_its_lines_are_reduced() {
    let place = Place::with("a\nb\na\nb\nb\n".repeat(100));
    let ran = place.ok(&["-combiner", COUNT, "-reducer", COUNT]);
    assert_eq!(sorted(&ran.all()), ["a\t200", "b\t300"]);
    assert_eq!(ran.framework("Map output records"), 500);
    assert_eq!(ran.framework("Reduce input records"), 2);
}

#[test]
fn a_combiner_that_changes_the_order_does_not_harm() {
    let ran = Place::with("c\nb\na\n").ok(&["-combiner", "tac"]);
    assert_eq!(ran.all(), "a\nb\nc\n");
}

#[test]
fn shipped_files_are_in_the_working_directory() {
    let place = Place::with("a\n");
    place.put("words.txt", "hello\n");
    let ran = place.ok(&["-file", "@/words.txt", "-mapper", "cat words.txt"]);
    assert_eq!(ran.all(), "hello\n");
}

#[test]
fn shipped_files_may_get_another_name_and_come_as_a_list() {
    let place = Place::with("a\n");
    place.put("x/one", "1\n");
    place.put("x/two", "2\n");
    let ran = place.ok(&["-files", "@/x/one#first,@/x/two", "-mapper", "cat first two"]);
    assert_eq!(ran.all(), "1\n2\n");
}

#[test]
fn a_shipped_program_is_found_by_its_name() {
    let place = Place::with("a\n");
    let script = place.script("my-mapper", "#!/bin/sh\ncat\necho mine\n");
    let ran = place.ok(&["-file", &script, "-mapper", "my-mapper"]);
    assert_eq!(ran.all(), "a\nmine\n");
}

#[test]
fn an_archive_is_unpacked_into_a_directory_of_its_name() {
    let place = Place::with("a\n");
    place.put("stuff/words", "packed\n");
    let tar = std::process::Command::new("tar")
        .args(["-czf", &place.text("stuff.tar.gz"), "-C", &place.text("stuff"), "."])
        .status();
    assert!(tar.unwrap().success());
    let ran = place.ok(&["-archives", "@/stuff.tar.gz#lib", "-mapper", "cat lib/words"]);
    assert_eq!(ran.all(), "packed\n");
}

#[test]
fn counters_reported_on_standard_error_are_added_up() {
    let place = Place::new();
    place.put("in/1", "a\na\n");
    place.put("in/2", "a\n");
    let script = "sh -c 'while read x; do echo reporter:counter:mine,lines seen,2 >&2; done'";
    let ran = place.ok(&["-mapper", script]);
    assert_eq!(ran.summary.counters.get("mine", "lines seen"), 6);
}

#[test]
fn a_status_is_no_log_line_and_no_output() {
    let place = Place::with("a\n");
    let ran = place.ok(&["-mapper", "sh -c 'echo reporter:status:half >&2; cat'"]);
    assert_eq!(ran.all(), "a\n");
}

#[test]
fn what_the_framework_counts_is_right() {
    let place = Place::with("b x\na y\nb z\n");
    let ran = place.ok(&["-mapper", "tr ' ' '\\t'", "-reducer", "head -n 2"]);
    for (name, expected) in [
        ("Map input records", 3),
        ("Map output records", 3),
        ("Reduce input records", 3),
        ("Reduce input groups", 2),
        ("Reduce output records", 2),
    ] {
        assert_eq!(ran.framework(name), expected, "{name}");
    }
    assert_eq!(ran.summary.counters.input_bytes(), 12);
}

#[test]
fn a_program_need_not_read_all_of_its_input() {
    let place = Place::with("a\n".repeat(200_000));
    let ran = place.ok(&["-mapper", "head -n 1", "-reducer", "head -n 1"]);
    assert_eq!(ran.all(), "a\n");
}

#[test]
fn what_a_program_started_ends_with_it() {
    let place = Place::with("a\n");
    let mark = place.text("pid");
    let script = format!("sh -c 'sleep 1000 >/dev/null 2>&1 & echo $! >{mark}; cat'");
    place.ok(&["-mapper", &script]);
    let pid = std::fs::read_to_string(&mark).unwrap();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
}
