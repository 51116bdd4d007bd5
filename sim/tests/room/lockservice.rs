//! Some dozen schedules of the lock service, and proof that they show what they are for.

use sim::lockservice::Lockservice;
use sim::raft::Options;
use sim::{Report, Simulation};

#[test]
fn forty_schedules_hold_every_invariant_and_every_waiter_gets_its_lock() {
    let mut total = Report::default();
    for seed in 0..40 {
        match Lockservice::run(seed, &Options::default()) {
            Ok(report) => total.add(&report),
            Err(error) => {
                panic!("{error}; replay: cargo xtask sim lockservice --seeds {seed}..{}", seed + 1)
            }
        }
    }
    for (name, n) in total.judged.iter().filter(|(name, _)| name.starts_with('L')) {
        assert!(*n > 100, "{name} was hardly judged: {n}");
    }
    assert_eq!(total.judged.keys().filter(|name| name.starts_with('L')).count(), 5);
    let least = [
        ("call or answer lost", 100),
        ("call repeated", 50),
        ("client cut off", 50),
        ("client frozen", 50),
        ("client killed", 30),
        ("stream cut", 5),
        ("crash", 10),
        ("partition", 100),
        ("pause", 10),
        ("lock group moved", 100),
        ("shard under another leader", 50),
    ];
    for (fault, least) in least {
        let n = total.faults.get(fault).copied().unwrap_or_default();
        assert!(n >= least, "{fault} hardly ever struck: {n}");
    }
    let least = [
        ("schedules", 40),
        ("grants", 1_000),
        ("operations of the registry", 300),
        ("sessions recovered", 100),
        ("sessions that found themselves expired", 40),
        ("leaders elected", 100),
        ("moves of lock groups recorded", 100),
        ("sessions that came to their end at another shard", 100),
    ];
    for (what, least) in least {
        let n = total.of(what);
        assert!(n >= least, "{what}: {n}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let options = Options { lines: Some(100_000), ..Options::default() };
    for seed in [1, 77] {
        let (first, second) =
            (Lockservice::trace(seed, &options), Lockservice::trace(seed, &options));
        assert_eq!(first.1, second.1);
        assert_eq!(first.0.unwrap().counts, second.0.unwrap().counts);
    }
}
