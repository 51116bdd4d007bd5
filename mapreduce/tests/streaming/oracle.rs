//! Others that run the same programs: what they make, we make. `scripts/job-oracles` installs them beside the build; where
//! they are not, the tests are skipped, but never in CI.

use std::{path::PathBuf, process::Command};

use crate::harness::{Place, sorted};

/// A program of `scripts/job-oracles`; none: to be skipped.
#[expect(clippy::print_stderr, reason = "what was not compared must be seen")]
fn oracle(name: &str) -> Option<Command> {
    let here = std::env::current_exe().unwrap();
    // The tests lie in `release/deps` of the target directory.
    let target = here.ancestors().nth(3).map(PathBuf::from).unwrap_or_default();
    let program = target.join("oracles/jobs/bin").join(name);
    if program.exists() {
        return Some(Command::new(program));
    }
    let missing = format!("{} is not there: scripts/job-oracles installs it", program.display());
    assert!(std::env::var_os("CI").is_none(), "{missing}");
    eprintln!("skipped: {missing}");
    None
}

/// Three files of words.
fn words(place: &Place) {
    for file in 0..3_u32 {
        let word = |n: u32| format!("word{} ", (n * (file + 7)) % 211);
        let text: Vec<String> = (0..3000).map(word).collect();
        place.put(&format!("in/t{file}"), text.join("\n"));
    }
}

/// A mapper and a reducer that count words.
fn count(place: &Place) -> (String, String) {
    let mapper = place.script("map.sh", "#!/bin/sh\ntr -s ' ' '\\n' | grep . | sed 's/$/\\t1/'\n");
    let reducer = place.script(
        "reduce.sh",
        "#!/bin/sh\nexec awk -F'\\t' '$1 != k { if (NR > 1) print k \"\\t\" n; k = $1; n = 0 } { n += $2 } END { if (NR) print k \"\\t\" n }'\n",
    );
    (mapper, reducer)
}

/// madoop (University of Michigan), a clone of Hadoop Streaming.
#[test]
fn madoop_makes_the_same_output() {
    let Some(mut madoop) = oracle("madoop") else { return };
    let place = Place::new();
    words(&place);
    let (mapper, reducer) = count(&place);
    let (from, to) = (place.text("in"), place.text("theirs"));
    let options = ["-mapper", &mapper, "-reducer", &reducer, "-numReduceTasks", "2"];
    madoop.args(["-input", &from, "-output", &to]).args(options);
    let theirs = madoop.output().unwrap();
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    let ours = place.ok(&options);
    let parts = place.names("theirs");
    let all: String = parts
        .iter()
        .filter(|name| name.starts_with("part-"))
        .map(|name| std::fs::read_to_string(place.path("theirs").join(name)).unwrap())
        .collect();
    assert_eq!(sorted(&ours.all()), sorted(&all));
    assert_eq!(ours.all().lines().count(), 211);
    // Both refuse to write over what is there.
    assert!(!madoop.output().unwrap().status.success());
    assert!(place.refused(&["-mapper", &mapper]).contains("exists already"));
}

/// mrjob (Yelp), Hadoop Streaming in Python, with its local runner: a combiner, and lines through commands.
#[test]
fn mrjob_makes_the_same_output() {
    let Some(mut python) = oracle("python") else { return };
    let place = Place::new();
    words(&place);
    let (mapper, reducer) = count(&place);
    let job = format!(
        "from mrjob.job import MRJob\n\nclass Count(MRJob):\n    def mapper_cmd(self):\n        return {mapper:?}\n    def combiner_cmd(self):\n        return {reducer:?}\n    def reducer_cmd(self):\n        return {reducer:?}\n\nif __name__ == '__main__':\n    Count.run()\n"
    );
    place.put("count.py", job);
    python.arg(place.text("count.py")).args(["-r", "local", "--no-conf"]).arg(place.text("in"));
    let theirs = python.output().unwrap();
    let said = String::from_utf8_lossy(&theirs.stderr);
    assert!(theirs.status.success(), "{said}");
    let ours = place.ok(&["-mapper", &mapper, "-combiner", &reducer, "-reducer", &reducer]);
    assert_eq!(sorted(&ours.all()), sorted(&String::from_utf8_lossy(&theirs.stdout)));
    assert_eq!(ours.all().lines().count(), 211);
}
