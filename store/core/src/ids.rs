//! Newtypes for the numbers of the store that must not be mixed up.
//! Not here: member ids and raft terms as such; the core meets the log only as `Position`.
//! Invariant: a `Revision` is never negative.

use std::fmt;

/// A revision of the whole store: one per command that changed something. An empty store is at 1, as in etcd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(i64);

impl Revision {
    /// Nothing compacted, nothing seen.
    pub const ZERO: Self = Self(0);
    /// Where an empty store stands.
    pub const FIRST: Self = Self(1);

    /// Takes a revision from the wire; anything below zero means zero.
    pub const fn new(raw: i64) -> Self {
        Self(if raw < 0 { 0 } else { raw })
    }

    /// The number as the wire has it.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The revision after this one.
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    pub(crate) const fn bits(self) -> u64 {
        self.0.cast_unsigned()
    }

    pub(crate) const fn from_bits(bits: u64) -> Self {
        Self::new(bits.cast_signed())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.0)
    }
}

/// A lease. Zero is no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The mark of keys that no lease holds.
    pub const NONE: Self = Self(0);

    /// Whether this names a lease at all.
    pub const fn is_some(self) -> bool {
        self.0 != 0
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease-{:x}", self.0)
    }
}

/// A place in the log, as much of it as the state has to remember.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Term of the leader that wrote the entry.
    pub term: u64,
    /// Index of the entry; the first entry may be 0 (openraft counts from 0).
    pub index: u64,
}
