//! What was acknowledged is there: at its revision, with its value, whatever crashed since.
//!
//! etcd's robustness tests call it durability. Not about what was not answered.

use super::Verdict;
use super::revisions::History;
use crate::sim::client::{Ask, Operation, Told};

/// Judges all answered writes against what every member tells in the end.
pub(in crate::sim) fn judge(operations: &[Operation], history: &History) -> Verdict {
    for operation in operations {
        let Some((_, told)) = &operation.told else {
            continue;
        };
        let written = match (&operation.ask, told) {
            (Ask::Put { key, value }, Told::Put { revision })
            | (
                Ask::Swap { key, value, .. },
                Told::Swapped {
                    revision,
                    done: true,
                },
            ) => (*revision, key, Some(value.as_str())),
            (
                Ask::Delete { key },
                Told::Deleted {
                    revision,
                    any: true,
                },
            ) => (*revision, key, None),
            _ => continue,
        };
        let (revision, key, value) = written;
        if history.at(revision) != Some((key, value)) {
            let found = history.at(revision);
            return Err(format!("{operation:?} is lost: there is {found:?}"));
        }
    }
    Ok(())
}
