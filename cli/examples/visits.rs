//! A job binary: visits of web sites by site and hour of the day, from logs whose lines begin with the site and go on in
//! the Common Log Format. The hours of a site come in their order, all in one part.
//!
//! ```text
//! visits run --local LOGS OUT            on files of this machine
//! visits run MOUNT/logs MOUNT/visits     on a cluster's files, with workers of its own
//! ```

use plumeria_cli::mapreduce::{
    Emitter, Error, Job, Mapper, Partitioner, Record, Text, TextLines, Total,
};

/// Site and hour.
type SiteHour = (Text, u32);

#[derive(Clone)]
struct Visits;

/// The hour of `SITE ... [10/Oct/2000:13:55:36 -0700] ...`.
fn hour(line: &str) -> Option<u32> {
    let (_, time) = line.split_once('[')?;
    time.split(':').nth(1)?.parse().ok().filter(|hour| *hour < 24)
}

impl Mapper for Visits {
    type Input = TextLines;
    type Key = SiteHour;
    type Value = u64;

    fn map(
        &mut self,
        record: &Record<'_, TextLines>,
        out: &mut Emitter<'_, SiteHour, u64>,
    ) -> Result<(), Error> {
        let site = record.data.split(' ').next().unwrap_or_default();
        match hour(record.data) {
            Some(hour) => out.emit((site, hour), 1),
            None => {
                out.count("visits", "lines without a time", 1);
                Ok(())
            }
        }
    }
}

/// All hours of a site in one part.
struct BySite;

impl Partitioner<SiteHour> for BySite {
    fn partition(&self, (site, _): (&str, u32), partitions: u32) -> u32 {
        let hash = |hash: u32, byte| hash.wrapping_mul(31).wrapping_add(u32::from(byte));
        site.bytes().fold(7, hash) % partitions
    }
}

fn visits(_: &[String]) -> Result<Job, Error> {
    Ok(Job::of(Visits, Total::default()).sum().partition(BySite).into())
}

plumeria_cli::main! { "visits" => visits }
