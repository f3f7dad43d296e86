//! Pods on real containers, without an API: what a kubelet's user sees of restarts, limits, probes, stopping and adoption.

mod harness;

mod adoption;
mod running;
mod stopping;
mod streams;
