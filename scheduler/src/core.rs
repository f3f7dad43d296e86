//! The decision: which node for which pod, and whom to evict for it. Pure: no IO, clock or randomness of its own; the
//! shell (`crate::shell`) feeds it what the watches bring and carries out what it decides. Invariant: what a node has
//! promised (pods placed and assumed) never exceeds what it can allocate.
//!
//! ```text
//! Pod ─▶ PodInfo ─┐                     ┌─ statics: labels, taints (cached per kind of pod)
//!                 ├─▶ place: filter ◀───┼─ fit and ports (node-local sums)
//! Node ─▶ Cluster ┘      │              └─ context: affinity and spread (counts per node, kept as pods come and go)
//!                        ├─▶ score ─▶ node
//!                        └─▶ explain, preempt
//! ```

pub mod cluster;
pub mod context;
pub mod disruption;
pub mod explain;
pub mod groups;
pub mod node;
pub mod place;
pub mod pod;
pub mod preempt;
pub mod resources;
pub mod score;
pub mod selector;
pub mod statics;
pub mod topology;

#[cfg(test)]
mod tests;
