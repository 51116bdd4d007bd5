//! The rules of failures: what is told, and that nothing half-done stays.

use crate::harness::Place;

#[test]
fn a_program_that_ends_with_an_error_fails_the_job_after_four_attempts() {
    let place = Place::with("a\n");
    let count = place.text("attempts");
    let script = format!("sh -c 'echo x >>{count}; exit 3'");
    let error = place.refused(&["-mapper", &script]);
    assert!(error.contains("map 0 failed 4 times") && error.contains("exit code 3"), "{error}");
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 4);
}

#[test]
fn the_number_of_attempts_may_be_given() {
    let place = Place::with("a\n");
    let error = place.refused(&["-mapper", "false", "-D", "mapreduce.map.maxattempts=1"]);
    assert!(error.contains("failed 1 times"), "{error}");
}

#[test]
fn an_error_names_the_split_and_the_last_lines_of_standard_error() {
    let place = Place::with("a\n".repeat(100));
    let script = "sh -c 'seq 1 30 >&2; echo the reason >&2; exit 1'";
    let error = place.refused(&["-mapper", script]);
    assert!(error.contains("in/a.txt") && error.contains("split of 200 bytes"), "{error}");
    assert!(error.contains("the reason") && error.contains("\n30\n"), "{error}");
    assert!(!error.contains("\n5\n"), "only the last lines are told: {error}");
}

#[test]
fn a_record_that_the_program_says_it_was_at_is_named() {
    let script = "sh -c 'i=0; while read x; do [ $i = 7 ] && exit 1; i=$((i+1)); echo reporter:counter:SkippingTaskCounters,MapProcessedRecords,1 >&2; done'";
    let error = Place::with("a\n".repeat(20)).refused(&["-mapper", script]);
    assert!(error.contains("record 7"), "{error}");
}

#[test]
fn a_program_killed_by_a_signal_is_told_so() {
    let error = Place::with("a\n").refused(&["-mapper", "sh -c 'kill -9 $$'"]);
    assert!(error.contains("signal 9"), "{error}");
}

#[test]
fn a_failing_combiner_or_reducer_fails_the_job() {
    let error = Place::with("a\n").refused(&["-reducer", "false"]);
    assert!(error.contains("reduce 0 failed"), "{error}");
    let error = Place::with("a\n").refused(&["-combiner", "false"]);
    assert!(error.contains("map 0 failed"), "{error}");
}

#[test]
fn a_missing_program_is_named_with_what_to_do() {
    let error = Place::with("a\n").refused(&["-mapper", "no-such-program-here -x"]);
    assert!(error.contains("no-such-program-here -x cannot be run"), "{error}");
    assert!(error.contains("-file"), "{error}");
}

#[test]
fn a_missing_interpreter_is_told() {
    let place = Place::with("a\n");
    let script = place.script("bad", "#!/no/such/interpreter\n");
    let error = place.refused(&["-file", &script, "-mapper", "./bad"]);
    assert!(error.contains("interpreter"), "{error}");
}

#[test]
fn the_exit_code_may_be_declared_meaningless() {
    let ran = Place::with("a\nb\n").ok(&[
        "-mapper",
        "grep nothing",
        "-D",
        "stream.non.zero.exit.is.failure=false",
    ]);
    assert_eq!(ran.all(), "");
}

#[test]
fn a_silent_program_is_killed_after_the_timeout() {
    let place = Place::with("a\n");
    let options = ["-D", "mapreduce.task.timeout=300", "-D", "mapreduce.map.maxattempts=1"];
    let error =
        place.refused(&["-mapper", "sleep 1000", options[0], options[1], options[2], options[3]]);
    assert!(error.contains("mapreduce.task.timeout"), "{error}");
}

#[test]
fn a_failed_job_leaves_no_output_and_can_be_submitted_again() {
    let place = Place::with("a\n");
    place.refused(&["-mapper", "false"]);
    assert!(!place.path("out").exists());
    assert_eq!(place.ok(&[]).all(), "a\n");
}

#[test]
fn counters_of_failed_attempts_do_not_count() {
    let place = Place::with("a\n");
    let mark = place.text("failed-once");
    let script = format!(
        "sh -c 'echo reporter:counter:g,n,1 >&2; cat; [ -e {mark} ] || {{ touch {mark}; exit 1; }}'"
    );
    let ran = place.ok(&["-mapper", &script]);
    assert_eq!((ran.summary.counters.get("g", "n"), ran.summary.failures), (1, 1));
    assert_eq!(ran.framework("Map input records"), 1);
}

#[test]
fn a_file_to_be_given_along_that_is_not_there_is_named() {
    let place = Place::with("a\n");
    let error = place.refused(&["-file", "@/none.txt", "-mapper", "cat"]);
    assert!(error.contains("none.txt"), "{error}");
}

#[test]
fn an_unreadable_output_place_is_told_before_anything_runs() {
    let place = Place::with("a\n");
    place.put("file", "x");
    let error = place.run_only(&["-input", "@/in", "-output", "@/file/out"]).err().unwrap();
    assert!(error.contains("file/out"), "{error}");
}

#[test]
fn records_on_which_the_program_fails_twice_are_skipped_when_allowed() {
    // Lines 3 and 7 of ten are bad; the program tells how far it is.
    let script = "sh -c 'while read x; do case $x in bad*) exit 1;; esac; echo $x; echo reporter:counter:SkippingTaskCounters,MapProcessedRecords,1 >&2; done'";
    let text = "a\nb\nc\nbad1\nd\ne\nf\nbad2\ng\nh\n";
    let skip = "mapreduce.map.skip.maxrecords=2";
    let ran = Place::with(text).ok(&["-mapper", script, "-D", skip]);
    assert_eq!(ran.all(), "a\nb\nc\nd\ne\nf\ng\nh\n");
    assert_eq!(ran.framework("Map skipped records"), 2);
    assert_eq!(ran.framework("Map input records"), 8);
    let error = Place::with(text).refused(&["-mapper", script]);
    assert!(error.contains("record 3"), "{error}");
}

#[test]
fn a_priority_that_is_none_is_named() {
    let error = Place::with("a\n").refused(&["-D", "mapreduce.job.priority=URGENT"]);
    assert!(error.contains("URGENT"), "{error}");
    assert_eq!(Place::with("a\n").ok(&["-D", "mapreduce.job.priority=VERY_HIGH"]).all(), "a\n");
}
