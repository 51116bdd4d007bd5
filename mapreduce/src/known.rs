//! Looking at jobs from outside: every worker keeps what the coordinators of its jobs last said of them, and reads in the
//! file system what is kept of those that are over. How a job is run is not known here.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::{
    error::Error,
    peers::{Peers, Place},
    progress::View,
    proto::JobRow,
};

/// A job that workers know.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its number.
    pub id: u64,
    /// Its last account of itself.
    pub view: View,
    /// It has ended.
    pub over: bool,
    /// Since it was heard of, or ended.
    pub age: Duration,
}

/// What a program of a job said on standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// The worker.
    pub place: Place,
    /// Kind, number and attempt of the task: `m-00003-0`.
    pub label: String,
    /// The end of what was said.
    pub text: Vec<u8>,
}

impl From<JobRow> for Known {
    fn from(row: JobRow) -> Self {
        Self {
            id: row.job,
            view: serde_json::from_slice(&row.view).unwrap_or_default(),
            over: row.over,
            age: Duration::from_millis(row.age_ms),
        }
    }
}

fn nobody(workers: &[Place]) -> Error {
    let places: Vec<_> = workers.iter().map(ToString::to_string).collect();
    Error::NoWorkers(places.join(", "))
}

/// The jobs that run, as the workers know them.
///
/// # Errors
/// [`Error::NoWorkers`] if none answers.
pub async fn jobs(peers: &Peers, workers: &[Place]) -> Result<Vec<Known>, Error> {
    let mut known: BTreeMap<u64, Known> = BTreeMap::new();
    let mut answered = false;
    for place in workers {
        let Ok(service) = peers.get(place) else { continue };
        let Ok(reply) = service.jobs(false).await else { continue };
        answered = true;
        for one in reply.jobs.into_iter().map(Known::from) {
            // The latest account is the right one.
            let entry = known.entry(one.id).or_insert_with(|| one.clone());
            if one.age < entry.age {
                *entry = one;
            }
        }
    }
    if answered { Ok(known.into_values().collect()) } else { Err(nobody(workers)) }
}

/// The jobs that ended not long ago, the latest last. They are kept in the file system: any worker knows them all.
///
/// # Errors
/// [`Error::NoWorkers`] if none answers.
pub async fn history(peers: &Peers, workers: &[Place]) -> Result<Vec<Known>, Error> {
    for place in workers {
        let Ok(service) = peers.get(place) else { continue };
        if let Ok(reply) = service.jobs(true).await {
            return Ok(reply.jobs.into_iter().map(Known::from).collect());
        }
    }
    Err(nobody(workers))
}

/// The job whose number begins with `name` (as shown, `job_` and `_0001` may be around it).
///
/// # Errors
/// [`Error::NoJob`] if there is none or more than one, [`Error::NoWorkers`].
pub async fn find(peers: &Peers, workers: &[Place], name: &str) -> Result<Known, Error> {
    let digits = name.trim_start_matches("job_").trim_end_matches("_0001");
    let mut all = history(peers, workers).await?;
    let over: BTreeSet<_> = all.iter().map(|job| job.id).collect();
    // An end is final, whatever a worker that has not heard of it says.
    all.extend(jobs(peers, workers).await?.into_iter().filter(|job| !over.contains(&job.id)));
    let mut fitting = all.into_iter().filter(|job| format!("{:016x}", job.id).starts_with(digits));
    match (fitting.next(), fitting.next()) {
        (Some(only), None) if !digits.is_empty() => Ok(only),
        _ => Err(Error::NoJob(name.to_owned())),
    }
}

/// Has a job ended: its coordinator stops it and removes its output.
///
/// # Errors
/// [`Error::NoJob`] if no worker knows it.
pub async fn kill(peers: &Peers, workers: &[Place], id: u64) -> Result<(), Error> {
    let mut known = false;
    for place in workers {
        if let Ok(service) = peers.get(place) {
            known |= service.kill(id).await.unwrap_or(false);
        }
    }
    if known { Ok(()) } else { Err(Error::NoJob(format!("{id:016x}"))) }
}

/// What the programs of a job said on standard error: in attempts that have ended, from the file system, and in those that
/// run, from workers that answer.
///
/// # Errors
/// [`Error::NoWorkers`] if none answers.
pub async fn logs(peers: &Peers, workers: &[Place], id: u64) -> Result<Vec<Log>, Error> {
    let mut logs: BTreeMap<(String, Place), Log> = BTreeMap::new();
    let mut kept = false;
    for place in workers {
        let Ok(service) = peers.get(place) else { continue };
        let mut said = Vec::new();
        if !kept && let Ok(reply) = service.logs(id, true).await {
            kept = true;
            said = reply.logs;
        }
        if let Ok(reply) = service.logs(id, false).await {
            said.extend(reply.logs);
        }
        for log in said {
            let place = if log.place.is_empty() { place.clone() } else { Place(log.place) };
            let of = (log.label.clone(), place.clone());
            logs.entry(of).or_insert(Log { place, label: log.label, text: log.text });
        }
    }
    if kept || !logs.is_empty() { Ok(logs.into_values().collect()) } else { Err(nobody(workers)) }
}
