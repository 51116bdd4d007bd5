//! A binary of jobs, as a user has it: the example runs on files of this machine.
#![expect(clippy::disallowed_methods, reason = "tests look at the files themselves")]

use std::{path::Path, process::Command};

/// The example `visits`, which cargo builds beside the tests.
fn visits() -> Command {
    let plumeria = Path::new(env!("CARGO_BIN_EXE_plumeria"));
    Command::new(plumeria.with_file_name("examples").join("visits"))
}

#[test]
fn a_job_binary_is_its_own_client_and_its_own_workers() {
    let dir = tempfile::tempdir().unwrap();
    let line = |site: &str, hour: u32| {
        format!(
            "{site} 10.0.0.1 - - [10/Oct/2000:{hour:02}:55:36 -0700] \"GET / HTTP/1.0\" 200 1\n"
        )
    };
    let logs = line("b.org", 9).repeat(3) + &line("a.org", 23) + &line("b.org", 0) + "nothing\n";
    std::fs::write(dir.path().join("log"), logs).unwrap();
    let run = |more: &[&str]| {
        let mut command = visits();
        command.args(["run", "--local", "--json", "--reduces", "3"]).args(more);
        command.arg(dir.path().join("log")).arg(dir.path().join("out")).output().unwrap()
    };
    let ran = run(&[]);
    let (told, said) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{told}{said}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["counters"]["visits"]["lines without a time"], 1, "{told}");
    let part =
        |number| std::fs::read_to_string(dir.path().join(format!("out/part-{number:05}"))).unwrap();
    let parts: Vec<String> = (0..3).map(part).filter(|part| !part.is_empty()).collect();
    let mut sites = parts.clone();
    sites.sort();
    let expected = ["a.org\t23\t1\n", "b.org\t0\t1\nb.org\t9\t3\n"];
    assert!(sites == expected || sites == [expected.concat()], "{parts:?}");
    // Refused, as any job whose output is there already.
    let again = run(&[]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stdout).contains("exists already"), "{again:?}");
    let unknown = run(&["--job", "visitors"]);
    assert!(String::from_utf8_lossy(&unknown.stdout).contains("visits"), "{unknown:?}");
}
