//! Hadoop Streaming: programs that read and write lines as mappers, combiners and reducers. What is not told here is
//! as in Hadoop: a line is key, tab, value; a line without tab is a key alone.

pub(crate) mod combine;
pub(crate) mod lines;
pub(crate) mod map;
pub(crate) mod options;
mod pass;
pub(crate) mod process;
pub(crate) mod reduce;
pub(crate) mod ship;
pub(crate) mod task;
mod words;

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use lines::Format;

/// A program and its arguments.
pub(crate) type CommandLine = Vec<String>;

/// A file that is put into the working directory of every task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shipped {
    /// Where it lies in the file system while the job runs.
    pub path: String,
    /// What it is called in the working directory.
    pub name: String,
    /// To be unpacked into a directory of that name.
    pub archive: bool,
}

/// The programs of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Streaming {
    /// None: every line as it is.
    pub(crate) mapper: Option<CommandLine>,
    pub(crate) combiner: Option<CommandLine>,
    /// None: every line as it is.
    pub(crate) reducer: Option<CommandLine>,
    /// What the user wants in the environment, besides the properties.
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) files: Vec<Shipped>,
    /// What the mapper writes.
    pub(crate) map_output: Format,
    /// What the reducer writes.
    pub(crate) reduce_output: Format,
    /// Between key and value of what the mapper reads.
    pub(crate) map_input: String,
    /// Between key and value of what the reducer reads.
    pub(crate) reduce_input: String,
    /// Between key and value of the output.
    pub(crate) output: String,
    /// Where the key of an input record ends, if it is to be read as key and value.
    pub(crate) key_value: Option<String>,
    /// The mapper reads the offset of each line before it.
    pub(crate) with_offset: bool,
    /// Whether a program that ends with another code than 0 has failed.
    pub(crate) exit_counts: bool,
    /// A program that neither reads, writes nor reports for so long is killed; 0: never.
    pub(crate) timeout: Duration,
    /// Bytes of address space of each process.
    pub(crate) memory: Option<u64>,
}

impl Default for Streaming {
    fn default() -> Self {
        let tab = || "\t".to_owned();
        Self {
            mapper: None,
            combiner: None,
            reducer: None,
            environment: BTreeMap::new(),
            files: Vec::new(),
            map_output: Format::default(),
            reduce_output: Format::default(),
            map_input: tab(),
            reduce_input: tab(),
            output: tab(),
            key_value: None,
            with_offset: false,
            exit_counts: true,
            timeout: Duration::from_secs(600),
            memory: None,
        }
    }
}
