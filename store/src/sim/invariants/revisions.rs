//! A revision stands for one change for ever: whoever tells of it tells the same.
//!
//! etcd's robustness record has the opposite twice (issues 13766 and 14370: revisions used again after a crash). Not about
//! order or completeness; those are `linearizable` and `watches`.

use std::collections::BTreeMap;

use crate::sim::client::Change;

/// What every revision did, as far as anybody was told.
#[derive(Default)]
pub(in crate::sim) struct History(BTreeMap<i64, (String, Option<String>)>);

impl History {
    /// Somebody was told of a change.
    pub(in crate::sim) fn learn(&mut self, change: &Change, from: &str) -> Result<(), String> {
        let told = (change.key.clone(), change.value.clone());
        let known = self
            .0
            .entry(change.revision)
            .or_insert_with(|| told.clone());
        if *known == told {
            return Ok(());
        }
        let revision = change.revision;
        Err(format!(
            "revision {revision} was {known:?}, and is {told:?} to {from}"
        ))
    }

    /// Newest revision known.
    pub(in crate::sim) fn last(&self) -> i64 {
        self.0.last_key_value().map_or(1, |(revision, _)| *revision)
    }

    /// What a revision did.
    pub(in crate::sim) fn at(&self, revision: i64) -> Option<(&str, Option<&str>)> {
        let (key, value) = self.0.get(&revision)?;
        Some((key, value.as_deref()))
    }

    /// The revision that last wrote or deleted `key` at `revision`, and what it wrote.
    pub(in crate::sim) fn newest(&self, key: &str, revision: i64) -> Option<(i64, Option<&str>)> {
        let mut before = self.0.range(..=revision).rev();
        let (at, (_, value)) = before.find(|(_, (changed, _))| changed == key)?;
        Some((*at, value.as_deref()))
    }

    /// All changes in order.
    pub(in crate::sim) fn changes(&self) -> impl Iterator<Item = (i64, &str, Option<&str>)> {
        self.0
            .iter()
            .map(|(at, (key, value))| (*at, key.as_str(), value.as_deref()))
    }
}
