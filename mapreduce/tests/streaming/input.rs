//! The rules of the input.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};

use crate::harness::{Place, sorted};

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_input_may_be_a_file_a_directory_or_a_pattern_and_be_given_often() {
    let place = Place::with("a\n");
    place.put("more/1.log", "b\n");
    place.put("more/2.log", "c\n");
    place.put("more/3.txt", "d\n");
    let inputs = ["-input", "@/more/*.log", "-input", "@/more/3.txt"];
    assert_eq!(place.ok(&inputs).all(), "a\nb\nc\nd\n");
}

#[test]
fn inputs_may_be_separated_by_commas_and_have_braces() {
    let place = Place::with("a\n");
    place.put("b1/x", "b\n");
    place.put("b2/x", "c\n");
    place.put("b3/x", "d\n");
    assert_eq!(place.ok(&["-input", "@/b{1,2},@/b3/x"]).all(), "a\nb\nc\nd\n");
}

#[test]
fn an_input_that_is_not_there_is_named() {
    let place = Place::with("a\n");
    let error = place.refused(&["-input", "@/none"]);
    assert!(error.contains("/none does not exist"), "{error}");
    let error = place.refused(&["-input", "@/none*"]);
    assert!(error.contains("no input matches"), "{error}");
    assert!(place.names("out").is_empty());
}

#[test]
fn names_that_begin_with_a_dot_or_underscore_are_no_input() {
    let place = Place::with("a\n");
    place.put("in/.hidden", "h\n");
    place.put("in/_SUCCESS", "s\n");
    place.put("in/_logs/x", "l\n");
    assert_eq!(place.ok(&[]).all(), "a\n");
}

#[test]
fn the_output_of_a_job_can_be_the_input_of_another() {
    let place = Place::with("b\na\nb\n");
    place.ok(&["-numReduceTasks", "2"]);
    let second = ["-input", "@/out", "-output", "@/second"];
    place.run_only(&second).unwrap();
    let all = std::fs::read_to_string(place.path("second/part-00000")).unwrap();
    assert_eq!(all, "a\nb\nb\n");
}

#[test]
fn a_directory_within_the_input_is_refused_unless_asked_for() {
    let place = Place::with("a\n");
    place.put("in/sub/b.txt", "b\n");
    let error = place.refused(&[]);
    assert!(error.contains("in/sub is a directory"), "{error}");
    let recursive = "mapreduce.input.fileinputformat.input.dir.recursive=true";
    assert_eq!(place.ok(&["-D", recursive]).all(), "a\nb\n");
}

#[test]
fn gzip_is_read_as_what_it_holds_also_in_several_members() {
    let place = Place::with("a\n");
    place.put("in/b.gz", [gzip("b\nc"), gzip("c\nd\n")].concat());
    assert_eq!(place.ok(&[]).all(), "a\nb\ncc\nd\n");
}

#[test]
fn a_gzip_file_is_never_split() {
    let place = Place::new();
    let text: String = (0..2000).map(|n| format!("line {n}\n")).collect();
    place.put("in/b.gz", gzip(&text));
    let ran = place.ok(&["-D", "mapreduce.input.fileinputformat.split.maxsize=1000"]);
    assert_eq!((ran.summary.maps, sorted(&ran.all())), (1, sorted(&text)));
}

#[test]
fn damaged_gzip_is_an_error_that_names_the_file() {
    let place = Place::new();
    let whole = gzip(&"some text\n".repeat(1000));
    place.put("in/cut.gz", &whole[..whole.len() / 2]);
    let error = place.refused(&[]);
    assert!(error.contains("cut.gz") && error.contains("damaged"), "{error}");
    assert!(place.names("out").is_empty());
}

#[test]
fn a_file_is_cut_by_the_split_size_and_no_line_is_lost_or_doubled() {
    let place = Place::new();
    let text: String = (0..999).map(|n| format!("{n:0width$}\n", width = 1 + n % 17)).collect();
    place.put("in/a.txt", &text);
    let ran = place.ok(&["-D", "mapreduce.input.fileinputformat.split.maxsize=512"]);
    assert!(ran.summary.maps > 10);
    assert_eq!(sorted(&ran.all()), sorted(&text));
    assert_eq!(ran.framework("Map input records"), 999);
}

#[test]
fn the_split_size_is_at_least_the_minimum() {
    let place = Place::with("x\n".repeat(1000));
    let ran = place.ok(&["-D", "mapred.max.split.size=100", "-D", "mapred.min.split.size=4000"]);
    assert_eq!(ran.summary.maps, 1);
}

#[test]
fn every_file_is_a_task_of_its_own() {
    let place = Place::new();
    for name in ["a", "b", "c"] {
        place.put(&format!("in/{name}"), "x\n");
    }
    assert_eq!(place.ok(&[]).summary.maps, 3);
}

#[test]
fn lines_end_with_lf_crlf_or_cr_and_the_last_one_needs_no_end() {
    let ran = Place::with("a\r\nb\nc\rd").ok(&[]);
    assert_eq!(ran.all(), "a\nb\nc\nd\n");
}

#[test]
fn empty_lines_are_records() {
    let ran = Place::with("\n\na\n").ok(&["-mapper", "cat -A"]);
    assert_eq!(ran.all(), "$\n$\na$\n");
    assert_eq!(ran.framework("Map input records"), 3);
}

#[test]
fn an_empty_input_gives_an_empty_output() {
    let ran = Place::with("").ok(&["-numReduceTasks", "2"]);
    assert_eq!(ran.parts, ["", ""]);
}

#[test]
fn a_line_of_ten_megabytes_is_one_record() {
    let place = Place::with(format!("{}\nshort\n", "x".repeat(10 << 20)));
    let ran = place.ok(&["-mapper", "awk '{ print length($0) }'"]);
    assert_eq!(sorted(&ran.all()), ["10485760", "5"]);
}

#[test]
fn another_record_delimiter_may_be_given() {
    let ran = Place::with("a\nb;c;;d").ok(&[
        "-D",
        "textinputformat.record.delimiter=;",
        "-mapper",
        "cat -A",
        "-reducer",
        "NONE",
    ]);
    assert_eq!(ran.all(), "a$\nb$\nc$\n$\nd$\n");
}

#[test]
fn key_value_input_is_given_with_a_tab() {
    let ran = Place::with("k=v=w\nalone\n").ok(&[
        "-inputformat",
        "org.apache.hadoop.mapred.KeyValueTextInputFormat",
        "-D",
        "mapreduce.input.keyvaluelinerecordreader.key.value.separator==",
    ]);
    assert_eq!(ran.all(), "alone\nk\tv=w\n");
}

#[test]
fn fixed_records_need_their_length_and_a_file_that_is_a_multiple_of_it() {
    let place = Place::with("bbbaaa");
    let format = ["-inputformat", "FixedLengthInputFormat"];
    assert!(place.refused(&format).contains("fixedlengthinputformat.record.length"));
    let length = |n: u32| format!("fixedlengthinputformat.record.length={n}");
    let ran = place.ok(&[format[0], format[1], "-D", &length(3)]);
    assert_eq!(ran.all(), "aaa\nbbb\n");
    std::fs::remove_dir_all(place.path("out")).unwrap();
    let error = place.refused(&[format[0], format[1], "-D", &length(4)]);
    assert!(error.contains("multiple of 4"), "{error}");
}

#[test]
fn the_offset_is_given_when_it_is_not_to_be_ignored() {
    let options = ["-D", "stream.map.input.ignoreKey=false", "-reducer", "NONE"];
    assert_eq!(Place::with("ab\nc\n").ok(&options).all(), "0\tab\n3\tc\n");
}
