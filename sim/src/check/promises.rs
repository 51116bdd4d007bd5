//! Durable promises: a vote that was told, and an entry that was acknowledged, are on stable storage when the message
//! leaves (section 5.2, "persistent state").
//!
//! A member that crashes right then must stand by what it said.

use super::{Invariant, Step};

/// What is told is synced.
#[derive(Debug, Default)]
pub struct DurablePromises;

impl Invariant for DurablePromises {
    fn name(&self) -> &'static str {
        "durable promises"
    }

    fn check(&mut self, step: &Step<'_>) -> Result<bool, String> {
        if let Some(broken) = step.seen.promised.iter().find(|p| !p.kept) {
            return Err(format!("{:?} promised {} that its disk lacks", step.id(), broken.what));
        }
        Ok(!step.seen.promised.is_empty())
    }
}
