//! Standbys on a worker: for each job whose coordinator asks for it, a replica of its machine that follows the journal,
//! and a candidacy. When the coordinator is lost, the replica reads the rest and goes on in its place. How a job is
//! driven is not known here.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;
use world::{Task, World};

use super::{ballots::Candidacy, ballots::Term, chain::Replica};
use crate::{
    error::Error,
    job::{self, Cluster, output},
    proto,
};

/// How long one look at the election takes.
const LOOK: Duration = Duration::from_secs(2);
/// Before something that failed is tried again.
const BACK_OFF: Duration = Duration::from_millis(500);
/// A coordinator that cannot be replaced for so long after it was lost is not replaced by this worker.
const TRIES: u32 = 120;

/// How far a standby is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Followed {
    pub(crate) term: Term,
    pub(crate) length: u64,
    /// What it found that must not be; empty: nothing.
    pub(crate) diverged: String,
}

/// A job that this worker is a standby of.
struct Following {
    /// Whose journal is to be followed, and how far.
    wanted: watch::Sender<(Term, u64)>,
    followed: Arc<Mutex<Followed>>,
    task: Task,
}

/// The standbys of one worker.
pub(crate) struct Standbys {
    world: World,
    cluster: Cluster,
    name: String,
    jobs: Mutex<BTreeMap<u64, Following>>,
}

impl Drop for Standbys {
    fn drop(&mut self) {
        self.jobs.lock().values().for_each(|following| following.task.abort());
    }
}

impl Standbys {
    pub(crate) fn new(world: &World, cluster: &Cluster, name: &str) -> Arc<Self> {
        Arc::new(Self {
            world: world.clone(),
            cluster: cluster.clone(),
            name: name.to_owned(),
            jobs: Mutex::default(),
        })
    }

    /// The coordinator of a job wants this worker as a standby; tells how far it is.
    pub(crate) fn follow(
        self: &Arc<Self>,
        job: u64,
        term: Term,
        wanted: &proto::Standby,
    ) -> Followed {
        let mut jobs = self.jobs.lock();
        let following = jobs.entry(job).or_insert_with(|| {
            let (sender, receiver) = watch::channel((term, 0));
            let followed = Arc::<Mutex<Followed>>::default();
            let standby = Standby {
                standbys: Arc::downgrade(self),
                world: self.world.clone(),
                cluster: self.cluster.clone(),
                name: self.name.clone(),
                job,
                output: wanted.output.clone(),
                wanted: receiver,
                followed: followed.clone(),
            };
            let task = self.world.spawn("job-standby", standby.run());
            Following { wanted: sender, followed, task }
        });
        following.wanted.send_if_modified(|known| {
            let next = (term, wanted.length).max(*known);
            std::mem::replace(known, next) != next
        });
        following.followed.lock().clone()
    }

    /// The job is over, or its coordinator has enough standbys without this one.
    pub(crate) fn leave(&self, job: u64) {
        // Its candidacy is resigned by its task.
        if let Some(following) = self.jobs.lock().get(&job) {
            following.wanted.send_replace((Term(u64::MAX), 0));
        }
    }
}

/// One standby.
struct Standby {
    standbys: Weak<Standbys>,
    world: World,
    cluster: Cluster,
    name: String,
    job: u64,
    output: String,
    wanted: watch::Receiver<(Term, u64)>,
    followed: Arc<Mutex<Followed>>,
}

/// What a standby found.
enum Found {
    /// It leads.
    Leads,
    /// Nobody needs it any more.
    Over,
}

impl Standby {
    async fn run(mut self) {
        if let Some(ballots) = self.cluster.ballots.clone() {
            let candidacy = loop {
                match ballots.stand(self.job, &self.name).await {
                    Ok(candidacy) => break candidacy,
                    Err(error) => tracing::warn!(%error, "a standby cannot stand for election"),
                }
                if self.is_over() {
                    return self.forget();
                }
                self.world.clock.sleep(BACK_OFF).await;
            };
            self.stand(candidacy).await;
        }
        self.forget();
    }

    fn is_over(&self) -> bool {
        self.wanted.borrow().0 == Term(u64::MAX)
    }

    fn forget(&self) {
        if let Some(standbys) = self.standbys.upgrade() {
            standbys.jobs.lock().remove(&self.job);
        }
    }

    async fn stand(&mut self, candidacy: Box<dyn Candidacy>) {
        let mut replica = Replica::new(&self.cluster.files, self.job, &self.output);
        self.follow(&mut replica).await;
        match self.wait(candidacy.as_ref(), &mut replica).await {
            Found::Over => candidacy.resign().await,
            Found::Leads => self.lead(candidacy, replica).await,
        }
    }

    /// Follows the journal until it leads.
    async fn wait(&mut self, candidacy: &dyn Candidacy, replica: &mut Replica) -> Found {
        let world = self.world.clone();
        let mut leading = Box::pin(candidacy.lead(LOOK));
        loop {
            let led = tokio::select! {
                biased;
                led = &mut leading => Some(led),
                changed = self.wanted.changed() => match changed {
                    Ok(()) => None,
                    Err(_) => return Found::Over,
                },
            };
            if self.is_over() {
                return Found::Over;
            }
            match led {
                Some(Ok(true)) => return Found::Leads,
                Some(Ok(false)) => leading = Box::pin(candidacy.lead(LOOK)),
                Some(Err(error)) => {
                    tracing::warn!(%error, "a standby cannot see who leads");
                    world.clock.sleep(BACK_OFF).await;
                    leading = Box::pin(candidacy.lead(LOOK));
                }
                None => self.follow(replica).await,
            }
        }
    }

    async fn follow(&mut self, replica: &mut Replica) {
        let (term, length) = *self.wanted.borrow_and_update();
        // Before there is a journal, it is enough to stand for election.
        let (at, done) = match length {
            0 => ((term, 0), Ok(())),
            _ => {
                let done = replica.follow(term, length).await;
                (replica.position(), done)
            }
        };
        let mut followed = self.followed.lock();
        (followed.term, followed.length) = at;
        match done {
            Ok(()) => {}
            // The coordinator stops the job when it hears of it.
            Err(error @ (Error::Diverged { .. } | Error::Journal(_))) => {
                followed.diverged = error.to_string();
            }
            Err(error) => tracing::warn!(%error, "a standby cannot follow"),
        }
    }

    /// Goes on in place of the coordinator that was lost.
    async fn lead(&self, candidacy: Box<dyn Candidacy>, mut replica: Replica) {
        let term = candidacy.term();
        for tries in 1.. {
            match self.catch_up(&mut replica, term).await {
                Ok(true) => break,
                Ok(false) => return candidacy.resign().await,
                // The files of the lost coordinator are given back when its session was recovered.
                Err(error) if tries <= TRIES => {
                    tracing::warn!(%error, job = self.job, "its journal cannot be read yet");
                    self.world.clock.sleep(BACK_OFF).await;
                    replica = Replica::new(&self.cluster.files, self.job, &self.output);
                }
                Err(error) => {
                    tracing::error!(%error, job = self.job, "its coordinator is not replaced");
                    return candidacy.resign().await;
                }
            }
        }
        tracing::warn!(
            job = self.job,
            term = term.0,
            "its coordinator was lost: this worker leads"
        );
        let Some(machine) = replica.position_and_machine() else {
            return candidacy.resign().await;
        };
        match job::resume(&self.world, &self.cluster, term, machine).await {
            Ok(summary) => {
                tracing::warn!(job = self.job, elapsed = ?summary.elapsed, "it is done");
            }
            Err(error) => tracing::error!(%error, job = self.job, "it failed"),
        }
        candidacy.resign().await;
    }

    /// Reads what is left of the journal; `false` if there is nothing to lead: what the lost coordinator could not remove
    /// is removed then.
    async fn catch_up(&self, replica: &mut Replica, term: Term) -> Result<bool, Error> {
        let (files, output, job) = (self.cluster.files.as_ref(), &self.output, self.job);
        match replica.catch_up(term).await {
            Ok(Some(())) => return Ok(true),
            Ok(None) => {
                tracing::debug!(job, "the job is over: nothing to lead");
                output::tidy(files, output, job).await?;
            }
            Err(error @ (Error::Diverged { .. } | Error::Journal(_))) => {
                tracing::error!(%error, job, output, "the job stops");
                output::discard(files, output, job).await?;
            }
            Err(error @ Error::NoJob(_)) => {
                tracing::warn!(%error, output, "another job writes there");
                let failed = |error| Error::files(format!("tidying up beside {output}"), error);
                output::forget(files, output, job).await.map_err(failed)?;
            }
            Err(error) => return Err(error),
        }
        Ok(false)
    }
}
