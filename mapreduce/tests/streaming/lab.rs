//! The seven behaviours that the classic course tests look at, each with jobs of our own: word count, indexer, map
//! parallelism, reduce parallelism, job count, early exit and crash.

use std::collections::{BTreeMap, BTreeSet};

use mapreduce::{JobSpec, Program};

use crate::harness::{Place, sorted};

fn native(place: &Place, name: &str, arguments: &[&str], reduces: u32) -> JobSpec {
    JobSpec {
        program: Program::Native {
            name: name.to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
        },
        inputs: vec![place.text("in")],
        output: place.text("out"),
        reduces,
        split_bytes: 2000,
        ..JobSpec::default()
    }
}

/// Eight files of words that overlap.
fn texts(place: &Place) -> Vec<(String, String)> {
    let text = |file: u32| {
        (0..400)
            .map(|n| format!("w{}{}", (n * (file + 3)) % 53, if n % 9 == 0 { "\n" } else { " " }))
            .collect()
    };
    let files: Vec<(String, String)> =
        (0..8).map(|file| (format!("t{file}"), text(file))).collect();
    for (name, text) in &files {
        place.put(&format!("in/{name}"), text);
    }
    files
}

/// A script that marks its arrival in a directory and waits until `count` have come.
fn meeting(place: &Place, count: usize) -> String {
    let dir = place.text("met");
    std::fs::create_dir_all(&dir).unwrap();
    place.script(
        "meet",
        &format!(
            "#!/bin/sh\ncat >/dev/null\ntouch {dir}/$$\ni=0\nwhile [ $(ls {dir} | wc -l) -lt {count} ]; do\n  i=$((i+1)); [ $i -gt 400 ] && exit 1\n  sleep 0.05\ndone\necho met\n"
        ),
    )
}

#[test]
fn word_count() {
    let place = Place::new();
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    let files = texts(&place);
    for word in files.iter().flat_map(|(_, text)| text.split_whitespace()) {
        *expected.entry(word).or_default() += 1;
    }
    let ran = place.run_spec(native(&place, "wordcount", &[], 3)).unwrap();
    let lines: Vec<_> = expected.iter().map(|(word, count)| format!("{word}\t{count}")).collect();
    assert_eq!(sorted(&ran.all()), sorted(&lines.join("\n")));
}

#[test]
fn indexer() {
    let place = Place::new();
    let files = texts(&place);
    let mut expected: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, text) in &files {
        text.split_whitespace().for_each(|word| {
            expected.entry(word).or_default().insert(name);
        });
    }
    let ran = place.run_spec(native(&place, "index", &[], 2)).unwrap();
    let line = |(word, names): (&&str, &BTreeSet<&str>)| {
        format!("{word}\t{}", names.iter().copied().collect::<Vec<_>>().join(" "))
    };
    let lines: Vec<_> = expected.iter().map(line).collect();
    assert_eq!(sorted(&ran.all()), sorted(&lines.join("\n")));
}

#[test]
fn map_parallelism() {
    let place = Place::new();
    place.put("in/a", "x\n");
    place.put("in/b", "x\n");
    let script = meeting(&place, 2);
    assert_eq!(place.ok(&["-mapper", &script]).all(), "met\nmet\n");
}

#[test]
fn reduce_parallelism() {
    let place = Place::with("x\n");
    let script = meeting(&place, 2);
    assert_eq!(place.ok(&["-reducer", &script, "-numReduceTasks", "2"]).all(), "met\nmet\n");
}

#[test]
fn job_count() {
    let place = Place::new();
    texts(&place);
    let count = place.text("count");
    let script = format!("sh -c 'cat >/dev/null; echo x >>{count}; sleep 0.05'");
    place.ok(&["-mapper", &script]);
    assert_eq!(std::fs::read_to_string(&count).unwrap().lines().count(), 8);
}

#[test]
fn early_exit() {
    let place = Place::with("a\nb\nc\nd\n");
    // One reduce is much slower than the others; the job must not be over before it.
    let script = "sh -c '[ $mapreduce_task_partition = 1 ] && sleep 1; cat; echo end'";
    let ran = place.ok(&["-reducer", script, "-numReduceTasks", "3"]);
    assert!(ran.parts.iter().all(|part| part.ends_with("end\n")), "{:?}", ran.parts);
    let names = place.names("out");
    assert_eq!(names, ["_SUCCESS", "part-00000", "part-00001", "part-00002"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(place.names("out"), names);
}

#[test]
fn crash() {
    let place = Place::new();
    let files = texts(&place);
    let dir = place.text("seen");
    std::fs::create_dir_all(&dir).unwrap();
    // The first attempts of some tasks kill themselves in the middle, those of others stall.
    let script = place.script(
        "fragile",
        &format!(
            "#!/bin/sh\nme=$mapreduce_task_id\nif mkdir {dir}/$me 2>/dev/null; then\n  case $mapreduce_task_partition in\n    1|4) head -n 3; kill -9 $$;;\n    2) head -n 2; sleep 1000;;\n  esac\nfi\ntr ' ' '\\n' | grep .\n"
        ),
    );
    let options = ["-mapper", &script, "-reducer", "uniq -c", "-D", "mapreduce.task.timeout=700"];
    let ran = place.ok(&options);
    let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
    for word in files.iter().flat_map(|(_, text)| text.split_whitespace()) {
        *expected.entry(word).or_default() += 1;
    }
    let all = ran.all();
    let counted: BTreeMap<&str, u64> = all
        .lines()
        .map(|line| line.trim().split_once(' ').unwrap())
        .map(|(count, word)| (word, count.parse().unwrap()))
        .collect();
    assert_eq!(counted, expected);
    assert_eq!(ran.summary.failures, 3);
}

#[test]
fn grep_keeps_the_order_of_the_input_and_sort_puts_all_parts_in_order() {
    let place = Place::new();
    let lines: Vec<String> =
        (0..3000_u32).map(|n| format!("{:06} line", n.wrapping_mul(7919) % 10_007)).collect();
    place.put("in/a", lines.join("\n"));
    let ran = place.run_spec(native(&place, "grep", &["77"], 0)).unwrap();
    let matching: Vec<_> = lines.iter().filter(|line| line.contains("77")).cloned().collect();
    assert_eq!(ran.all(), matching.join("\n") + "\n");
    assert_eq!(ran.summary.counters.get("grep", "matches"), matching.len() as u64);
    std::fs::remove_dir_all(place.path("out")).unwrap();
    let ran = place.run_spec(native(&place, "sort", &["6", "lines"], 4)).unwrap();
    assert_eq!(ran.all().lines().collect::<Vec<_>>(), sorted(&lines.join("\n")));
    assert!(ran.parts.iter().all(|part| part.len() > 4000), "the ranges are even");
}

#[test]
fn records_of_fixed_length_are_sorted_whole() {
    let place = Place::new();
    let record = |n: u32| format!("{:010}  {:086}\r\n", n.wrapping_mul(2_654_435_761), n);
    let records: Vec<String> = (0..2000).map(record).collect();
    place.put("in/a", records.concat());
    let spec = JobSpec {
        records: mapreduce::Rule::Fixed(100),
        ..native(&place, "sort", &["10", "fixed"], 3)
    };
    let ran = place.run_spec(spec).unwrap();
    let mut expected = records.clone();
    expected.sort();
    assert!(ran.all() == expected.concat());
}

#[test]
fn urls_are_counted() {
    let place = Place::new();
    let line = |url: &str| {
        format!("10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET {url} HTTP/1.0\" 200 1\n")
    };
    place.put("in/1.log", line("/a").repeat(3) + &line("/b"));
    place.put("in/2.log", line("/a") + "no request\n");
    let ran = place.run_spec(native(&place, "urls", &[], 2)).unwrap();
    assert_eq!(sorted(&ran.all()), ["/a\t4", "/b\t1"]);
    assert_eq!(ran.summary.counters.get("urls", "other lines"), 1);
}

#[test]
fn links_are_turned_around() {
    let place = Place::new();
    place.put("in/a.html", "<a href=\"/x\">x</a> <a href='/y#end'>\n<a href=\"/x\">\n");
    place.put("in/b.html", "<p>\n<a href = \"/x\">");
    let ran = place.run_spec(native(&place, "links", &[], 2)).unwrap();
    let (a, b) = (place.text("in/a.html"), place.text("in/b.html"));
    assert_eq!(sorted(&ran.all()), [format!("/x\t{a} {b}"), format!("/y\t{a}")]);
    assert_eq!(ran.summary.counters.get("links", "links"), 4);
}

#[test]
fn the_term_vector_of_a_host_holds_its_most_frequent_words_whichever_document_they_are_from() {
    let place = Place::new();
    place.put("in/1", "http://a.org/1\tred red blue\nhttp://b.org/\tgreen\n");
    place.put("in/2", "https://a.org:80/2\tblue green blue\nhttp://c.org\tx y z\n");
    let spec = || JobSpec { together: false, ..native(&place, "vectors", &["2"], 3) };
    let ran = place.run_spec(spec()).unwrap();
    let expected = ["a.org\tblue:3 red:2", "b.org\tgreen:1", "c.org\tx:1 y:1"];
    assert_eq!(sorted(&ran.all()), expected);
    assert_eq!(ran.summary.counters.get("vectors", "documents"), 4);
}
