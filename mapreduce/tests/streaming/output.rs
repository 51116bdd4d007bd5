//! The rules of the output.

use std::io::Read as _;

use crate::harness::Place;

#[test]
fn an_output_directory_that_is_there_is_refused_and_left_alone() {
    let place = Place::with("a\n");
    place.put("out/precious", "keep");
    let error = place.refused(&[]);
    assert!(error.contains("exists already"), "{error}");
    assert_eq!(place.names("out"), ["precious"]);
}

#[test]
fn the_output_is_a_part_for_each_reduce_and_an_empty_success() {
    let place = Place::with("a\n");
    place.ok(&["-numReduceTasks", "3"]);
    assert_eq!(place.names("out"), ["_SUCCESS", "part-00000", "part-00001", "part-00002"]);
    assert_eq!(std::fs::metadata(place.path("out/_SUCCESS")).unwrap().len(), 0);
}

#[test]
fn without_reducer_the_maps_write_the_output_unsorted() {
    let place = Place::new();
    place.put("in/a", "b\na\n");
    place.put("in/b", "d\nc\n");
    for options in
        [&["-reducer", "NONE"][..], &["-numReduceTasks", "0"], &["-D", "mapreduce.job.reduces=0"]]
    {
        assert_eq!(place.ok(options).parts, ["b\na\n", "d\nc\n"], "{options:?}");
        std::fs::remove_dir_all(place.path("out")).unwrap();
    }
}

#[test]
fn output_is_compressed_when_asked() {
    let place = Place::with("b\na\n");
    place.ok(&["-D", "mapreduce.output.fileoutputformat.compress=true"]);
    assert_eq!(place.names("out"), ["_SUCCESS", "part-00000.gz"]);
    let file = std::fs::File::open(place.path("out/part-00000.gz")).unwrap();
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    assert_eq!(text, "a\nb\n");
}

#[test]
fn another_codec_is_refused() {
    let codec = "mapreduce.output.fileoutputformat.compress.codec=org.apache.hadoop.io.compress.SnappyCodec";
    let on = "mapreduce.output.fileoutputformat.compress=true";
    assert!(Place::with("a\n").refused(&["-D", on, "-D", codec]).contains("SnappyCodec"));
}

#[test]
fn the_last_line_of_a_program_gets_an_end() {
    let ran = Place::with("a\n").ok(&["-reducer", "printf 'x\\ny'"]);
    assert_eq!(ran.all(), "x\ny\n");
}

#[test]
fn another_separator_of_the_output_may_be_given() {
    let ran = Place::with("k\tv\tw\nalone\n")
        .ok(&["-D", "mapreduce.output.textoutputformat.separator=: "]);
    assert_eq!(ran.all(), "alone\nk: v\tw\n");
}

#[test]
fn the_reducer_s_own_separator_is_understood() {
    let ran = Place::with("a\n").ok(&[
        "-reducer",
        "echo k.v",
        "-D",
        "stream.reduce.output.field.separator=.",
    ]);
    assert_eq!(ran.all(), "k\tv\n");
}

#[test]
fn nothing_temporary_is_left_in_the_output_or_in_the_scratch_space() {
    let place = Place::with("a\n");
    place.ok(&["-mapper", "sh -c 'cat; echo side >left-behind'"]);
    assert!(!place.names("out").iter().any(|name| name.starts_with("_temp")));
    for worker in place.names("scratch") {
        assert!(place.names(&format!("scratch/{worker}")).is_empty(), "{worker}");
    }
}
