//! The lock table by itself with very many ranges: what they take in memory, and for how long a
//! checkpoint of them keeps grants waiting.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use lockservice::{
    Mode, Name, SessionId, Span, Table,
    message::{Acquire, Ask, Client, Command, Kind, Reply, Seq, Ticket},
};
use replica::StateMachine as _;

use crate::gauge::resident;

/// What was measured.
pub(super) struct Many {
    /// Resident memory of the ranges.
    pub(super) bytes: u64,
    /// How long the table stands still while it is frozen.
    pub(super) frozen: Duration,
    /// The longest that a grant took while what was frozen was written.
    pub(super) longest: Duration,
    /// How long that took.
    pub(super) written: Duration,
}

/// Asks of one batch.
const BATCH: u64 = 1000;

fn open(table: &mut Table, nonce: u64) -> Result<SessionId> {
    let (owner, host) = (nonce.to_string(), "bench".to_owned());
    let client = Client { owner, host, kind: Kind::Tool, able: false, nonce };
    match table.handle(Command::Open { client, replace: false }) {
        Reply::Opened(session) => Ok(session),
        other => bail!("a session is not opened: {other:?}"),
    }
}

/// A range that touches no other.
fn acquire(number: u64) -> Ask {
    let need = Span::one(Name(number * 2));
    let ticket = Ticket(number);
    Ask::Acquire(Acquire { ticket, need, wish: need, mode: Mode::Exclusive, wait: false })
}

/// Measures so many ranges.
pub(super) fn measure(ranges: u64) -> Result<Many> {
    let mut table = Table::new();
    let mut sessions = Vec::new();
    for nonce in 0..=ranges / (Table::MOST_SPANS - BATCH) {
        sessions.push(open(&mut table, nonce + 1)?);
    }
    let before = resident()?;
    for batch in 0..ranges / BATCH {
        let session = sessions[usize::try_from(batch * BATCH / (Table::MOST_SPANS - BATCH))?];
        let asks = (0..BATCH).map(|number| acquire(batch * BATCH + number)).collect();
        table.handle(Command::Batch { session, seq: Seq(batch + 1), asks });
    }
    let bytes = resident()?.saturating_sub(before);
    let began = Instant::now();
    let image = table.checkpoint();
    let frozen = began.elapsed();
    let other = open(&mut table, u64::MAX)?;
    let began = Instant::now();
    let (longest, written) = std::thread::scope(|scope| {
        let writing = scope.spawn(move || image.write(&mut io::sink()).map(|()| began.elapsed()));
        let mut longest = Duration::ZERO;
        let mut number = 0_u64;
        while !writing.is_finished() {
            number += 1;
            // All over the table, so that many of its parts are changed while the image has them.
            let place = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % ranges;
            let need = Span::one(Name(place * 2 + 1));
            let mode = Mode::Exclusive;
            let ask = Acquire { ticket: Ticket(number), need, wish: need, mode, wait: false };
            let (seq, asks) = (Seq(number), vec![Ask::Acquire(ask)]);
            let began = Instant::now();
            table.handle(Command::Batch { session: other, seq, asks });
            longest = longest.max(began.elapsed());
        }
        (longest, writing.join())
    });
    let Ok(written) = written else { bail!("the checkpoint could not be written") };
    Ok(Many { bytes, frozen, longest, written: written? })
}
