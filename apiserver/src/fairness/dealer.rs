//! Shuffle sharding: which few of many queues a flow may use.
//!
//! Two flows seldom get the same hand, so one that fills all of its queues leaves the other at least one free. Invariant:
//! a hand has no queue twice, and the same hash is always dealt the same hand.

use sha2::{Digest, Sha256};

/// The hash of a flow: of its schema, and of what tells it from the schema's other flows.
pub fn flow_hash(schema: &str, distinguisher: &str) -> u64 {
    let mut hash = Sha256::new();
    hash.update(schema);
    hash.update([0_u8]);
    hash.update(distinguisher);
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(hash.finalize()) {
        *to = from;
    }
    u64::from_le_bytes(first)
}

/// Deals `hand` of `deck` queues, with the hash for all chance.
///
/// The hash is read as a number with one digit for each card, the first to the base of the deck, the next to one less: each
/// digit says which of the cards that are left is the next.
pub fn deal(hash: u64, deck: u32, hand: u32) -> Vec<u32> {
    let mut rest = hash;
    let mut cards: Vec<u32> = Vec::new();
    let mut taken: Vec<u32> = Vec::new();
    for left in (1..=deck).rev().take(hand as usize) {
        let base = u64::from(left);
        let mut card = u32::try_from(rest % base).unwrap_or_default();
        rest /= base;
        let mut place = taken.len();
        for (i, other) in taken.iter().enumerate() {
            if card < *other {
                place = i;
                break;
            }
            card += 1;
        }
        taken.insert(place, card);
        cards.push(card);
    }
    cards
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn hands_are_dealt_as_upstream_deals_them() {
        // Eight cards of 128 by a hash that is 0, 1, 2, ... in the digits.
        assert_eq!(deal(0, 128, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(deal(127, 128, 3), [127, 0, 1]);
        assert_eq!(deal(128 + 5, 128, 3), [5, 1, 0]);
        assert_eq!(deal(5 * 128 + 5, 128, 2), [5, 6]);
        assert_eq!(deal(9, 1, 1), [0]);
        assert_eq!(deal(u64::MAX, 4, 4).len(), 4);
    }

    #[test]
    fn every_order_of_a_small_deck_comes_up_equally_often() {
        let mut seen: BTreeMap<Vec<u32>, u32> = BTreeMap::new();
        for hash in 0..60 * 7 {
            let hand = deal(hash, 5, 3);
            let mut sorted = hand.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), 3, "{hand:?}");
            *seen.entry(hand).or_default() += 1;
        }
        assert_eq!(seen.len(), 60);
        assert!(seen.values().all(|times| *times == 7));
    }

    #[test]
    fn flows_differ_by_schema_and_by_distinguisher() {
        assert_ne!(flow_hash("a", "b"), flow_hash("a", "c"));
        assert_ne!(flow_hash("a", "b"), flow_hash("ab", ""));
        assert_eq!(flow_hash("a", "b"), flow_hash("a", "b"));
        // SHA-256 of one zero byte begins with 6e 34 0b 9c ff b3 7a 98.
        assert_eq!(flow_hash("", ""), 0x987a_b3ff_9c0b_346e);
    }
}
