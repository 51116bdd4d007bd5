//! Others that run the same programs: what they make, we make. Only where they are installed (`cargo xtask soak`).

use std::process::Command;

use crate::harness::{Place, sorted};

/// madoop (University of Michigan), a clone of Hadoop Streaming: `pip install madoop`.
#[test]
#[ignore = "needs madoop from PyPI; run by cargo xtask soak"]
fn madoop_makes_the_same_output() {
    let place = Place::new();
    for file in 0..3_u32 {
        let text: String = (0..3000)
            .map(|n| format!("word{} ", (n * (file + 7)) % 211))
            .collect::<Vec<_>>()
            .join("\n");
        place.put(&format!("in/t{file}"), text);
    }
    let mapper = place.script("map.sh", "#!/bin/sh\ntr -s ' ' '\\n' | grep . | sed 's/$/\\t1/'\n");
    let reducer = place.script(
        "reduce.sh",
        "#!/bin/sh\nexec awk -F'\\t' '$1 != k { if (NR > 1) print k \"\\t\" n; k = $1; n = 0 } { n += $2 } END { if (NR) print k \"\\t\" n }'\n",
    );
    let theirs = Command::new("madoop")
        .args(["-input", &place.text("in"), "-output", &place.text("theirs")])
        .args(["-mapper", &mapper, "-reducer", &reducer, "-numReduceTasks", "2"])
        .output()
        .expect("madoop is installed (pip install madoop)");
    assert!(theirs.status.success(), "{}", String::from_utf8_lossy(&theirs.stderr));
    let ours = place.ok(&["-mapper", &mapper, "-reducer", &reducer, "-numReduceTasks", "2"]);
    let parts = place.names("theirs");
    let all: String = parts
        .iter()
        .filter(|name| name.starts_with("part-"))
        .map(|name| std::fs::read_to_string(place.path("theirs").join(name)).unwrap())
        .collect();
    assert_eq!(sorted(&ours.all()), sorted(&all));
    assert_eq!(ours.all().lines().count(), 211);
    // Both refuse to write over what is there.
    let again = Command::new("madoop")
        .args(["-input", &place.text("in"), "-output", &place.text("theirs")])
        .args(["-mapper", &mapper, "-reducer", &reducer])
        .output()
        .unwrap();
    assert!(!again.status.success());
    assert!(place.refused(&["-mapper", &mapper]).contains("exists already"));
}
