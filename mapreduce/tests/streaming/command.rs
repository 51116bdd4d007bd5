//! The rules of the command line.

use crate::harness::Place;

#[test]
fn an_input_and_an_output_are_needed() {
    let place = Place::with("a\n");
    let error = |options: &[&str]| place.run_only(options).err().unwrap();
    assert!(error(&["-output", "@/out"]).contains("-input is missing"));
    assert!(error(&["-input", "@/in"]).contains("-output is missing"));
}

#[test]
fn an_unknown_option_is_named_and_the_usage_is_shown() {
    let error = Place::with("a\n").refused(&["-mappper", "cat"]);
    assert!(error.contains("-mappper") && error.contains("usage:"), "{error}");
}

#[test]
fn an_option_without_its_value_is_named() {
    let error = Place::with("a\n").refused(&["-mapper"]);
    assert!(error.contains("-mapper needs a value"), "{error}");
}

#[test]
fn an_option_that_may_be_given_once_may_not_be_given_twice() {
    let error = Place::with("a\n").refused(&["-mapper", "cat", "-mapper", "cat"]);
    assert!(error.contains("-mapper is given twice"), "{error}");
}

#[test]
fn the_default_is_one_reduce_and_lines_as_they_are() {
    let ran = Place::with("b\t1\na\n").ok(&[]);
    assert_eq!(ran.parts, ["a\nb\t1\n"]);
}

#[test]
fn identity_classes_are_the_default_by_name() {
    let ran = Place::with("b\na\n").ok(&[
        "-mapper",
        "org.apache.hadoop.mapred.lib.IdentityMapper",
        "-reducer",
        "org.apache.hadoop.mapred.lib.IdentityReducer",
    ]);
    assert_eq!(ran.parts, ["a\nb\n"]);
}

#[test]
fn the_number_of_reduces_is_an_option_or_a_property() {
    for options in [
        &["-numReduceTasks", "3"][..],
        &["-D", "mapreduce.job.reduces=3"],
        &["-D", "mapred.reduce.tasks=3"],
        &["-Dmapreduce.job.reduces=3"],
    ] {
        assert_eq!(Place::with("a\nb\n").ok(options).parts.len(), 3, "{options:?}");
    }
}

#[test]
fn the_option_wins_over_the_property() {
    let ran = Place::with("a\n").ok(&["-D", "mapred.reduce.tasks=3", "-numReduceTasks", "2"]);
    assert_eq!(ran.parts.len(), 2);
}

#[test]
fn a_property_without_an_equals_sign_is_refused() {
    assert!(Place::with("a\n").refused(&["-D", "name"]).contains("-D name has no ="));
    assert!(Place::with("a\n").refused(&["-cmdenv", "name"]).contains("-cmdenv name has no ="));
}

#[test]
fn the_part_of_maps_before_reduces_begin_is_a_part_of_one() {
    let place = Place::with("a\n");
    let slowstart = |part: &str| format!("mapreduce.job.reduce.slowstart.completedmaps={part}");
    for part in ["5", "-1", "NaN", "much"] {
        let error = place.refused(&["-D", &slowstart(part)]);
        assert!(error.contains(&format!("{} is no part of 1", slowstart(part))), "{error}");
    }
}

#[test]
fn a_property_that_is_no_number_is_named() {
    let error = Place::with("a\n").refused(&["-D", "mapreduce.job.reduces=many"]);
    assert!(error.contains("mapreduce.job.reduces=many"), "{error}");
}

#[test]
fn unknown_classes_are_named() {
    for (option, class) in [
        ("-partitioner", "com.example.MyPartitioner"),
        ("-inputformat", "com.example.MyFormat"),
        ("-outputformat", "com.example.MyOutput"),
    ] {
        let error = Place::with("a\n").refused(&[option, class]);
        assert!(error.contains(class.rsplit('.').next().unwrap()), "{error}");
    }
    let error = Place::with("a\n")
        .refused(&["-D", "mapreduce.job.output.key.comparator.class=com.example.MyOrder"]);
    assert!(error.contains("MyOrder"), "{error}");
}

#[test]
fn quotes_in_a_command_keep_blanks_together() {
    let ran = Place::with("a b\n").ok(&["-mapper", "awk '{ print $2 \"-\" $1 }'"]);
    assert_eq!(ran.all(), "b-a\n");
}

#[test]
fn a_pipe_needs_a_shell_and_gets_one_when_asked() {
    let place = Place::with("b\na\n");
    let error = place.refused(&["-mapper", "cat | tr a-z A-Z"]);
    assert!(error.contains("plumeria.shell=true"), "{error}");
    let ran = place.ok(&["-mapper", "cat | tr a-z A-Z", "-D", "plumeria.shell=true"]);
    assert_eq!(ran.all(), "A\nB\n");
}

#[test]
fn properties_are_in_the_environment_with_underscores() {
    let ran = Place::with("x\n").ok(&[
        "-D",
        "my.own-property=seven",
        "-mapper",
        "sh -c 'cat >/dev/null; echo $my_own_property'",
    ]);
    assert_eq!(ran.all(), "seven\n");
}

#[test]
fn cmdenv_is_in_the_environment_as_it_is() {
    let ran = Place::with("x\n").ok(&[
        "-cmdenv",
        "LC_ALL=C",
        "-cmdenv",
        "A=b=c",
        "-reducer",
        "sh -c 'cat >/dev/null; echo $LC_ALL $A'",
    ]);
    assert_eq!(ran.all(), "C b=c\n");
}

#[test]
fn a_program_finds_its_task_in_the_environment() {
    let place = Place::with("x\n");
    let names = "$mapreduce_task_ismap $mapreduce_task_partition $mapreduce_job_reduces $mapreduce_job_name";
    let script = format!("sh -c 'cat >/dev/null; echo {names}'");
    let ran = place.ok(&["-mapper", &script, "-reducer", "NONE", "-D", "mapreduce.job.name=n"]);
    assert_eq!(ran.all(), "true 0 0 n\n");
    std::fs::remove_dir_all(place.path("out")).unwrap();
    let ran =
        place.ok(&["-reducer", &script, "-numReduceTasks", "2", "-D", "mapreduce.job.name=n"]);
    assert_eq!(ran.parts, ["false 0 2 n\n", "false 1 2 n\n"]);
}

#[test]
fn job_task_and_attempt_ids_look_like_hadoop_s_and_belong_together() {
    let ids = "$mapreduce_job_id $mapreduce_task_id $mapreduce_task_attempt_id";
    let script = format!("sh -c 'cat >/dev/null; echo {ids}'");
    let ran = Place::with("x\n").ok(&["-mapper", &script]);
    let all = ran.all();
    let [job, task, attempt] = all.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{all}")
    };
    let number = job.strip_prefix("job_").unwrap();
    assert_eq!(task, format!("task_{number}_m_000000"));
    assert_eq!(attempt, format!("attempt_{number}_m_000000_0"));
}

#[test]
fn a_mapper_finds_the_file_start_and_length_of_its_split() {
    let place = Place::with("0123456789\n".repeat(10));
    let names = "$mapreduce_map_input_file $mapreduce_map_input_start $mapreduce_map_input_length";
    let script = format!("sh -c 'cat >/dev/null; echo {names}'");
    let split = ["-D", "mapreduce.input.fileinputformat.split.maxsize=60"];
    let ran = place.ok(&["-mapper", &script, split[0], split[1]]);
    let file = place.text("in/a.txt");
    assert_eq!(ran.all(), format!("{file} 0 60\n{file} 60 50\n"));
}
