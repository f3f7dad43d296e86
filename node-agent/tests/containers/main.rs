//! Pods on real containers, without an API: what a kubelet's user sees of restarts, limits, probes, stopping and adoption.

#![allow(
    unreachable_pub,
    reason = "the harness is shared by the modules of this test"
)]

mod harness;

mod adoption;
mod resizing;
mod running;
mod stopping;
mod streams;
