//! What maps, combiners and reduces have in common: records go to a program as lines, or past it if there is none,
//! and what it writes is cut into records again. Which kind of task it is is not known here.

use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    CommandLine, Streaming,
    lines::{Format, Said, pack},
    process::Run,
    ship::Workplace,
    task::Task,
};
use crate::{error::Error, task::Bench};

/// Bytes of lines that are given to a program at once.
pub(crate) const CHUNK: usize = 64 << 10;

/// Takes a record: key and packed value.
pub(crate) type Emit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), Error> + Send + 'a;

/// Runs the program `words` of a task on everything that comes `from` the split or the merge; without a program each
/// line is passed on.
pub(crate) async fn through(
    bench: &Bench,
    (program, words): (&Streaming, Option<&CommandLine>),
    (task, place): (&Task, &Workplace),
    mut from: mpsc::Receiver<Result<Bytes, Error>>,
    to: mpsc::Sender<Bytes>,
) -> Result<(), Error> {
    if let Some(words) = words {
        let run = Run {
            world: &bench.world,
            gauge: &bench.gauge,
            command: task.command(words, program, place.dir())?,
            timeout: program.timeout,
            exit_counts: program.exit_counts,
            log: place.log().await,
        };
        return run.all(from, to).await;
    }
    while let Some(bytes) = from.recv().await {
        if to.send(bytes?).await.is_err() {
            break;
        }
    }
    Ok(())
}

/// Cuts what a program writes into records.
pub(crate) struct Heard<'a> {
    said: Said,
    format: &'a Format,
    packed: Vec<u8>,
}

impl<'a> Heard<'a> {
    pub(crate) fn new(format: &'a Format) -> Self {
        Self { said: Said::new(), format, packed: Vec::new() }
    }

    /// Takes its next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8], emit: &mut Emit<'_>) -> Result<(), Error> {
        let Self { said, format, packed } = self;
        said.feed(bytes, &mut |text| record(format, packed, text, emit))
    }

    /// It has written everything.
    pub(crate) fn finish(self, emit: &mut Emit<'_>) -> Result<(), Error> {
        let Self { said, format, mut packed } = self;
        said.finish(&mut |text| record(format, &mut packed, text, emit))
    }

    /// Takes all that comes through `hear`. Blocks: to be called on a thread for blocking work.
    pub(crate) fn all(
        mut self,
        mut hear: mpsc::Receiver<Bytes>,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        while let Some(bytes) = hear.blocking_recv() {
            self.feed(&bytes, emit)?;
        }
        self.finish(emit)
    }
}

fn record(
    format: &Format,
    packed: &mut Vec<u8>,
    text: &[u8],
    emit: &mut Emit<'_>,
) -> Result<(), Error> {
    let (key, value) = format.split(text);
    pack(value, packed);
    emit(key, packed)
}
