//! Which watchers cover a key: a map for single keys, an interval tree over the distinct ranges.
//! Not the watchers themselves.
//! Invariant: `find` names exactly the watchers whose span contains the key.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use bytes::Bytes;

use super::WatcherId;
use crate::span::Span;

/// End of a range as an order: an open end is greater than any key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Before(Bytes),
    Open,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            Self::Before(end) => end.as_ref() > key,
            Self::Open => true,
        }
    }
}

type Range = (Bytes, End);

#[derive(Debug, Default)]
pub(super) struct Index {
    keys: HashMap<Bytes, BTreeSet<WatcherId>>,
    /// Few ranges are distinct, however many watchers there are: one per kind and namespace, as a rule.
    ranges: BTreeMap<Range, BTreeSet<WatcherId>>,
    /// The distinct ranges as a balanced tree laid out in an array; rebuilt when their set has changed.
    tree: Vec<Node>,
    stale: bool,
}

#[derive(Debug)]
struct Node {
    range: Range,
    /// The farthest end below this node, itself included.
    reach: End,
}

impl Index {
    pub(super) fn insert(&mut self, span: &Span, id: WatcherId) {
        match span {
            Span::Key(key) => {
                self.keys.entry(key.clone()).or_default().insert(id);
            }
            Span::Range { start, end } => {
                let watchers = self.ranges.entry(range(start, end.as_ref())).or_default();
                self.stale |= watchers.is_empty();
                watchers.insert(id);
            }
        }
    }

    pub(super) fn remove(&mut self, span: &Span, id: WatcherId) {
        match span {
            Span::Key(key) => {
                if let Some(watchers) = self.keys.get_mut(key) {
                    watchers.remove(&id);
                    if watchers.is_empty() {
                        self.keys.remove(key);
                    }
                }
            }
            Span::Range { start, end } => {
                let range = range(start, end.as_ref());
                if let Some(watchers) = self.ranges.get_mut(&range) {
                    watchers.remove(&id);
                    if watchers.is_empty() {
                        self.ranges.remove(&range);
                        self.stale = true;
                    }
                }
            }
        }
    }

    /// Calls `each` for every watcher that covers the key.
    pub(super) fn find(&mut self, key: &[u8], each: &mut dyn FnMut(WatcherId)) {
        if let Some(watchers) = self.keys.get(key) {
            watchers.iter().copied().for_each(&mut *each);
        }
        if self.stale {
            self.rebuild();
        }
        let mut visit = |range: &Range| {
            if let Some(watchers) = self.ranges.get(range) {
                watchers.iter().copied().for_each(&mut *each);
            }
        };
        search(&self.tree, key, &mut visit);
    }

    fn rebuild(&mut self) {
        self.tree = self
            .ranges
            .keys()
            .map(|range| Node {
                range: range.clone(),
                reach: range.1.clone(),
            })
            .collect();
        set_reach(&mut self.tree);
        self.stale = false;
    }
}

fn range(start: &Bytes, end: Option<&Bytes>) -> Range {
    (
        start.clone(),
        end.map_or(End::Open, |end| End::Before(end.clone())),
    )
}

/// The middle of a slice is the root of its tree; depth is logarithmic, so recursion is shallow.
fn set_reach(nodes: &mut [Node]) -> Option<End> {
    let middle = nodes.len() / 2;
    let (left, rest) = nodes.split_at_mut(middle);
    let (node, right) = rest.split_first_mut()?;
    let below = set_reach(left).into_iter().chain(set_reach(right)).max();
    if let Some(below) = below.filter(|below| *below > node.reach) {
        node.reach = below;
    }
    Some(node.reach.clone())
}

fn search(nodes: &[Node], key: &[u8], visit: &mut dyn FnMut(&Range)) {
    let middle = nodes.len() / 2;
    let Some(node) = nodes.get(middle).filter(|node| node.reach.is_after(key)) else {
        return;
    };
    search(&nodes[..middle], key, visit);
    // Ranges are ordered by start: if this one starts after the key, so does everything right of it.
    if node.range.0.as_ref() <= key {
        if node.range.1.is_after(key) {
            visit(&node.range);
        }
        search(&nodes[middle + 1..], key, visit);
    }
}
