//! Binaries with MapReduce jobs of their own: client and worker in one, as `plumeria` is for the jobs that it comes
//! with. What the jobs do is not known here.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use world::World;

use crate::{
    args::{Everywhere, Native, Role},
    command,
    command::mr::Own,
    failure::{Failure, Outcome},
    output::Output,
};

pub use mapreduce::Programs;

/// A binary of MapReduce jobs.
#[derive(Parser, Debug)]
#[command(disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    everywhere: Everywhere,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run a job of this program on files inside a mount or, with --local, on any files.
    Run(Run),
    /// Run one worker that knows the jobs of this program, for `run --remote`.
    Worker(Role),
}

#[derive(Args, Debug)]
struct Run {
    /// Which job, if the program has several.
    #[arg(long)]
    job: Option<String>,
    /// An argument of the job; may be given several times.
    #[arg(long = "arg", value_name = "A", allow_hyphen_values = true)]
    arguments: Vec<String>,
    /// Workers in this process.
    #[arg(long, value_name = "N", default_value = "2", value_parser = clap::value_parser!(u32).range(1..=1000))]
    workers: u32,
    /// On the workers of the cluster's configuration instead, which must be of this program.
    #[arg(long)]
    remote: bool,
    #[command(flatten)]
    native: Native,
}

/// Makes `main` of a binary whose jobs these are: each with its name and a function that makes it of its arguments.
///
/// ```no_run
/// use plumeria_cli::mapreduce::{Each, Emitter, Error, Job, Mapper, Record, Text, TextLines};
///
/// /// The lines that begin with a word.
/// #[derive(Clone)]
/// struct Begins(String);
///
/// impl Mapper for Begins {
///     type Input = TextLines;
///     type Key = Text;
///     type Value = ();
///
///     fn map(
///         &mut self,
///         record: &Record<'_, TextLines>,
///         out: &mut Emitter<'_, Text, ()>,
///     ) -> Result<(), Error> {
///         if record.data.starts_with(&self.0) { out.emit(record.data, ()) } else { Ok(()) }
///     }
/// }
///
/// fn begins(arguments: &[String]) -> Result<Job, Error> {
///     Ok(Job::of(Begins(arguments.concat()), Each::default()).into())
/// }
///
/// plumeria_cli::main! { "begins" => begins }
/// ```
#[macro_export]
macro_rules! main {
    ($($name:literal => $make:expr),+ $(,)?) => {
        fn main() -> ::std::process::ExitCode {
            let programs = $crate::Programs::default();
            $(let programs = programs.with($name, $make);)+
            $crate::main(programs)
        }
    };
}

/// What [`main!`] calls.
#[must_use]
pub fn main(programs: Programs) -> ExitCode {
    let arguments = Arguments::parse();
    let output = Output::new(arguments.everywhere.json);
    crate::finish(crate::start(|| dispatch(arguments, programs, output)), output)
}

async fn dispatch(arguments: Arguments, programs: Programs, output: Output) -> Outcome {
    let Everywhere { timeout, exposure, .. } = arguments.everywhere;
    let world = World::real();
    match arguments.command {
        Command::Worker(role) => {
            let with = (exposure.is_some(), timeout);
            command::roles::worker(&world, &role, programs, with).await
        }
        Command::Run(Run { job, arguments, workers, remote, native }) => {
            let names: Vec<_> = programs.names().map(str::to_owned).collect();
            let name = match (job, &names[..]) {
                (Some(name), _) => name,
                (None, [only]) => only.clone(),
                (None, names) => {
                    let names = names.join(", ");
                    return Err(Failure::usage(format!("say --job, which is one of: {names}")));
                }
            };
            let crew = (!remote).then_some(workers);
            let own = Own { name, arguments, programs, crew };
            command::mr::run_own(&world, own, &native, (timeout, output)).await
        }
    }
}
