//! Jobs written in Rust: the interface they are written against, and those that come with Plumeria.

mod grep;
mod index;
pub(crate) mod raw;
pub(crate) mod sample;
mod sort;
mod wordcount;

use std::{collections::BTreeMap, sync::Arc};

use crate::error::Error;
use raw::RawJob;

/// The native jobs that a worker knows, by name. Cheap to clone.
#[derive(Clone)]
pub struct Programs {
    jobs: Arc<BTreeMap<String, Arc<dyn RawJob>>>,
}

impl std::fmt::Debug for Programs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.jobs.keys()).finish()
    }
}

impl Programs {
    /// Those that come with Plumeria: `wordcount`, `grep`, `index`, `sort`.
    #[must_use]
    pub fn shipped() -> Self {
        let jobs: [(&str, Arc<dyn RawJob>); 4] = [
            ("wordcount", Arc::new(wordcount::WordCount)),
            ("grep", Arc::new(grep::Grep)),
            ("index", Arc::new(index::Index)),
            ("sort", Arc::new(sort::Sort)),
        ];
        let jobs = jobs.into_iter().map(|(name, job)| (name.to_owned(), job)).collect();
        Self { jobs: Arc::new(jobs) }
    }

    /// These and one more.
    #[must_use]
    pub fn with(&self, name: &str, job: Arc<dyn RawJob>) -> Self {
        let mut jobs = self.jobs.as_ref().clone();
        jobs.insert(name.to_owned(), job);
        Self { jobs: Arc::new(jobs) }
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<dyn RawJob>, Error> {
        self.jobs.get(name).cloned().ok_or_else(|| Error::NoProgram(name.to_owned()))
    }
}
