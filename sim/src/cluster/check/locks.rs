//! L1: no two clients may use conflicting locks at one time, each by its own clock.

use ::lockservice::{Mode, Span};

/// Its name.
pub(in crate::cluster) const NAME: &str = "L1 no conflicting locks";

/// Two of the locks that clients may use right now and that do not go together.
pub(in crate::cluster) fn conflict(mut held: Vec<(Span, Mode, u64)>) -> Option<String> {
    held.sort_unstable_by_key(|(span, _, client)| (*span, *client));
    for (at, (span, mode, client)) in held.iter().enumerate() {
        let after = held[at + 1..].iter().take_while(|(other, ..)| other.start() < span.end());
        for (other, other_mode, other_client) in after {
            let both_shared = *mode == Mode::Shared && *other_mode == Mode::Shared;
            if client != other_client && !both_shared {
                return Some(format!(
                    "client {client} has {span:?} {mode:?}, client {other_client} {other:?} {other_mode:?}"
                ));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use ::lockservice::{Mode, Name, Span};

    use super::conflict;

    #[test]
    fn a_range_that_another_client_writes_in_is_a_conflict_and_one_that_it_reads_is_none() {
        let span = |from, to| Span::new(Name(from), Name(to)).unwrap();
        let wide = (span(1, 9), Mode::Shared, 1);
        assert_eq!(conflict(vec![wide, (span(4, 5), Mode::Shared, 2)]), None);
        assert_eq!(conflict(vec![wide, (span(9, 12), Mode::Exclusive, 2)]), None);
        assert_eq!(conflict(vec![wide, (span(4, 5), Mode::Exclusive, 1)]), None);
        assert!(conflict(vec![(span(4, 5), Mode::Exclusive, 2), wide]).is_some());
    }
}
