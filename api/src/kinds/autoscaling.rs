//! The kinds of autoscaling.

pub mod scale;
