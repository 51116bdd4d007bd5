//! The contract of Hadoop Streaming, one test for each rule, with real programs on local files.
#![expect(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "tests look at the files themselves")]

mod command;
mod failing;
mod harness;
mod input;
mod lab;
mod oracle;
mod output;
mod programs;
mod sorting;
