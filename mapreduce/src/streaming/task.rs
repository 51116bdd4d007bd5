//! What a program finds in its environment about its task, under Hadoop's names, and where it runs. What the program
//! is, is not known here.

use std::{collections::BTreeMap, path::PathBuf};

use crate::{
    error::Error,
    scheduler,
    streaming::{CommandLine, Streaming},
    task::{Bench, MapWork, ReduceWork},
};

/// The identity of an attempt, for its programs.
pub(crate) struct Task {
    /// `m-00003-0`: also names its directory and log.
    pub(crate) label: String,
    environment: BTreeMap<String, String>,
}

impl Task {
    pub(crate) fn map(bench: &Bench, work: &MapWork) -> Self {
        let mut task =
            Self::new(bench, (scheduler::Task::Map(work.map), work.attempt), &work.temporary);
        if let Some(piece) = work.pieces.first() {
            let (start, length) = (piece.offset.to_string(), piece.length.to_string());
            task.set("mapreduce.map.input.file", &piece.path);
            task.set("mapreduce.map.input.start", &start);
            task.set("mapreduce.map.input.length", &length);
            task.set("map.input.file", &piece.path);
            task.set("map.input.start", &start);
            task.set("map.input.length", &length);
        }
        task
    }

    pub(crate) fn reduce(bench: &Bench, work: &ReduceWork) -> Self {
        Self::new(bench, (scheduler::Task::Reduce(work.reduce), work.attempt), &work.temporary)
    }

    fn new(bench: &Bench, (task, attempt): (scheduler::Task, u32), temporary: &str) -> Self {
        let (kind, number) = match task {
            scheduler::Task::Map(number) => ('m', number),
            scheduler::Task::Reduce(number) => ('r', number),
        };
        let mut task = Self { label: task.label(attempt), environment: BTreeMap::new() };
        for (name, value) in &bench.spec.properties {
            task.set(name, value);
        }
        let job = format!("{:016x}", bench.number);
        let job_id = format!("job_{job}_0001");
        let task_id = format!("task_{job}_0001_{kind}_{number:06}");
        let attempt_id = format!("attempt_{job}_0001_{kind}_{number:06}_{attempt}");
        let side = format!("{temporary}.side");
        let reduces = bench.spec.reduces.to_string();
        let is_map = if kind == 'm' { "true" } else { "false" };
        for (name, value) in [
            ("mapreduce.job.id", job_id.as_str()),
            ("mapreduce.job.name", &bench.spec.name),
            ("mapreduce.task.id", &task_id),
            ("mapreduce.task.attempt.id", &attempt_id),
            ("mapreduce.task.partition", &number.to_string()),
            ("mapreduce.task.ismap", is_map),
            ("mapreduce.job.reduces", &reduces),
            ("mapreduce.output.fileoutputformat.outputdir", &bench.spec.output),
            ("mapreduce.task.output.dir", &side),
            ("mapred.job.id", &job_id),
            ("mapred.tip.id", &task_id),
            ("mapred.task.id", &attempt_id),
            ("mapred.task.partition", &number.to_string()),
            ("mapred.task.is.map", is_map),
            ("mapred.reduce.tasks", &reduces),
            ("mapred.output.dir", &bench.spec.output),
        ] {
            task.set(name, value);
        }
        task
    }

    /// A property, with everything that is no letter or digit turned into an underscore.
    fn set(&mut self, name: &str, value: &str) {
        self.environment.insert(variable(name), value.to_owned());
    }

    /// How to run a program of this task in `directory`.
    pub(crate) fn command(
        &self,
        words: &CommandLine,
        program: &Streaming,
        directory: PathBuf,
    ) -> Result<world::Command, Error> {
        let (name, arguments) =
            words.split_first().ok_or_else(|| Error::Spec("an empty command".to_owned()))?;
        let mut environment = self.environment.clone();
        environment.extend(program.environment.clone());
        // Shipped programs are found without their directory.
        let path = environment.get("PATH").cloned();
        let path = path.or_else(|| std::env::var("PATH").ok()).unwrap_or_default();
        environment.insert("PATH".to_owned(), format!("{}:{path}", directory.display()));
        Ok(world::Command {
            program: name.clone(),
            arguments: arguments.to_vec(),
            environment,
            directory,
            memory: program.memory,
        })
    }
}

/// The environment variable of a property.
pub(crate) fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn dots_become_underscores() {
        assert_eq!(super::variable("mapreduce.job.id"), "mapreduce_job_id");
        assert_eq!(super::variable("a-b.c1"), "a_b_c1");
    }
}
