//! All that was journalled of a job, whoever led it: the journals of its coordinators, each up to where the next one
//! went on, replayed into one machine. Who leads now is not known here.

use std::sync::Arc;

use super::{
    ballots::Term,
    journal::{self, Begin, Entry, Tail},
};
use crate::{error::Error, files::Files, job::machine::Machine, spec::JobSpec};

/// An entry that names the journal before is shorter.
const CONTINUED: u64 = 4096;

/// A machine that was told what the journals say.
pub(crate) struct Replica {
    files: Arc<dyn Files>,
    job: u64,
    output: String,
    /// Whose journal is read.
    term: Term,
    tail: Tail,
    /// None before the job's first entry.
    machine: Option<(Begin, Machine)>,
    entries: u64,
}

impl Replica {
    /// The replica of a job with this output directory, which has read nothing yet.
    pub(crate) fn new(files: &Arc<dyn Files>, job: u64, output: &str) -> Self {
        let term = Term::default();
        let tail = Tail::new(String::new());
        let (files, output) = (files.clone(), output.to_owned());
        Self { files, job, output, term, tail, machine: None, entries: 0 }
    }

    /// Where it is: whose journal, and how many bytes of it it has.
    pub(crate) fn position(&self) -> (Term, u64) {
        (self.term, self.tail.taken())
    }

    /// Follows the journal of `term` up to `length` bytes; an earlier one first, if it has not read it.
    pub(crate) async fn follow(&mut self, term: Term, length: u64) -> Result<(), Error> {
        if self.term == term {
            return self.take(length).await;
        }
        // From the last journal back to where this replica is.
        let mut path = vec![(term, length)];
        let mut at = term;
        while let Some((after, length)) = self.before(at).await? {
            path.push((after, length));
            if after == self.term {
                break;
            }
            at = after;
        }
        if self.machine.is_some() && path.last().map(|(term, _)| *term) != Some(self.term) {
            return Err(Error::Journal(format!(
                "the journal of term {} does not go on from that of term {}",
                term.0, self.term.0
            )));
        }
        let mut before = 0;
        for (number, (term, length)) in path.into_iter().rev().enumerate() {
            if self.term != term {
                if number > 0 && self.tail.taken() != before {
                    return Err(Error::Journal(format!(
                        "term {} goes on behind byte {before} of the journal of term {}, whose entries end at byte {}",
                        term.0,
                        self.term.0,
                        self.tail.taken()
                    )));
                }
                self.term = term;
                self.tail = Tail::new(journal::path(&self.output, term));
            }
            self.take(length).await?;
            before = length;
        }
        Ok(())
    }

    /// The journal before that of `term`, and how much of it counts.
    async fn before(&self, term: Term) -> Result<Option<(Term, u64)>, Error> {
        let mut tail = Tail::new(journal::path(&self.output, term));
        // The begin of a job is longer than that, or is not wanted here.
        match tail.take(self.files.as_ref(), CONTINUED).await?.first() {
            Some(Entry::Continued { after, length }) => Ok(Some((*after, *length))),
            _ => Ok(None),
        }
    }

    /// Takes what is in the present journal up to `length` bytes.
    async fn take(&mut self, length: u64) -> Result<(), Error> {
        for entry in self.tail.take(self.files.as_ref(), length).await? {
            self.entries += 1;
            match (entry, &mut self.machine) {
                // Its output was removed, and another has taken the place.
                (Entry::Begin(begin), _) if begin.job != self.job => {
                    return Err(Error::NoJob(format!("{:016x}", self.job)));
                }
                (Entry::Begin(begin), none @ None) => {
                    let spec = JobSpec::decode(&begin.spec)?;
                    let machine = Machine::new(&spec, &begin.splits, &begin.workers);
                    *none = Some((*begin, machine));
                }
                (Entry::Continued { .. }, Some(_)) => {}
                (Entry::Told { at, event, counters, digest }, Some((_, machine))) => {
                    let shown = format!("{event:?}");
                    machine.apply(world::Time(at), event, counters);
                    if machine.digest() != digest {
                        return Err(Error::Diverged { entry: self.entries, event: shown });
                    }
                }
                (entry, _) => {
                    return Err(Error::Journal(format!("{entry:?} is out of place")));
                }
            }
        }
        Ok(())
    }

    /// Reads everything that any coordinator before `term` has left; `None` if there is no journal: the job is over.
    pub(crate) async fn catch_up(&mut self, term: Term) -> Result<Option<()>, Error> {
        let directory = journal::directory(&self.output);
        let failed = |error| Error::files(format!("listing {directory}"), error);
        let Some(stat) = self.files.stat(&directory).await.map_err(failed)? else {
            return Ok(None);
        };
        let mut terms = Vec::new();
        for line in self.files.list(stat.ino).await.map_err(failed)? {
            let name = std::str::from_utf8(&line.name).ok();
            terms.extend(name.and_then(|name| name.parse().ok()).map(Term));
        }
        terms.retain(|before| *before < term);
        terms.sort_unstable();
        while let Some(last) = terms.pop() {
            // One that died before its first entry was durable has changed nothing.
            let mut tail = Tail::new(journal::path(&self.output, last));
            if tail.take(self.files.as_ref(), u64::MAX).await?.is_empty() {
                continue;
            }
            self.follow(last, u64::MAX).await?;
            return Ok(Some(()));
        }
        Ok(None)
    }

    /// The job, its machine, and where its journals end.
    pub(crate) fn position_and_machine(self) -> Option<(Begin, Machine, (Term, u64))> {
        let at = self.position();
        self.machine.map(|(begin, machine)| (begin, machine, at))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use world::{Time, World};

    use super::Replica;
    use crate::{
        error::Error,
        failover::{
            ballots::Term,
            journal::{Begin, Entry, Journal},
        },
        files::Files,
        input::plan::Split,
        job::machine::Machine,
        local::LocalFiles,
        scheduler::{Event, WorkerNo},
        spec::JobSpec,
    };

    struct Place {
        files: Arc<dyn Files>,
        output: String,
        begin: Begin,
        _dir: tempfile::TempDir,
    }

    impl Place {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let output = dir.path().join("out").display().to_string();
            let files: Arc<dyn Files> = Arc::new(LocalFiles::new(&World::real()));
            let splits = vec![Split::default(); 3];
            let begin = Begin::new(7, JobSpec::default().encode(), splits, vec!["w".to_owned()]);
            Self { files, output, begin, _dir: dir }
        }

        fn machine(&self) -> Machine {
            Machine::new(&JobSpec::default(), &self.begin.splits, &self.begin.workers)
        }

        fn first(&self) -> Entry {
            Entry::Begin(Box::new(self.begin.clone()))
        }

        async fn journal(&self, term: u64, first: &Entry) -> Journal {
            Journal::create(&self.files, &self.output, Term(term), first).await.unwrap()
        }

        /// Tells the machine, and the journal what came of it.
        async fn tell(&self, machine: &mut Machine, journal: &mut Journal, slots: u32) {
            let event =
                Event::Joined { worker: WorkerNo(slots), incarnation: 1, slots, node: None };
            let at = machine.at().0 + 1;
            machine.apply(Time(at), event.clone(), None);
            let digest = machine.digest();
            journal.append(&Entry::Told { at, event, counters: None, digest }).unwrap();
            journal.commit().await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_replica_that_follows_is_where_the_machine_is_whoever_leads() {
        let place = Place::new();
        let mut machine = place.machine();
        let mut first = place.journal(1, &place.first()).await;
        let mut replica = Replica::new(&place.files, 7, &place.output);
        for slots in 1..4 {
            place.tell(&mut machine, &mut first, slots).await;
            replica.follow(Term(1), first.durable()).await.unwrap();
            assert_eq!(replica.position(), (Term(1), first.durable()));
        }
        // What it wrote after that counts for nobody: its successor went on before.
        let length = first.durable();
        place.tell(&mut place.machine(), &mut first, 9).await;
        // One that died at once left nothing.
        place.files.create(&crate::failover::journal::path(&place.output, Term(4))).await.unwrap();
        let continued = Entry::Continued { after: Term(1), length };
        let mut second = place.journal(5, &continued).await;
        place.tell(&mut machine, &mut second, 4).await;
        replica.follow(Term(5), second.durable()).await.unwrap();
        let mut late = Replica::new(&place.files, 7, &place.output);
        assert_eq!(late.catch_up(Term(6)).await.unwrap(), Some(()));
        assert_eq!(late.position(), (Term(5), second.durable()));
        for replica in [replica, late] {
            let (begin, replayed, _) = replica.position_and_machine().unwrap();
            assert_eq!((begin, replayed.digest()), (place.begin.clone(), machine.digest()));
        }
    }

    #[tokio::test]
    async fn a_replay_that_leads_to_something_else_is_told_with_its_entry() {
        let place = Place::new();
        let mut journal = place.journal(1, &place.first()).await;
        let event = Event::Joined { worker: WorkerNo(0), incarnation: 1, slots: 1, node: None };
        journal.append(&Entry::Told { at: 1, event, counters: None, digest: 12345 }).unwrap();
        journal.commit().await.unwrap();
        let mut replica = Replica::new(&place.files, 7, &place.output);
        let error = replica.catch_up(Term(2)).await.unwrap_err();
        assert!(matches!(error, Error::Diverged { entry: 2, .. }), "{error}");
        assert!(error.to_string().contains("Joined"), "{error}");
    }

    #[tokio::test]
    async fn the_journal_of_another_job_in_the_same_place_is_left_alone() {
        let place = Place::new();
        place.journal(1, &place.first()).await;
        let mut replica = Replica::new(&place.files, 8, &place.output);
        let error = replica.catch_up(Term(2)).await.unwrap_err();
        assert!(matches!(error, Error::NoJob(_)), "{error}");
    }

    #[tokio::test]
    async fn without_a_journal_there_is_nothing_to_go_on_with() {
        let place = Place::new();
        let mut replica = Replica::new(&place.files, 7, &place.output);
        assert_eq!(replica.catch_up(Term(2)).await.unwrap(), None);
        assert!(replica.position_and_machine().is_none());
    }
}
