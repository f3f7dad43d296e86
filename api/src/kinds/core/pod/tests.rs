//! Tests of pods as a whole.
