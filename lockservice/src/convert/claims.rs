//! Advisory locks as messages, and back.

use super::{Odd, Read, mode_of, mode_to, option_of, some_mode_of};
use crate::{
    advisory::{Claim, ClaimRow, Claimant, Claimed, InTheWay, Patience, Stretch},
    convert::id_of,
    message::Ticket,
    proto,
};

pub(crate) fn claim_to(ticket: Ticket, claim: &Claim, patience: Patience) -> proto::Claim {
    proto::Claim {
        ticket: ticket.0,
        file: claim.file,
        by: claim.by.0,
        process: claim.process,
        first: claim.stretch.first(),
        last: claim.stretch.last(),
        mode: mode_to(claim.mode),
        patience: match patience {
            Patience::Try => proto::Patience::Try,
            Patience::Wait => proto::Patience::Wait,
            Patience::Test => proto::Patience::Test,
        } as i32,
    }
}

fn stretch_of(first: u64, last: u64) -> Read<Stretch> {
    Stretch::new(first, last).ok_or(Odd("bytes that end before they begin"))
}

pub(crate) fn claim_of(claim: proto::Claim) -> Read<(Ticket, Claim, Patience)> {
    let patience = match proto::Patience::try_from(claim.patience) {
        Ok(proto::Patience::Try) => Patience::Try,
        Ok(proto::Patience::Wait) => Patience::Wait,
        Ok(proto::Patience::Test) => Patience::Test,
        Err(_) => return Err(Odd("an unknown patience")),
    };
    let what = Claim {
        file: claim.file,
        by: Claimant(claim.by),
        process: claim.process,
        stretch: stretch_of(claim.first, claim.last)?,
        mode: mode_of(claim.mode)?,
    };
    Ok((Ticket(claim.ticket), what, patience))
}

pub(super) fn claimed_to(ticket: Ticket, claimed: &Claimed) -> proto::Claimed {
    use proto::ClaimAnswer as P;
    let answer = match claimed {
        Claimed::Done => P::ClaimDone,
        Claimed::Busy(_) => P::ClaimBusy,
        Claimed::Deadlock => P::ClaimDeadlock,
        Claimed::Cancelled => P::ClaimCancelled,
        Claimed::Full => P::ClaimFull,
    } as i32;
    let ticket = ticket.0;
    match claimed {
        Claimed::Busy(InTheWay { stretch, mode, process }) => proto::Claimed {
            ticket,
            answer,
            first: stretch.first(),
            last: stretch.last(),
            mode: mode_to(Some(*mode)),
            process: *process,
        },
        _ => proto::Claimed { ticket, answer, ..proto::Claimed::default() },
    }
}

pub(super) fn claimed_of(claimed: &proto::Claimed) -> Read<(Ticket, Claimed)> {
    use proto::ClaimAnswer as P;
    let what = match P::try_from(claimed.answer) {
        Ok(P::ClaimDone) => Claimed::Done,
        Ok(P::ClaimBusy) => Claimed::Busy(InTheWay {
            stretch: stretch_of(claimed.first, claimed.last)?,
            mode: some_mode_of(claimed.mode)?,
            process: claimed.process,
        }),
        Ok(P::ClaimDeadlock) => Claimed::Deadlock,
        Ok(P::ClaimCancelled) => Claimed::Cancelled,
        Ok(P::ClaimFull) => Claimed::Full,
        Ok(P::ClaimUnknown) | Err(_) => return Err(Odd("an unknown answer to a claim")),
    };
    Ok((Ticket(claimed.ticket), what))
}

pub(super) fn claim_row_to(row: &ClaimRow) -> proto::ClaimRow {
    proto::ClaimRow {
        session: row.session.0,
        claim: Some(claim_to(Ticket(0), &row.claim, Patience::Try)),
        waits: row.waits,
    }
}

pub(super) fn claim_row_of(row: proto::ClaimRow) -> Read<ClaimRow> {
    let (_, claim, _) = claim_of(option_of(row.claim)?)?;
    Ok(ClaimRow { session: id_of(row.session)?, claim, waits: row.waits })
}
