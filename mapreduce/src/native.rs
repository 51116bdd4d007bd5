//! The native jobs that come with Plumeria, written against the typed interface of [`crate::api`], and what tasks see
//! of any native job: functions on bytes. Which jobs are submitted is not known here.

mod distinct;
mod frequency;
mod grep;
mod index;
mod links;
pub(crate) mod raw;
pub(crate) mod sample;
mod sort;
mod urls;
mod vectors;
mod wordcount;

use crate::api::Programs;

impl Programs {
    /// Those that come with Plumeria: `wordcount`, `grep`, `index`, `sort`, `urls`, `links`, `vectors`.
    #[must_use]
    pub fn shipped() -> Self {
        Self::default()
            .with("wordcount", frequency::job::<wordcount::Words>)
            .with("grep", grep::job)
            .with("index", index::job)
            .with("sort", sort::job)
            .with("urls", frequency::job::<urls::Urls>)
            .with("links", links::job)
            .with("vectors", vectors::job)
    }
}
