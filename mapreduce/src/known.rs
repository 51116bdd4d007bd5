//! Looking at jobs from outside: every worker keeps what the coordinators of its jobs last said of them. How a job is
//! run is not known here.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    error::Error,
    peers::{Peers, Place},
    progress::View,
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

/// The jobs that run and those that ended not long ago, as the workers know them.
///
/// # Errors
/// [`Error::NoWorkers`] if none answers.
pub async fn jobs(peers: &Peers, workers: &[Place]) -> Result<Vec<Known>, Error> {
    let mut known: BTreeMap<u64, Known> = BTreeMap::new();
    let mut answered = false;
    for place in workers {
        let Ok(service) = peers.get(place) else { continue };
        let Ok(reply) = service.jobs().await else { continue };
        answered = true;
        for row in reply.jobs {
            let one = Known {
                id: row.job,
                view: serde_json::from_slice(&row.view).unwrap_or_default(),
                over: row.over,
                age: Duration::from_millis(row.age_ms),
            };
            // The latest account is the right one; an end is final.
            let entry = known.entry(row.job).or_insert_with(|| one.clone());
            if (one.over, entry.age) > (entry.over, one.age) {
                *entry = one;
            }
        }
    }
    if !answered {
        let places: Vec<_> = workers.iter().map(ToString::to_string).collect();
        return Err(Error::NoWorkers(places.join(", ")));
    }
    Ok(known.into_values().collect())
}

/// The job whose number begins with `name` (as shown, `job_` and `_0001` may be around it).
///
/// # Errors
/// [`Error::NoJob`] if there is none or more than one, [`Error::NoWorkers`].
pub async fn find(peers: &Peers, workers: &[Place], name: &str) -> Result<Known, Error> {
    let digits = name.trim_start_matches("job_").trim_end_matches("_0001");
    let all = jobs(peers, workers).await?;
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

/// What the programs of a job said on standard error.
///
/// # Errors
/// If a worker cannot read its logs.
pub async fn logs(peers: &Peers, workers: &[Place], id: u64) -> Result<Vec<Log>, Error> {
    let mut logs = Vec::new();
    for place in workers {
        let Ok(service) = peers.get(place) else { continue };
        let here = service.logs(id).await?.logs.into_iter();
        let place = place.clone();
        logs.extend(here.map(|log| Log { place: place.clone(), label: log.label, text: log.text }));
    }
    logs.sort_by(|a, b| a.label.cmp(&b.label));
    Ok(logs)
}
