//! There is one order in which all answers make sense, and it respects who began after whom had ended.
//!
//! The revisions are that order, so no search is needed (as in `tests/cluster/linear.rs`): whoever begins after another has
//! ended gets no lower revision, a write a higher one; and a read shows what the history has at its revision. Not about
//! operations without an answer.

use std::time::Duration;

use super::Verdict;
use super::revisions::History;
use crate::sim::client::{Ask, Operation, Told};

/// Judges all operations against the history.
pub(in crate::sim) fn judge(operations: &[Operation], history: &History) -> Verdict {
    let mut answered: Vec<(&Operation, Duration, i64, bool)> = operations
        .iter()
        .filter_map(|operation| {
            let (end, told) = operation.told.as_ref()?;
            let (revision, wrote) = place(told)?;
            Some((operation, *end, revision, wrote))
        })
        .collect();
    let mut ended: Vec<(Duration, i64)> =
        answered.iter().map(|(_, end, at, _)| (*end, *at)).collect();
    ended.sort_unstable();
    answered.sort_by_key(|(operation, ..)| operation.begin);
    let (mut seen, mut newest) = (0, 0);
    for (operation, _, at, wrote) in answered {
        while seen < ended.len() && ended[seen].0 < operation.begin {
            newest = newest.max(ended[seen].1);
            seen += 1;
        }
        if at < newest || wrote && at == newest {
            return Err(format!("{operation:?} after revision {newest} was known"));
        }
        agrees(operation, at, history)?;
    }
    Ok(())
}

/// The revision an answer took place at, and whether it made it.
fn place(told: &Told) -> Option<(i64, bool)> {
    match told {
        Told::Put { revision } => Some((*revision, true)),
        Told::Got { revision, .. } => Some((*revision, false)),
        Told::Swapped { revision, done } => Some((*revision, *done)),
        Told::Deleted { revision, any } => Some((*revision, *any)),
        Told::Compacted | Told::Failed(_) => None,
    }
}

/// Whether an answer is what the history says.
fn agrees(operation: &Operation, at: i64, history: &History) -> Verdict {
    let Some((_, told)) = &operation.told else {
        return Ok(());
    };
    let wrong = |what: &str| Err(format!("{operation:?}: {what}"));
    match (&operation.ask, told) {
        (Ask::Get { key }, Told::Got { found, .. }) => {
            let expected = history
                .newest(key, at)
                .and_then(|(revision, value)| Some((revision, value?.to_owned())));
            if *found != expected {
                return wrong(&format!("the history has {expected:?}"));
            }
        }
        (Ask::Swap { key, seen, .. }, Told::Swapped { done, .. }) => {
            // A deleted key compares as never written.
            let before = history.newest(key, if *done { at - 1 } else { at });
            let before = before.map_or(0, |(revision, value)| value.map_or(0, |_| revision));
            if *done != (before == *seen) {
                return wrong(&format!("the key was written at {before}"));
            }
        }
        (Ask::Delete { key }, Told::Deleted { any, .. }) => {
            let before = history.newest(key, if *any { at - 1 } else { at });
            if *any != before.is_some_and(|(_, value)| value.is_some()) {
                return wrong(&format!("the key was {before:?}"));
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::client::Change;

    fn history() -> History {
        let mut history = History::default();
        for revision in 2..=3 {
            let change = Change {
                revision,
                key: "a".to_owned(),
                value: Some(revision.to_string()),
            };
            history.learn(&change, "test").expect("new");
        }
        history
    }

    fn operation(begin: u64, end: u64, ask: Ask, told: Told) -> Operation {
        Operation {
            client: 0,
            ask,
            begin: Duration::from_millis(begin),
            told: Some((Duration::from_millis(end), told)),
        }
    }

    fn get(begin: u64, revision: i64, found: i64) -> Operation {
        let ask = Ask::Get {
            key: "a".to_owned(),
        };
        let found = Some((found, found.to_string()));
        operation(begin, begin + 5, ask, Told::Got { revision, found })
    }

    fn put(begin: u64, revision: i64) -> Operation {
        let ask = Ask::Put {
            key: "a".to_owned(),
            value: revision.to_string(),
        };
        operation(begin, begin + 5, ask, Told::Put { revision })
    }

    #[test]
    fn a_stale_read_and_a_wrong_one_are_noticed() {
        let good = [put(0, 2), put(10, 3), get(12, 2, 2), get(20, 3, 3)];
        judge(&good, &history()).expect("one order fits");
        let stale = [put(0, 2), put(10, 3), get(20, 2, 2)];
        judge(&stale, &history()).expect_err("3 was known");
        let wrong = [put(0, 2), put(10, 3), get(20, 3, 2)];
        judge(&wrong, &history()).expect_err("3 wrote it");
        let backwards = [put(0, 3), put(10, 2)];
        judge(&backwards, &history()).expect_err("3 was before");
    }
}
