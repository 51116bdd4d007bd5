//! What the simulated processes log, as lines of the schedule: with simulated time, and whose it is.

use std::fmt::{self, Write};
use std::sync::Arc;

use parking_lot::Mutex;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use world::Clock;

use super::notes::Notes;
use crate::executor::MachineId;

/// Takes events of the rooms into the notes. Spans are not kept.
pub(super) struct Told {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) running: Box<dyn Fn() -> Option<MachineId> + Send + Sync>,
    pub(super) notes: Arc<Mutex<Notes>>,
}

impl Subscriber for Told {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let now = self.clock.now().as_duration();
        let machine = (self.running)().map_or_else(String::new, |machine| machine.to_string());
        let (level, target) = (event.metadata().level(), event.metadata().target());
        self.notes.lock().say(now, || format!("[{machine}] {level} {target}:{}", line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}
