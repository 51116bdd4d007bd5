//! A schedule of a whole cluster is the same each time. Which seeds hold every invariant is shown by `cargo xtask sim fs`
//! and `cargo xtask sim cluster`.

use sim::Simulation;
use sim::cluster::{Cluster, Options};

#[test]
fn the_same_seed_gives_the_same_run_of_a_whole_cluster() {
    let run = || format!("{:?}", Cluster::run(1, &Options::default()));
    assert_eq!(run(), run());
}
