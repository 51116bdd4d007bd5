//! What a job is: the description that is submitted, sent to the workers and kept in the journal. What is
//! done with it is not known here.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    input::record::Rule,
    shuffle::{
        fields::Fields,
        order::{Order, Partitioner},
    },
    streaming::Streaming,
};

/// The most partitions that a job may have.
pub(crate) const REDUCES_MAX: u32 = 10_000;

/// How records get from maps to reduces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shuffle {
    pub(crate) order: Order,
    pub(crate) partitioner: Partitioner,
}

impl Shuffle {
    /// Keys in the order of their bytes, spread by ranges: `begins` are the keys with which the second and later
    /// partitions begin. The parts of the output are then in total order.
    #[must_use]
    pub fn ranges(mut begins: Vec<Vec<u8>>) -> Self {
        begins.sort();
        Self { order: Order::Bytes, partitioner: Partitioner::Ranges(begins) }
    }

    /// Keys in the order of their bytes, spread as Hadoop spreads Text keys.
    #[must_use]
    pub fn hadoop() -> Self {
        Self { order: Order::Bytes, partitioner: Partitioner::Hadoop }
    }

    pub(crate) fn sort_by(&mut self, fields: Fields) {
        self.order = Order::Fields(fields);
    }

    pub(crate) fn spread_by(&mut self, fields: Fields) {
        self.partitioner = Partitioner::Fields(fields);
    }
}

/// What a job does with its input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Program {
    /// A native job that the workers know.
    Native {
        /// Its name.
        name: String,
        /// What its functions are made from.
        arguments: Vec<String>,
    },
    /// Programs that read and write lines.
    Streaming(Box<Streaming>),
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    /// For people.
    pub name: String,
    /// What it does.
    pub program: Program,
    /// Files, directories and patterns in the file system, by absolute path.
    pub inputs: Vec<String>,
    /// The directory to be made for the output; must not exist.
    pub output: String,
    /// Parts of the output. 0: the maps write it, one part each, and nothing is sorted.
    pub reduces: u32,
    /// How the input is cut into records.
    pub records: Rule,
    /// How records get to the reduces; none: as the program says.
    pub shuffle: Option<Shuffle>,
    /// Input of one map task, about; 16 to 64 MiB is usual.
    pub split_bytes: u64,
    /// Small files may share a map task.
    pub together: bool,
    /// Whether names that begin with `.` or `_` are input too.
    pub hidden: bool,
    /// Whether directories within the input are read.
    pub nested: bool,
    /// Whether the parts are compressed (`part-00000.gz`).
    pub gzip: bool,
    /// How often one task may fail.
    pub attempts: u32,
    /// Records of one split that are left out after two attempts failed on each of them; 0: a bad record fails the job.
    pub skip: u32,
    /// Reduces begin to fetch when so many percent of the maps are done, and none of them waits for a worker; above 100: when
    /// all are done.
    pub early_percent: u32,
    /// Whether slow attempts get a second one.
    pub backups: bool,
    /// Its share of the slots, compared to other jobs that run at the same time.
    pub weight: u32,
    /// A worker that was not heard of for so long is given up.
    pub silence: Duration,
    /// Memory of one map for its records before they are spilled, if the worker has as much; 0: the worker's.
    pub sort_bytes: u64,
    /// Whether map output is compressed.
    pub compress: bool,
    /// Properties, as streaming programs find them in their environment.
    pub properties: BTreeMap<String, String>,
}

impl Default for JobSpec {
    fn default() -> Self {
        Self {
            name: String::new(),
            program: Program::Native { name: "wordcount".to_owned(), arguments: Vec::new() },
            inputs: Vec::new(),
            output: String::new(),
            reduces: 2,
            records: Rule::Lines,
            shuffle: None,
            split_bytes: 32 << 20,
            together: true,
            hidden: false,
            nested: true,
            gzip: false,
            attempts: 4,
            skip: 0,
            early_percent: 5,
            backups: true,
            weight: 4,
            silence: Duration::from_secs(10),
            sort_bytes: 0,
            compress: true,
            properties: BTreeMap::new(),
        }
    }
}

/// The weight of a priority, by Hadoop's names.
#[must_use]
pub fn weight(priority: &str) -> Option<u32> {
    Some(match priority.to_ascii_uppercase().as_str() {
        "VERY_HIGH" => 16,
        "HIGH" => 8,
        "NORMAL" => 4,
        "LOW" => 2,
        "VERY_LOW" => 1,
        _ => return None,
    })
}

impl JobSpec {
    /// What makes no sense, before anything is begun.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let bad = |text: &str| Err(Error::Spec(text.to_owned()));
        if self.inputs.is_empty() {
            return bad("a job needs an input");
        }
        if self.inputs.iter().any(|input| !input.starts_with('/')) {
            return bad("an input must be an absolute path in the file system");
        }
        if !self.output.starts_with('/') || self.output.trim_end_matches('/').is_empty() {
            return bad("the output must be an absolute path in the file system, below its root");
        }
        if self.reduces > REDUCES_MAX {
            return Err(Error::Spec(format!(
                "a job has at most {REDUCES_MAX} reduces, not {}",
                self.reduces
            )));
        }
        match &self.records {
            Rule::Fixed(0) => bad("records of 0 bytes have no end"),
            Rule::Delimited(mark) if mark.is_empty() => bad("the record delimiter is empty"),
            _ => Ok(()),
        }
    }

    /// As it is sent and kept.
    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| {
            Error::Spec(format!("the description of a job cannot be read: {error}"))
        })
    }
}
