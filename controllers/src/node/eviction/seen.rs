//! Since when taints and pods are known to this process. Invariant: an entry lives as long as what it is about.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;
use parking_lot::Mutex;
use tokio::time::Instant;

#[derive(Debug, Default)]
struct Known {
    /// By node, then by key and value of the taint.
    taints: HashMap<String, BTreeMap<String, Instant>>,
    pods: HashMap<String, Instant>,
}

/// What was seen, and when first.
#[derive(Debug, Default)]
pub struct Seen(Mutex<Known>);

fn name(taint: &Taint) -> String {
    format!(
        "{}={}",
        taint.key,
        taint.value.as_deref().unwrap_or_default()
    )
}

impl Seen {
    /// A node has these taints now.
    pub(super) fn node<'a>(&self, node: &str, taints: impl Iterator<Item = &'a Taint>) {
        let now = Instant::now();
        let mut known = self.0.lock();
        let before = known.taints.remove(node).unwrap_or_default();
        let after: BTreeMap<String, Instant> = taints
            .map(|taint| {
                let name = name(taint);
                let since = before.get(&name).copied().unwrap_or(now);
                (name, since)
            })
            .collect();
        if !after.is_empty() {
            known.taints.insert(node.to_owned(), after);
        }
    }

    /// A pod is on a node.
    pub(super) fn pod(&self, uid: &str) {
        self.0
            .lock()
            .pods
            .entry(uid.to_owned())
            .or_insert_with(Instant::now);
    }

    /// A pod is gone.
    pub(super) fn forget_pod(&self, uid: &str) {
        self.0.lock().pods.remove(uid);
    }

    /// How long a taint is known; nothing for one that is not.
    pub(super) fn taint_age(&self, node: &str, taint: &Taint) -> Duration {
        let known = self.0.lock();
        known
            .taints
            .get(node)
            .and_then(|taints| taints.get(&name(taint)))
            .map_or(Duration::ZERO, Instant::elapsed)
    }

    /// How long a pod is known; nothing for one that is not.
    pub(super) fn pod_age(&self, uid: &str) -> Duration {
        self.0
            .lock()
            .pods
            .get(uid)
            .map_or(Duration::ZERO, Instant::elapsed)
    }
}
