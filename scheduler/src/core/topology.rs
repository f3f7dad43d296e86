//! The domains that nodes lie in: for each topology key that anyone asks for, a small number per node. Counting per domain
//! is then indexing, not hashing. Invariant: `ids[slot]` is `NONE` exactly when the node lacks the label or does not exist.

use std::collections::HashMap;
use std::sync::Arc;

use super::node::NodeInfo;

/// The node is in no domain of the key.
pub const NONE: u32 = u32::MAX;

/// One topology key.
#[derive(Clone, Debug, Default)]
pub struct Topology {
    /// The domain of each node slot. Shared with contexts, copied when nodes change under them.
    pub ids: Arc<Vec<u32>>,
    values: HashMap<String, u32>,
}

impl Topology {
    /// How many domains were ever seen; ids are below it.
    pub fn domains(&self) -> usize {
        self.values.len()
    }

    fn set(&mut self, slot: usize, value: Option<&String>) {
        let id = match value {
            None => NONE,
            Some(value) => match self.values.get(value) {
                Some(id) => *id,
                None => {
                    let id = u32::try_from(self.values.len()).expect("fewer domains than 2^32");
                    self.values.insert(value.clone(), id);
                    id
                }
            },
        };
        let ids = Arc::make_mut(&mut self.ids);
        if ids.len() <= slot {
            ids.resize(slot + 1, NONE);
        }
        ids[slot] = id;
    }

    /// Sums counts per node into counts per domain.
    pub fn sum(&self, per_node: &[u32]) -> Vec<i64> {
        let mut sums = vec![0; self.domains()];
        for (id, count) in self.ids.iter().zip(per_node) {
            if *id != NONE {
                sums[*id as usize] += i64::from(*count);
            }
        }
        sums
    }
}

/// All topology keys in use.
#[derive(Clone, Debug, Default)]
pub struct Topologies {
    keys: HashMap<String, Topology>,
}

impl Topologies {
    /// The topology of a key, computed at its first use.
    pub fn of(&mut self, key: &str, nodes: &[NodeInfo]) -> &Topology {
        if !self.keys.contains_key(key) {
            let mut topology = Topology::default();
            for (slot, node) in nodes.iter().enumerate() {
                topology.set(
                    slot,
                    node.spec.as_ref().and_then(|spec| spec.labels.get(key)),
                );
            }
            self.keys.insert(key.to_owned(), topology);
        }
        &self.keys[key]
    }

    /// A node appeared, changed its labels or went away.
    pub fn update(&mut self, slot: usize, node: &NodeInfo) {
        for (key, topology) in &mut self.keys {
            topology.set(
                slot,
                node.spec.as_ref().and_then(|spec| spec.labels.get(key)),
            );
        }
    }
}
