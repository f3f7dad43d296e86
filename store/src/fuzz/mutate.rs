//! Changes of valid bytes.
//!
//! Invariant: the same random numbers give the same bytes.

use rand::Rng;
use rand::rngs::StdRng;

/// Inputs do not grow beyond this.
const BYTES_MAX: usize = 64 << 10;
/// Lengths that decoders get wrong.
const EXTREMES: [u64; 10] = [
    0,
    1,
    0x7f,
    0x80,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Words that readers of text get wrong.
const WORDS: [&str; 14] = [
    "-9223372036854775808",
    "9223372036854775807",
    "18446744073709551615",
    "1e999",
    "\n",
    "{",
    "}",
    "[",
    "\"",
    "\\u0000",
    "&",
    "<",
    ">",
    "\u{fffd}",
];

/// A changed copy of one of `corpus`.
pub(super) fn mutate(rng: &mut StdRng, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = corpus[rng.random_range(0..corpus.len())].clone();
    for _ in 0..rng.random_range(1..6) {
        change(rng, &mut bytes, corpus);
        bytes.truncate(BYTES_MAX);
    }
    bytes
}

fn change(rng: &mut StdRng, bytes: &mut Vec<u8>, corpus: &[Vec<u8>]) {
    let len = bytes.len();
    let at = if len == 0 {
        0
    } else {
        rng.random_range(0..len)
    };
    let to = rng.random_range(at..=len.min(at + 64).max(at));
    match rng.random_range(0..11) {
        0 if len > 0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 if len > 0 => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 => {
            bytes.drain(at..to);
        }
        4 => {
            let piece = bytes[at..to].to_vec();
            bytes.splice(at..at, piece);
        }
        5 => {
            let other = &corpus[rng.random_range(0..corpus.len())];
            let from = rng.random_range(0..=other.len());
            bytes.truncate(at);
            bytes.extend_from_slice(&other[from..]);
        }
        6 => number(rng, bytes, at),
        7 => varint(rng, bytes, at),
        8 => {
            let noise: Vec<u8> = (0..rng.random_range(1..40)).map(|_| rng.random()).collect();
            bytes.splice(at..at, noise);
        }
        9 => {
            let word = WORDS[rng.random_range(0..WORDS.len())];
            bytes.splice(at..at, word.bytes());
        }
        _ => {
            let fill = rng.random();
            bytes[at..to].fill(fill);
        }
    }
}

/// An extreme number in place of what was there, in either order of bytes.
fn number(rng: &mut StdRng, bytes: &mut [u8], at: usize) {
    let value = EXTREMES[rng.random_range(0..EXTREMES.len())];
    let width = [2, 4, 8][rng.random_range(0..3)];
    let ordered = if rng.random() {
        value.to_le_bytes()[..width].to_vec()
    } else {
        value.to_be_bytes()[8 - width..].to_vec()
    };
    if let Some(place) = bytes.get_mut(at..at + width) {
        place.copy_from_slice(&ordered);
    }
}

/// A large varint in place of a byte: what protobuf and HPACK have for lengths.
fn varint(rng: &mut StdRng, bytes: &mut Vec<u8>, at: usize) {
    if at >= bytes.len() {
        return;
    }
    let mut value = EXTREMES[rng.random_range(0..EXTREMES.len())];
    let mut encoded = Vec::new();
    while value >= 0x80 {
        encoded.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    encoded.push(value.to_le_bytes()[0]);
    bytes.splice(at..=at, encoded);
}
