//! A program as combiner: run once for each partition of each spill, on its sorted lines. Where the
//! lines come from is not known here.

use std::sync::Arc;

use tokio::{runtime::Handle, sync::mpsc};
use world::{Command, World};

use super::{
    Streaming,
    lines::line,
    pass::{CHUNK, Emit, Heard},
    process::{self, Run},
};
use crate::{error::Error, shuffle::groups::Sorted, task::Gauge};

/// How to run it.
pub(crate) struct ProcessCombiner {
    pub(crate) world: World,
    pub(crate) gauge: Arc<Gauge>,
    pub(crate) program: Streaming,
    pub(crate) command: Command,
}

impl ProcessCombiner {
    /// Runs the program on `source`; what it writes goes to `emit`, as key and packed value. Blocks: to be called on a
    /// thread for blocking work.
    pub(crate) fn run(
        &mut self,
        source: &mut dyn Sorted,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        if !source.advance()? {
            return Ok(());
        }
        let (to_program, from_source) = mpsc::channel(process::QUEUE);
        let (said, mut hear) = mpsc::channel::<bytes::Bytes>(process::QUEUE);
        let run = Run {
            world: &self.world,
            gauge: &self.gauge,
            command: self.command.clone(),
            timeout: self.program.timeout,
            exit_counts: self.program.exit_counts,
            log: None,
        };
        let separator = &self.program.reduce_input;
        let feeding = async {
            let mut lines = Vec::new();
            loop {
                for part in line(source.key(), source.value(), separator) {
                    lines.extend_from_slice(part);
                }
                let more = source.advance()?;
                if !more || lines.len() >= CHUNK {
                    let bytes = std::mem::take(&mut lines).into();
                    // A program may stop reading.
                    if to_program.send(Ok(bytes)).await.is_err() || !more {
                        drop(to_program);
                        return Ok::<_, Error>(());
                    }
                }
            }
        };
        let hearing = async {
            let mut heard = Heard::new(&self.program.map_output);
            while let Some(bytes) = hear.recv().await {
                heard.feed(&bytes, emit)?;
            }
            heard.finish(emit)
        };
        let all = async {
            let (fed, ran, heard) = tokio::join!(feeding, run.all(from_source, said), hearing);
            ran.and(fed).and(heard)
        };
        Handle::current().block_on(all)
    }
}
