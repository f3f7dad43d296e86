//! What was refused as "not proposed" never happens.
//!
//! Clients repeat such requests without asking whether they took effect (etcd's client does for Unavailable without a
//! leader). Not about failures whose outcome is said to be unknown.

use std::collections::BTreeSet;

use super::Verdict;
use super::revisions::History;
use crate::replica::ProposeError;
use crate::sim::client::{Ask, Operation, Told};

/// Judges all refusals against the history. Values are never used twice.
pub(in crate::sim) fn judge(operations: &[Operation], history: &History) -> Verdict {
    let certain = [ProposeError::NoLeader, ProposeError::TooManyRequests];
    let certain = certain.map(|error| error.to_string());
    let written: BTreeSet<&str> = history.changes().filter_map(|(.., value)| value).collect();
    for operation in operations {
        let Some((_, Told::Failed(why))) = &operation.told else {
            continue;
        };
        let (Ask::Put { value, .. } | Ask::Swap { value, .. }) = &operation.ask else {
            continue;
        };
        if certain.contains(why) && written.contains(value.as_str()) {
            return Err(format!("{operation:?} took effect"));
        }
    }
    Ok(())
}
